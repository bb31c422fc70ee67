"""The vendor suite: the contract of inputs and outputs."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from typing import Any, ClassVar

import pytest
from msgspec.structs import replace

from gateway.errors import Rejected, Unrenderable
from gateway.event import Event, Traits, as_json
from gateway.http import Request, Response
from gateway.losses.field_outcomes import field_outcomes
from gateway.losses.full_events import OTHER, TRAITS, full_events
from gateway.losses.reviewed import named, reviewed, takes_anything, why
from gateway.mapping import Row
from gateway.mapping.losses import filled_fields
from gateway.plugin.client_credentials import client_secrets
from gateway.plugin.endpoints import match_endpoint
from gateway.plugin.vendor import Input, Vendor
from gateway.testing.fuzz import FuzzSuite
from gateway.testing.output_rules import OutputRules, rendered
from gateway.testing.samples import (
    ARRIVAL,
    EVENTS,
    GARBAGE,
    REQUEST_ID,
    Sample,
    SampleSuite,
    assert_json,
    events_of,
    json_of,
    load_samples,
    paths_in,
    plain,
    request_of,
)
from gateway.testing.side_effects import forbid_side_effects
from gateway.verdict import Declined, Refused, RetryLater

FULL: dict[str, Event] = {
    **dict(full_events()),
    "an event of somebody known": replace(dict(full_events())[OTHER], traits=TRAITS),
    "a profile with odd values": Event(
        type="identify",
        user_id="u-1",
        anonymous_id="a-1",
        traits=Traits(gender="unknown", birthday="yesterday", email="nobody"),
    ),
}
"""The fullest event of every kind, and some with rare values."""
MAX_EXAMPLES = 10
"""Fields whose events a message names."""


class InputSuite(SampleSuite, FuzzSuite):
    """Tests the contract of an input."""

    input: ClassVar[Input]

    def test_parses(self, sample: Sample) -> None:
        """A request becomes the events that its sample lists."""
        events = self.input.parse(request_of(sample))
        assert_json([plain(event) for event in events], sample["events"], "events")

    def test_stamps_events(self, sample: Sample) -> None:
        """An event's id derives from its request's id; its arrival and origin are set."""
        for index, event in enumerate(self.input.parse(request_of(sample))):
            assert event.id == f"{REQUEST_ID}-{index}"
            assert event.received_at == ARRIVAL
            assert event.origin == self.input.name

    def test_parses_alike_every_time(self, sample: Sample) -> None:
        """Parsing and responding depend only on the request, so a replay gives the same result."""
        request = request_of(sample)
        events = self.input.parse(request)
        answer = self.input.accept(request, events)
        assert self.input.parse(request) == events
        assert self.input.accept(request, events) == answer
        assert request == request_of(sample), "parsing changed the request"

    def test_sees_nothing_but_the_request(self, sample: Sample) -> None:
        """Parsing and responding use no clock, randomness, socket or file."""
        request = request_of(sample)
        events = self.input.parse(request)
        self.input.accept(request, events)
        with forbid_side_effects():
            self.input.accept(request, self.input.parse(request))

    def test_answers(self, sample: Sample) -> None:
        """The sender gets the response of the vendor's own server."""
        request = request_of(sample)
        answer = self.input.accept(request, self.input.parse(request))
        assert answer.status == sample["answer"]["status"]
        assert_json(json_of(answer.body), sample["answer"].get("body"), "answer.body")
        assert sample["answer"].get("headers", {}).items() <= answer.headers.items()

    def test_knows_its_credential(self, sample: Sample) -> None:
        """The key is found where the vendor's clients send it."""
        request = request_of(sample)
        payload = self.input.decode(request) if self.input.credential_in_body else None
        credential = self.input.credential(request, payload)
        assert credential
        where = "add its place to credential_headers or credential_keys"
        assert credential in client_secrets(request, self.input), where

    def test_its_paths_are_known_by_their_beginning(self, endpoint: str) -> None:
        """Every endpoint, supported or not, begins with one of the vendor's prefixes."""
        for path in (endpoint, *self.input.unsupported, *self.input.public_files):
            assert path.partition(" ")[2].startswith(self.input.prefixes), path

    @pytest.mark.parametrize("body", GARBAGE, ids=lambda body: repr(body[:8]))
    def test_refuses_garbage(self, body: bytes, endpoint: str) -> None:
        """Invalid bytes get a 4xx response like the vendor's, never a traceback."""
        method, url = endpoint.split()
        request = Request(method=method, url=url, body=body)
        with pytest.raises(Rejected) as caught:
            self.input.parse(request)
        answer = self.input.refuse(request, caught.value)
        assert self._is_native(answer), f"the vendor would not respond like this: {answer}"

    def test_every_row_is_exercised(self) -> None:
        """Every row and synonym occurs in a sample, except those of the shared spec."""
        seen: set[str] = set()
        for sample in load_samples(self.samples).values():
            seen.update(paths_in(self.input.decode(request_of(sample))))
        own = [row for row in _rows(self.input) if not row.shared]
        rows = {path for row in own for path in row.synonyms}
        unseen = {path for path in rows if not path.endswith("*")} - seen
        assert not unseen, f"no sample has {sorted(unseen)}"

    def test_every_endpoint_is_exercised(self, endpoint: str) -> None:
        """Every endpoint has a sample."""
        found = map(request_of, load_samples(self.samples).values())
        reached = {match_endpoint(self.input.endpoints, request) for request in found}
        assert endpoint in reached, f"no sample is a request to {endpoint}"


