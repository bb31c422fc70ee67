"""The kit finds mistakes in a vendor: each mistake here fails the suite that checks for it."""

import json
import os
import random
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal, NotRequired, Required, TypedDict

import orjson
import pytest
from hypothesis import given
from hypothesis.strategies import data

from gateway.event import Event
from gateway.http import Request, Response
from gateway.mapping import Row
from gateway.plugin.settings import Secret
from gateway.testing import (
    DeliverySuite,
    InputSuite,
    OutputSuite,
    Sample,
    VendorSuite,
    events_of,
    load_samples,
)
from gateway.testing.mutation import made, mutants, tables_of
from gateway.testing.samples import ARRIVAL, EVENTS, plain
from gateway.testing.side_effects import SideEffect, forbid_side_effects
from gateway.testing.strategies import payloads, spoilt
from gateway.verdict import Declined, Delivered, Verdict
from tests.example_plugins.acme.acme.input import AcmeInput
from tests.example_plugins.acme.acme.mapping import ENDPOINTS, THING
from tests.example_plugins.acme.acme.output import AcmeOutput

SAMPLES = Path(__file__).parents[1] / "example_plugins/acme/samples"
CONFIG = AcmeOutput.Config(url="https://acme.example", api_key=Secret("acme-out"))


class Suite(VendorSuite):
    """The example's suite; tests replace one half with a wrong one."""

    samples = SAMPLES
    input = AcmeInput()
    output = AcmeOutput(CONFIG)


class Deliveries(DeliverySuite):
    """The example's delivery suite; tests replace its output with a wrong one."""

    output = AcmeOutput(CONFIG)


class TestInputAlone(InputSuite):
    """The suite for a vendor with an input only."""

    samples = SAMPLES
    input = AcmeInput()

    def native(self, answer: Response) -> bool:
        """Return whether *answer* has the format of Acme's errors."""
        return orjson.loads(answer.body)["ok"] is False


class TestOutputAlone(OutputSuite):
    """The suite for a vendor with an output only."""

    samples = SAMPLES.parents[1] / "acme-output-only/samples"
    output = AcmeOutput(CONFIG)


@pytest.fixture
def looked() -> Sample:
    """Return one sample."""
    return load_samples(SAMPLES)["looked"]


def test_a_misspelt_key_of_a_sample_is_named(tmp_path: Path) -> None:
    """An unknown key of a sample is an error with the known keys; so is invalid JSON."""
    sample = tmp_path / "looked.json"
    sample.write_text('{"about": "a look", "delivery": []}')
    with pytest.raises(ValueError, match=r"looked\.json: unknown: delivery; a sample has about, "):
        load_samples(tmp_path)
    sample.write_text("{")
    with pytest.raises(ValueError, match=r"looked\.json: "):
        load_samples(tmp_path)


def test_events_of_a_sample_are_as_they_are_written() -> None:
    """An output without an input renders the events of the sample, with the usual stamps."""
    (event,) = events_of(load_samples(SAMPLES)["looked"])
    assert (event.id, event.received_at, event.origin) == ("sample-0", ARRIVAL, "")
    assert plain(event) == load_samples(SAMPLES)["looked"]["events"][0]


IMPURE: dict[str, Callable[[], object]] = {
    "time.time": time.time,
    "datetime.now": lambda: datetime.now(UTC),
    "date.today": date.today,
    "random.random": random.random,
    "random.getrandbits": lambda: random.choice("ab"),  # noqa: S311 - no secret
    "random.urandom": uuid.uuid4,
    "uuid.uuid1": uuid.uuid1,
    "os.environ": lambda: os.environ["PATH"],
    "os.getenv": lambda: os.getenv("PATH"),
    "socket.__init__": lambda: socket.socket().close(),
    "open": lambda: Path(__file__).read_bytes(),
    "os.stat": Path(__file__).exists,
    "os.listdir": lambda: os.listdir("."),  # noqa: PTH208 - pathlib would do it by another name
}


@pytest.mark.parametrize("what", IMPURE)
def test_side_effects_are_detected(what: str) -> None:
    """Use of clock, random numbers, sockets, files or environment is detected under any name."""
    with pytest.raises(SideEffect, match=rf"^{what} is called at "), forbid_side_effects():
        IMPURE[what]()


def test_pure_computation_is_allowed() -> None:
    """A computation on given values alone is allowed."""
    with forbid_side_effects():
        assert datetime.fromtimestamp(0, UTC).isoformat() == "1970-01-01T00:00:00+00:00"
        assert uuid.uuid5(uuid.NAMESPACE_URL, "a") == uuid.uuid5(uuid.NAMESPACE_URL, "a")


def test_a_failed_assertion_shows_its_values(looked: Sample) -> None:
    """A failed assertion of the kit shows the compared values."""
    with pytest.raises(AssertionError, match=r"= 'acme\.example'\.startswith"):
        Suite().test_cites_its_source({**looked, "source": "acme.example"})


