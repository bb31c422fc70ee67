"""Fuzz inputs: whatever a sender writes is read or rejected in the vendor's dialect.

    python -m pytest -p gateway.testing.fuzz --payloads 100000

Of the collected tests only those of `FuzzSuite` that send whatever may come are run, each with
so many requests to its endpoint. The seed is printed; with ``--seed`` the same requests come again.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from random import Random
from typing import Any, ClassVar, TypeAlias

import msgspec
import orjson
import pytest
from hypothesis import given, settings
from msgspec.structs import replace

from gateway.errors import Rejected, Unrenderable
from gateway.event import Event
from gateway.http import Request, Response
from gateway.plugin.endpoints import match_endpoint
from gateway.plugin.vendor import Input
from gateway.testing.load_fuzzer import STRICT, LoadFuzzer, LoadResult
from gateway.testing.plugin_watch import PluginSuite
from gateway.testing.request_fuzzer import RequestFuzzer
from gateway.testing.samples import ARRIVAL, REQUEST_ID, Sample, json_of, load_samples, request_of
from gateway.testing.strategies import HOSTILE, Strategy, bodies, drawn, payloads, spoilt
from gateway.verdict import Declined

HEADERS = {"content-type": "application/json"}
STORM = "test_answers_whatever_comes"
TALLY = "tally"
"""The property of a test's report that says what a storm came to."""
PAGE = Response(400, {"content-type": "text/html"}, b"<html><body>Bad Request</body></html>")
TO_STRICT = 0.1
"""How many of a storm's requests go to the source that knows keys."""


