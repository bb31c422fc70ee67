"""Losses between vendors are computed and recorded, and cannot grow unnoticed."""

import math
from collections import Counter
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from click.testing import CliRunner, Result
from msgspec.structs import replace

from gateway.cli import main
from gateway.event import Context, Event, Page, Product, Properties, Traits
from gateway.losses.field_outcomes import LossCounter, field_outcomes, reason_of
from gateway.losses.full_events import full_events
from gateway.losses.reviewed import named
from gateway.losses.vendor_pairs import pairs, sendable_events
from gateway.mapping import Loss, filled_fields
from gateway.plugin.registry import load_plugins, placeholder_output
from gateway.plugin.vendor import Output
from gateway.testing.samples import EVENTS
from gateway.verdict import Declined
from tests.expectations.losses import RECORD, Expected, changes, computed, recorded

EVENT = Event(
    type="track",
    name="Product Viewed",
    user_id="u1",
    properties=Properties(
        list_id="spring", products=(Product(product_id="1", price=3),), extra={"shade": "red"}
    ),
    context=Context(page=Page(url="https://shop.example/1", title="One")),
)


def test_no_pair_loses_more_than_recorded() -> None:
    """A field that gets worse than recorded fails by name; improvements must be recorded."""
    worse, other = changes(recorded(), computed())
    assert not worse, "\n".join([
        "lost between vendors, and it was not:", *worse,
        f"Mend the tables, or agree to it in the same commit: {RECORD}",
    ])  # fmt: skip
    assert not other, "\n".join(["changed, and nothing is worse:", *other, f"Record it: {RECORD}"])


BEFORE: Expected = {"a to b": {"identify": {"user_id": "kept", "timestamp": "coerced"}}}


@pytest.mark.parametrize(
    ("after", "said"),
    [
        ({"user_id": "kept", "timestamp": "lost"}, "timestamp was coerced, is lost"),
        ({"user_id": "coerced", "timestamp": "coerced"}, "user_id was kept, is coerced"),
        ({"timestamp": "coerced"}, "user_id was kept, is not sent"),
        ({"declined": "b is shut"}, "is declined now: b is shut"),
        (None, "can no longer be sent at all"),
    ],
)
def test_worse_outcomes_are_reported_by_field(after: dict[str, Any] | None, said: str) -> None:
    """A lower outcome, a vanished field and a declined event count as worse."""
    now: Expected = {"a to b": {} if after is None else {"identify": after}}
    worse, other = changes(BEFORE, now)
    assert len(worse) == 1
    assert said in worse[0]
    assert worse[0].startswith("a to b, identify")
    assert not other


@pytest.mark.parametrize(
    "after",
    [
        {"user_id": "kept", "timestamp": "kept"},
        {"user_id": "kept", "timestamp": "coerced", "session_id": "lost"},
    ],
)
def test_better_outcomes_must_be_recorded(after: dict[str, Any]) -> None:
    """A better outcome and a new field are changes, but not worse."""
    worse, other = changes(BEFORE, {"a to b": {"identify": after}})
    assert not worse
    assert len(other) == 1


def test_a_field_that_is_no_longer_sent_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that an output no longer sends fails with its pair, event and name."""
    output = load_plugins().outputs["chrts"]
    original = output.losses

    def poorer(self: Output, event: Event) -> list[Loss]:
        coupon = event.properties.coupon
        dropped = [Loss("properties.coupon", "lost", coupon)] if coupon else []
        return [*original(self, event), *dropped]

    monkeypatch.setattr(output, "losses", poorer)
    worse, _ = changes(recorded(), computed())
    assert "segment to chrts, Order Completed: properties.coupon was kept, is lost" in worse


def test_every_pair_is_computed() -> None:
    """Every pair of vendors is computed, with the events that the sender's clients can send."""
    registry = load_plugins()
    found = pairs(registry)
    assert len(found) == len(registry.formats) ** 2
    assert all(found.values())


def test_a_vendors_own_events_lose_nothing_that_it_says() -> None:
    """Events of a vendor's own clients lose nothing at that vendor."""
    for (source, target), kinds in pairs(load_plugins()).items():
        if source == target:
            for kind, told in kinds.items():
                assert not told.declined, (source, kind)
                assert told.counts()["lost"] == 0, (source, kind, told)