def test_a_suite_that_knows_no_refusal_fails() -> None:
    """A suite without a `native` check fails, and the message asks for it."""
    with pytest.raises(AssertionError, match="check in `native`"):
        Suite().test_knows_its_refusals()


def test_an_input_with_a_clock_fails(looked: Sample) -> None:
    """An input whose response contains the current time fails the suite."""

    class Hasty(AcmeInput):
        def accept(self, request: Request, events: Sequence[Event]) -> Response:
            answer = super().accept(request, events)
            return Response(answer.status, {"date": str(time.time())}, answer.body)

    class Wrong(Suite):
        input = Hasty()

    with pytest.raises(SideEffect, match=r"time\.time"):
        Wrong().test_sees_nothing_but_the_request(looked)


def test_a_response_that_depends_on_earlier_requests_fails(looked: Sample) -> None:
    """An input whose response depends on earlier requests fails the suite."""
    times = iter(range(10))

    class Counting(AcmeInput):
        def accept(self, request: Request, events: Sequence[Event]) -> Response:
            answer = super().accept(request, events)
            return Response(answer.status, {"x-count": str(next(times))}, answer.body)

    class Wrong(Suite):
        input = Counting()

    with pytest.raises(AssertionError):
        Wrong().test_parses_alike_every_time(looked)


def test_an_output_with_chance_fails() -> None:
    """An output whose request differs each time fails the suite."""

    class Restless(AcmeOutput):
        def request(self, endpoint: str, payload: dict[str, Any], event: Event) -> Request:
            return super().request(endpoint, {**payload, "id": str(uuid.uuid4())}, event)

    class Wrong(Suite):
        output = Restless(CONFIG)

    with pytest.raises(SideEffect, match="urandom"):
        Wrong().test_sees_nothing_but_the_event(EVENTS[0])
    with pytest.raises(AssertionError):
        Wrong().test_renders_or_declines(EVENTS[0])


def test_a_request_that_differs_from_its_sample_is_shown_path_by_path(looked: Sample) -> None:
    """The message lists the differing paths only, with both values."""
    body = {**looked["deliveries"][0]["body"], "who": "u2", "more": {"hand": "left"}}
    wrong = {**looked, "deliveries": [{**looked["deliveries"][0], "body": body}]}
    with pytest.raises(pytest.fail.Exception) as caught:
        Suite().test_renders(wrong)
    assert str(caught.value).splitlines() == [
        "difference in deliveries:",
        '  [0].body.who: expected "u2", found "u1"',
        '  [0].body.more.hand: expected "left", found nothing',
    ]


def test_fields_that_are_left_out_are_reported_together() -> None:
    """One message has the entry for ``losses.toml`` that covers all kinds of events."""

    class Unexplained(AcmeOutput):
        """An output without a ``losses.toml`` beside it."""

    class Wrong(Suite):
        output = Unexplained(CONFIG)

    with pytest.raises(pytest.fail.Exception) as caught:
        Wrong().test_gives_a_reason_for_what_it_leaves_out()
    message = str(caught.value)
    (line,) = re.findall(r"^fields = (.*)$", message, re.MULTILINE)
    fields = json.loads(line)
    assert {"context.page.title", "session_id", "properties.coupon"} <= set(fields)
    assert len(fields) == len(set(fields))
    assert "  traits.age: an event of somebody known" in message.splitlines()


def test_a_traceback_on_a_payload_that_type_checks_fails() -> None:
    """An input that requires an optional field fails on payloads generated from its types."""

    class Trusting(AcmeInput):
        def read(self, request: Request, payload: Any) -> list[Event]:
            events = super().read(request, payload)
            assert payload["page"]
            return events

    class Wrong(Suite):
        input = Trusting()

    # A page that is missing, or an empty one: whichever Hypothesis finds, or remembers, first.
    found = r"test_kit\.py:\d+ in read: (KeyError: 'page'|AssertionError)"
    with pytest.raises(pytest.fail.Exception, match=found):
        Wrong().test_reads_or_refuses_what_its_types_allow("POST /v1/events")


def test_a_traceback_on_a_spoilt_sample_fails(looked: Sample) -> None:
    """An input that relies on a field's type fails on samples with wrong values."""

    class Trusting(AcmeInput):
        def decode(self, request: Request) -> Any:
            payload = super().decode(request)
            return {**payload, "what": payload["what"].strip()}

    class Wrong(Suite):
        input = Trusting()

    with pytest.raises(pytest.fail.Exception, match=r"test_kit\.py:\d+ in decode: "):
        Wrong().test_reads_or_refuses_spoilt_samples(looked)


def test_an_output_that_counts_every_response_as_delivered_fails() -> None:
    """An output that counts every response as delivered fails the delivery suite."""

    class Optimist(AcmeOutput):
        def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
            del response, now
            return Delivered()

    class Wrong(Deliveries):
        output = Optimist(CONFIG)

    with pytest.raises(AssertionError, match="outcomes must match the responses"):
        Wrong().test_every_event_has_one_end((500,))