class FuzzSuite(PluginSuite):
    """What `InputSuite` asks of an input in the face of any payload; hypothesis makes them up.

    How many is hypothesis' own setting (``max_examples`` of the profile that is loaded), 100 if
    nothing else is said.
    """

    samples: ClassVar[Path]
    input: ClassVar[Input]
    wires: ClassVar[Mapping[str, Any]] = {}
    """Endpoint to the type of its body, where the tables read another shape than is sent."""
    untold: ClassVar[frozenset[str]] = frozenset()
    """Endpoints that answer what they refuse as they answer what they take."""

    def carrying(self, like: Request, body: Any) -> Request:
        """Return a request to the endpoint of *like* that says *body*, which is JSON's to say."""
        return replace(like, body=orjson.dumps(body))

    def native(self, answer: Response) -> bool:
        """Tell whether *answer*, a refusal, is in the vendor's own words.

        Each suite says more than this: their shape, their statuses.
        """
        return 400 <= answer.status < 500

    def _is_native(self, answer: Response) -> bool:
        """Tell the same of an answer whose shape is another altogether."""
        try:
            return self.native(answer)
        except (AttributeError, LookupError, TypeError, ValueError):
            return False

    def typed(self, endpoint: str) -> Strategy:
        """Return the payloads that the types of *endpoint* allow."""
        made = self.wires.get(endpoint)
        return bodies(self.input.endpoints[endpoint]) if made is None else payloads(made)

    def test_knows_its_refusals(self) -> None:
        """The suite can tell the vendor's refusals from a web server's page."""
        assert not self._is_native(PAGE), "say in `native` what the vendor's refusals look like"

    def test_answers_whatever_comes(
        self,
        endpoint: str,
        request: pytest.FixtureRequest,
        record_property: Callable[[str, object], None],
    ) -> None:
        """The running gateway refuses natively, and what it takes is stored and rendered."""
        count = request.config.getoption("--payloads", 150)
        tally = self.storm(endpoint, count, request.config.getoption("--seed", 0))
        record_property(TALLY, (endpoint, tally.sent, tally.refused, tally.events, tally.seconds))
        assert not tally.found, "\n".join(tally.found)
        assert tally.sent == count
        assert tally.events, "nothing was taken: the samples' requests are no good"
        assert tally.refused or endpoint in self.untold, "nothing was refused"

    def storm(self, endpoint: str, count: int, seed: int) -> LoadResult:
        """Send *count* requests to *endpoint* of a running gateway; *seed* decides which."""
        found = [request_of(sample) for sample in load_samples(self.samples).values()]
        keys = {key for request in found if (key := self._key(request))}
        storm = LoadFuzzer(self.input, self.output, keys, self._is_native)
        listed = self.input.endpoints
        likes = [request for request in found if match_endpoint(listed, request) == endpoint]
        assert likes, f"no sample is a request to {endpoint}"
        return asyncio.run(storm.run(self._requests(endpoint, likes, count, seed)))

    def _key(self, request: Request) -> str | None:
        payload = self.input.decode(request) if self.input.credential_in_body else None
        return self.input.credential(request, payload)

    def _requests(
        self, endpoint: str, likes: list[Request], count: int, seed: int
    ) -> Iterator[bytes]:
        chance = Random(f"{seed} {endpoint}")  # noqa: S311 - to be repeated, not to be secret
        first = min(500, max(40, count // 50))
        known = self.input
        headers = known.stored_headers | known.browser_headers | known.credential_headers
        mess = RequestFuzzer(
            chance,
            likes=likes,
            bodies=drawn(self.typed(endpoint), first, seed),
            hostile=drawn(HOSTILE, first, seed),
            carry=self.carrying,
            headers=sorted(headers),
        )
        for _ in range(count):
            made = mess.request()
            if chance.random() < TO_STRICT:
                made = replace(made, url=STRICT + made.url)
            yield mess.packed(made)

    def test_reads_or_refuses_what_its_types_allow(self, endpoint: str) -> None:
        """Any payload that type-checks is read or refused natively."""
        method, url = endpoint.split()

        @settings(deadline=None)
        @given(body=self.typed(endpoint))
        def holds(body: Any) -> None:
            self._withstands(Request(method=method, url=url, headers=HEADERS), body)

        holds()

    def test_reads_or_refuses_spoilt_samples(self, sample: Sample) -> None:
        """A good payload with something hostile in it is read or refused natively."""
        request = request_of(sample)

        @settings(deadline=None, max_examples=50)
        @given(body=spoilt(json_of(request.body)))
        def holds(body: Any) -> None:
            self._withstands(request, body)

        holds()

    def _withstands(self, like: Request, body: Any) -> None:
        """Send *body*, and what is read of it on to the same vendor."""
        said = self.carrying(like, body)
        request = replace(said, id=REQUEST_ID, received_at=ARRIVAL)
        try:
            payload = self.input.decode(request)
            credential = self.input.credential(request, payload)
            events = self.input.read(request, payload)
        except Rejected as error:
            answer = self.input.refuse(request, error)
            silent = match_endpoint(self.input.endpoints, request) in self.untold
            assert silent or self._is_native(answer), f"not in the vendor's words: {answer}"
            return
        assert credential is None or (type(credential) is str and credential)
        assert self.input.accept(request, events).status < 400
        for event in events:
            told = msgspec.to_builtins(event, builtin_types=(datetime,))
            assert msgspec.convert(told, Event) == event, "a field holds another type than its own"
            self._goes_out(event)

    def _goes_out(self, event: Event) -> None:
        output = self.output
        if output is None:
            return
        try:
            sent = output.render(event)
        except Unrenderable as error:
            assert str(error)
        else:
            assert sent.reason if isinstance(sent, Declined) else sent.url.startswith("http")
        assert isinstance(output.losses(event), list)


Row: TypeAlias = tuple[str, int, int, int, float]
"""An endpoint; its requests, those refused, the events of the others, and seconds."""
COLUMNS = ("endpoint", "requests", "refused", "events", "a second")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--payloads`` and ``--seed``."""
    parser.addoption("--payloads", type=int, default=1000, help="Requests to each endpoint.")
    drawn = secrets.randbelow(2**32)
    parser.addoption("--seed", type=int, default=drawn, help="Which ones; others each time.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all tests but the storms."""
    others = [item for item in items if getattr(item, "originalname", "") != STORM]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def pytest_report_header(config: pytest.Config) -> str:
    """Say which requests come."""
    return f"storm: --payloads {config.option.payloads} --seed {config.option.seed}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each endpoint, and their sums."""
    rows = sorted(_rows(terminalreporter))
    if not rows:
        return
    names, sent, refused, events, seconds = zip(*rows, strict=True)
    sums = (sum(sent), sum(refused), sum(events), sum(seconds))
    rows.append((f"{len(names)} endpoints", *sums))
    width = max(len(row[0]) for row in rows)
    line = f"{{:<{width}}} {{:>10}} {{:>10}} {{:>10}} {{:>10}}".format
    terminalreporter.write_line(line(*COLUMNS))
    for name, *counts, took in rows:
        shown = (f"{count:,}" for count in counts)
        terminalreporter.write_line(line(name, *shown, f"{counts[0] / max(took, 0.001):,.0f}"))


def _rows(reporter: pytest.TerminalReporter) -> Iterator[Row]:
    for reports in reporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                yield from (told for name, told in report.user_properties if name == TALLY)