ENCODED = {
    ("personaclick", "traits.gender"),
    ("personaclick", "context.campaign.name"),
    ("personaclick", "context.campaign.medium"),
    ("tracardi", "traits.birthday"),
}
"""Fields that the vendor writes in another form, from which the same value is read back."""


@pytest.mark.parametrize("vendor", load_plugins().formats)
def test_kept_texts_are_in_the_request(vendor: str) -> None:
    """A text that counts as kept is in the outgoing body, for events of any vendor."""
    registry = load_plugins()
    outputs = {
        name: placeholder_output(each, every=True) for name, each in registry.outputs.items()
    }
    output = outputs[vendor]
    seen = 0
    for source, reads in registry.inputs.items():
        for event in sendable_events(reads(), outputs[source]).values():
            request = output.render(event)
            if isinstance(request, Declined):
                continue
            for fate in field_outcomes(output, event):
                if fate.how == "kept" and isinstance(fate.value, str):
                    if (vendor, fate.path) not in ENCODED:
                        assert orjson.dumps(fate.value) in request.body, (source, fate)
                    seen += 1
    assert seen


def test_every_kind_of_event_is_full() -> None:
    """The full sample of each kind of event has every context and trait field."""
    for kind, event in full_events():
        held = {path for path, _ in filled_fields(event)}
        for struct, name in ((Page, "context.page"), (Traits, "traits")):
            wanted = {f"{name}.{field}" for field in struct.__struct_fields__ if field != "extra"}
            assert wanted <= held or (name == "traits" and kind not in {"identify", "group"})


# One event


def test_each_field_has_an_outcome() -> None:
    """Each field has an outcome, with its path in the request or the reason."""
    found = {
        fate.path: fate
        for fate in field_outcomes(
            placeholder_output(load_plugins().outputs["personaclick"]), EVENT
        )
    }
    assert found["user_id"] == ("user_id", "kept", "u1", "external_id", "")
    assert found["properties.products[].price"].to == "items[].price"
    assert found["properties.list_id"].how == "lost"
    assert found["properties.list_id"].why == "personaclick has no place for it"
    assert found["context.page.url"].to == "referer"
    assert "context.page.title" in found
    assert "type" not in found


def test_a_free_key_has_its_own_path() -> None:
    """A free key has its own path among the vendor's free keys."""
    found = {
        fate.path: fate
        for fate in field_outcomes(placeholder_output(load_plugins().outputs["tracardi"]), EVENT)
    }
    assert found["properties.extra.shade"].to == "events[].properties.shade"


def test_a_coerced_field_shows_the_written_value() -> None:
    """The reason of a coerced field shows the written value."""
    moment = datetime(2026, 1, 2, 3, 4, 5, 678000, UTC)
    event = replace(EVENT, anonymous_id="a1", timestamp=moment)
    found = {
        fate.path: fate
        for fate in field_outcomes(placeholder_output(load_plugins().outputs["quartic"]), event)
    }
    assert found["timestamp"].how == "coerced"
    assert found["timestamp"].why == (
        "converted to timestamp as Unix time in s; the original value cannot be recovered"
    )


def test_a_declined_event_has_no_field_outcomes() -> None:
    """A declined event has no field outcomes."""
    event = Event(type="alias", user_id="u", previous_id="p")
    assert field_outcomes(placeholder_output(load_plugins().outputs["quartic"]), event) == []


@pytest.mark.parametrize("vendor", load_plugins().formats)
def test_every_loss_is_a_field_outcome(vendor: str) -> None:
    """Every loss of a vendor is also a lost or coerced field outcome."""
    output = placeholder_output(load_plugins().outputs[vendor])
    for event in EVENTS:
        if isinstance(output.select(event), Declined):
            continue
        told = {fate.path: fate.how for fate in field_outcomes(output, event)}
        for loss in output.losses(event):
            parts = [how for path, how in told.items() if path.startswith(loss.path)]
            assert parts
            assert loss.how in parts


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("properties.extra.shade.of", "properties.extra.*"),
        ("extra.did", "extra.*"),
        ("consent.ads", "consent.*"),
        ("properties.products[].extra.k", "properties.products[].extra.*"),
        ("properties.products[17]", "properties.products[]"),
        ("properties.total", "properties.total"),
    ],
)
def test_free_keys_count_as_one(path: str, name: str) -> None:
    """Free keys count under one name, so that the number of names is bounded."""
    assert named(path) == name