class OutputSuite(SampleSuite, OutputRules):
    """Tests the contract of an output."""

    def sample_events(self, sample: Sample) -> list[Event]:
        """Return the events that are sent as *sample* lists."""
        return events_of(sample)

    def test_renders(self, sample: Sample) -> None:
        """Events are rendered as the sample lists."""
        sent = [self.output.render(event) for event in self.sample_events(sample)]
        assert_json([_shown(request) for request in sent], sample["deliveries"], "deliveries")

    @pytest.mark.parametrize("event", EVENTS, ids=lambda e: f"{e.type}-{e.name}")
    def test_renders_or_declines(self, event: Event) -> None:
        """An output returns a request or a reason for any event, and does not change the event."""
        before = as_json(event)
        try:
            sent = self.output.render(event)
        except Unrenderable as error:
            assert str(error)
        else:
            assert sent.reason if isinstance(sent, Declined) else "://" in sent.url
            assert sent == self.output.render(event)
        assert as_json(event) == before

    def test_renders_something(self) -> None:
        """An output renders at least one of the neutral events."""
        taken = [event for event in EVENTS if isinstance(rendered(self.output, event), Request)]
        assert taken, "the output declines every event in gateway.testing.samples.EVENTS"

    @pytest.mark.parametrize("event", EVENTS, ids=lambda e: f"{e.type}-{e.name}")
    def test_sees_nothing_but_the_event(self, event: Event) -> None:
        """Rendering, losses and verdicts use no clock, randomness, socket or file."""
        for sees in (nullcontext, forbid_side_effects):
            with sees(), suppress(Unrenderable):
                self.output.losses(event)
                self.output.verdict(Response(500, {"retry-after": "7"}))
                self.output.render(event)

    @pytest.mark.parametrize("event", EVENTS, ids=lambda e: f"{e.type}-{e.name}")
    def test_knows_its_losses(self, event: Event) -> None:
        """Losses can be computed for every event, and name fields that the event has."""
        held = {key for path, _ in filled_fields(event) for key in _keys(path)}
        for loss in self.output.losses(event):
            assert loss.how in {"lost", "coerced"}
            assert _keys(loss.path)[-1] in held, loss

    def test_gives_a_reason_for_what_it_leaves_out(self) -> None:
        """If a payload has free properties, every omitted field is in ``losses.toml``."""
        unsaid: dict[str, list[str]] = {}
        for kind, event in FULL.items():
            for path in self._left_out(event):
                unsaid.setdefault(path, []).append(kind)
        if unsaid:
            pytest.fail(_entry(unsaid), pytrace=False)

    def _left_out(self, event: Event) -> list[str]:
        """Return the fields of *event* that its request could have, lacks, and gives no reason."""
        call = self.output.select(event)
        if isinstance(call, Declined) or not takes_anything(call):
            return []
        return [
            fate.path
            for fate in field_outcomes(self.output, event)
            if fate.how == "lost" and not why(self.output, event, fate.path)
        ]

    def test_leaves_out_nothing_that_arrives(self) -> None:
        """Each entry of ``losses.toml`` is about a field that is lost."""
        lost = {
            (event.type, event.name or "", named(fate.path))
            for event in (*FULL.values(), *EVENTS)
            for fate in field_outcomes(self.output, event)
            if fate.how == "lost"
        }
        for entry in reviewed(type(self.output)):
            assert any(entry.holds(*field) for field in lost), entry

    @pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
    def test_retries_what_may_pass(self, status: int) -> None:
        """Overload and failures of the vendor are retried."""
        verdict = self.output.verdict(Response(status, {"retry-after": "7"}))
        assert isinstance(verdict, RetryLater)
        assert verdict.after == 7

    @pytest.mark.parametrize("status", [400, 404, 413, 422])
    def test_refuses_what_will_not(self, status: int) -> None:
        """An invalid request is not retried."""
        assert isinstance(self.output.verdict(Response(status)), Refused)

    @pytest.mark.parametrize("status", [401, 403])
    def test_keeps_what_a_key_would_mend(self, status: int) -> None:
        """A rejected key is a failure of the destination, not of the event."""
        verdict = self.output.verdict(Response(status))
        assert isinstance(verdict, RetryLater)
        assert verdict.cause == "credential"