def test_an_output_that_ignores_retry_after_fails() -> None:
    """An output that ignores Retry-After fails the delivery suite."""

    class Impatient(AcmeOutput):
        def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
            return super().verdict(Response(response.status), now)

    class Wrong(Deliveries):
        output = Impatient(CONFIG)

    with pytest.raises(AssertionError, match="instead of 1 s"):
        Wrong().test_waits_as_long_as_it_is_asked_to()


def test_declining_is_an_outcome() -> None:
    """A declined event is an outcome, and the vendor gets no request for it."""

    class Mute(AcmeOutput):
        def render(self, event: Event) -> Request | Declined:
            return Declined(f"nothing to say about {event.type}")

    class Silent(Deliveries):
        output = Mute(CONFIG)

    Silent().test_every_event_has_one_end((500,))


class Inner(TypedDict):
    """An object with a required field."""

    id: str
    more: NotRequired[int | None]


class Outer(TypedDict, total=False):
    """A field for every kind of annotation."""

    kind: Required[Literal["a", "b"]]
    inner: Inner
    many: list[Inner | str]
    free: dict[str, Any]
    number: float


@given(data())
def test_payloads_are_of_their_types(drawn: Any) -> None:
    """A generated payload has its required fields, and each field has its type."""
    made_up = drawn.draw(payloads(Outer))
    assert made_up["kind"] in {"a", "b"}
    assert type(made_up.get("number", 0.5)) is float
    for inner in (*made_up.get("many", ()), made_up.get("inner", "none")):
        assert type(inner) is str or type(inner["id"]) is str
        assert type(inner) is str or type(inner.get("more")) in {int, type(None)}


def test_types_that_json_cannot_say_are_refused() -> None:
    """A wire type that JSON cannot express is an error that names the type."""
    with pytest.raises(TypeError, match="bytes"):
        payloads(bytes)


@given(data())
def test_spoiling_leaves_the_sample_alone(drawn: Any) -> None:
    """A spoilt body is a copy; the good body stays unchanged."""
    good = {"a": [{"b": 1}, 2], "c": None}
    drawn.draw(spoilt(good))
    assert good == {"a": [{"b": 1}, 2], "c": None}


def test_every_row_has_its_mutants() -> None:
    """Each row is dropped, misspelt in each synonym, and swapped with another."""
    names = [mutant.name for mutant in mutants(tables_of([AcmeInput()]))]
    for row in THING.rows:
        assert any(name.startswith(f"drop [{row.wire} ") for name in names), row.wire
        assert any(name.startswith("swap") and f"[{row.wire} " in name for name in names), row.wire
        for path in row.synonyms:
            assert any(name.startswith(f"misspell '{path}' in") for name in names), path


def test_a_mutant_is_gone_afterwards() -> None:
    """A mutant changes the tables only inside its context manager."""
    tables = tables_of([AcmeInput()])
    before: tuple[Row, ...] = THING.rows
    dropped = next(mutants(tables))
    with made(dropped, tables):
        assert THING.rows == before[1:]
    assert THING.rows == before
    assert ENDPOINTS["POST /v1/events"] is THING


def hunt(folder: Path, samples: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run the row mutations on the example's tables with only these *samples*."""
    (folder / "samples").mkdir(exist_ok=True)
    for name in samples:
        shutil.copy(SAMPLES / f"{name}.json", folder / "samples")
    (folder / "test_half.py").write_text(HUNTED)
    (folder / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {SAMPLES.parent}\nasyncio_default_fixture_loop_scope = function\n"
    )
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "gateway.testing.mutation", "-k", "parses"],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


HUNTED = """
from pathlib import Path
from acme.input import AcmeInput
from gateway.testing import InputSuite

class TestHalf(InputSuite):
    samples = Path(__file__).parent / "samples"
    input = AcmeInput()
"""


def test_survivors_are_reported(tmp_path: Path) -> None:
    """A mutant that no test notices is reported, and fails the session."""
    done = hunt(tmp_path, ["looked"])
    assert done.returncode == 1
    survivor = "SURVIVED drop [more.* = properties.extra] "
    (told,) = (line for line in done.stdout.splitlines() if line.startswith(survivor))
    path, _, line = told.removeprefix(survivor).partition(":")
    assert '"more.*"' in Path(path).read_text().splitlines()[int(line) - 1]
    assert "SURVIVED misspell 'cookie' in [visitor|cookie = anonymous_id]" in done.stdout
    assert "drop [page = " not in done.stdout


def test_an_equivalent_mutant_needs_to_be_one(tmp_path: Path) -> None:
    """A listed mutant may survive; a listed mutant that a test notices is an error."""
    (tmp_path / "samples").mkdir()
    listed = ["# why", "drop [more.* = properties.extra]", "drop [page = context.page.url]"]
    (tmp_path / "samples/equivalent-mutants.txt").write_text("\n".join(listed))
    done = hunt(tmp_path, ["looked"])
    assert "SURVIVED drop [more.*" not in done.stdout
    assert "NOT EQUIVALENT, for a test notices drop [page = context.page.url]" in done.stdout
    assert done.returncode == 1