def test_a_reason_is_counted_without_what_it_quotes() -> None:
    """Reasons that differ only in a quoted value count as one."""
    assert reason_of("no way to say 'a b', chrts' word") == "no way to say '…', chrts' word"


# The loss counter


def test_the_counter_counts_fields_once_per_event() -> None:
    """The counter counts each lost or coerced field once per event, and free keys as one."""
    meter = LossCounter(
        placeholder_output(load_plugins().outputs["personaclick"]),
        per_second=math.inf,
        share=math.inf,
    )
    for _ in range(2):
        meter.offer(lambda: EVENT)
    assert meter.looked == 2
    assert meter.counts["properties.list_id", "lost"] == 2
    assert meter.counts["properties.extra.*", "lost"] == 2
    assert not any(how == "kept" for _, how in meter.counts)


def test_the_counter_examines_a_sample() -> None:
    """Events beyond the rate are neither examined nor prepared."""
    meter = LossCounter(placeholder_output(load_plugins().outputs["chrts"]), per_second=0.001)
    prepared = Counter[str]()

    def prepare() -> Event:
        prepared["event"] += 1
        return EVENT

    for _ in range(100):
        meter.offer(prepare)
    assert meter.looked == prepared["event"] == 1


def test_an_event_with_a_plugin_error_is_not_counted() -> None:
    """An event whose losses cannot be computed is not counted."""
    meter = LossCounter(placeholder_output(load_plugins().outputs["chrts"]), per_second=1e9)

    def broken() -> Event:
        raise KeyError("broken")

    meter.offer(broken)
    assert meter.looked == 0


# The command


def gateway(*args: str) -> Result:
    """Run ``gateway losses`` and return its result."""
    return CliRunner().invoke(main, ["losses", *args])


def lines(found: Result) -> list[str]:
    """Return the output's lines with single spaces."""
    return [" ".join(line.split()) for line in found.stdout.splitlines()]


def test_the_command_names_what_a_pair_loses() -> None:
    """For two vendors, the command shows counts per event and where each field is lost."""
    found = gateway("--from", "personaclick", "--to", "chrts")
    assert found.exit_code == 0, found.output
    assert "Order Completed 15 0 1" in lines(found)
    assert "session_id lost every event" in lines(found)
    assert max(map(len, found.stdout.splitlines())) < 100


def test_the_command_marks_declined_events() -> None:
    """The command marks declined events with the reason."""
    found = gateway("--from", "quartic", "--to", "chrts", "--event", "product")
    assert "product declined" in lines(found)
    assert "product chrts has no catalogue for products" in lines(found)


def test_the_command_says_where_nothing_is_lost() -> None:
    """For a pair without losses, the command says so."""
    assert "Nothing is lost" in lines(gateway("--from", "chrts", "--to", "segment"))


def test_the_command_lists_all_pairs() -> None:
    """Without a pair, the command shows one line per pair."""
    found = gateway()
    assert len(lines(found)) == 1 + len(load_plugins().formats) ** 2
    assert len(lines(gateway("--from", "chrts"))) == 1 + len(load_plugins().formats)


def test_the_command_prints_json() -> None:
    """``--json`` prints each field of each kind of event."""
    (found,) = orjson.loads(gateway("--from", "chrts", "--to", "quartic", "--json").stdout)
    assert found["events"]["Product Viewed"]["properties.products[].product_id"] == "kept"
    assert found["events"]["alias"]["declined"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (
            ("--from", "chrt"),
            "there is no vendor 'chrt' that both reads and writes; did you mean chrts?",
        ),
        (("--to", "x"), "there is no vendor 'x' that both reads and writes; known: "),
        (("--event", "Order Complete"), "did you mean Order Completed?"),
    ],
)
def test_the_command_names_the_nearest(args: tuple[str, ...], said: str) -> None:
    """An unknown vendor or event is an error that suggests the closest known one."""
    found = gateway(*args)
    assert found.exit_code == 2
    assert said in found.stderr