class VendorSuite(InputSuite, OutputSuite):
    """Tests the contract of a vendor with both an input and an output."""

    unsaid: ClassVar[frozenset[str]] = frozenset()
    """Fields of the event that are not sent back to their own vendor; the vendor's page says
    why."""

    def sample_events(self, sample: Sample) -> list[Event]:
        """Return the events of the request; they are sent to their own vendor."""
        return self.input.parse(request_of(sample))

    def test_survives_a_round_trip(self, sample: Sample) -> None:
        """An event that is sent to its own vendor arrives with all of its fields."""
        for event in self.input.parse(request_of(sample)):
            sent = self.output.render(event)
            assert isinstance(sent, Request), sent
            path = sent.url.removeprefix(self.output.config.url.rstrip("/"))
            back = replace(sent, url=path, id=REQUEST_ID, received_at=ARRIVAL)
            asked = f"{back.method} {back.path}"
            assert asked in self.input.endpoints, f"{asked} is not an endpoint of the input"
            again = self.input.parse(back)
            before = {k: v for k, v in plain(event).items() if k not in self.unsaid}
            assert [_said(plain(e), before) for e in again] == [before]


def _keys(path: str) -> list[str]:
    """Return the keys in *path*, without brackets."""
    return re.sub(r"\[.*?\]", "", path).split(".")


def _entry(unsaid: Mapping[str, Sequence[str]]) -> str:
    """Return the message about fields that are left out of the events in *unsaid*, unexplained."""
    fields = json.dumps(list(unsaid))
    fewest = sorted(unsaid.items(), key=lambda item: len(item[1]))[:MAX_EXAMPLES]
    examples = "\n".join(
        f"  {path}: {kinds[0]}" + (f" and {len(kinds) - 1} more" if kinds[1:] else "")
        for path, kinds in fewest
    )
    return (
        f"the output does not send {len(unsaid)} fields, and losses.toml beside it has no reason. "
        "Send them, or add\n\n"
        f'[[lost]]\nfields = {fields}\nreason = "…"\n\n'
        'A field may be a glob, such as "context.*".\n'
        f"The events that have them:\n{examples}"
    )


def _shown(sent: Request | Declined) -> dict[str, Any]:
    if isinstance(sent, Declined):
        return {"declined": sent.reason}
    return {
        "method": sent.method,
        "url": sent.url,
        "headers": dict(sent.headers),
        "body": json_of(sent.body),
    }


def _said(again: Any, before: Any) -> Any:
    """Return *again* without the keys that *before* lacks: it may have more, never less."""
    if isinstance(again, dict) and isinstance(before, dict):
        return {key: _said(again[key], before[key]) for key in before if key in again}
    if isinstance(again, list) and isinstance(before, list) and len(again) == len(before):
        return [_said(a, b) for a, b in zip(again, before, strict=True)]
    return again


def _rows(vendor: Vendor) -> Iterator[Row]:
    for table in vendor.endpoints.values():
        yield from table.flat()
