"""Whatever a sender writes is read or refused in the vendor's own words, never a traceback."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import orjson
from hypothesis import given, settings
from msgspec.structs import replace

from gateway.errors import Rejected, Unrenderable
from gateway.event import Event
from gateway.exchange import Declined, Request
from gateway.plugin import Input, Output
from gateway.testing.payloads import bodies, payloads, spoilt
from gateway.testing.samples import ARRIVAL, REQUEST_ID, Sample, json_of, request_of

HEADERS = {"content-type": "application/json"}


class AnythingSuite:
    """What `InputSuite` asks of an input in the face of any payload; hypothesis makes them up.

    How many is hypothesis' own setting (``max_examples`` of the profile that is loaded), 100 if
    nothing else is said.
    """

    samples: ClassVar[Path]
    input: ClassVar[Input]
    output: ClassVar[Output]
    wires: ClassVar[Mapping[str, Any]] = {}
    """Endpoint to the type of its body, where the tables read another shape than is sent."""
    untold: ClassVar[frozenset[str]] = frozenset()
    """Endpoints that answer what they refuse as they answer what they take."""

    def carrying(self, like: Request, body: Any) -> Request:
        """Return a request to the endpoint of *like* that says *body*, which is JSON's to say."""
        return replace(like, body=orjson.dumps(body))

    def test_reads_or_refuses_what_its_types_allow(self, endpoint: str) -> None:
        """Any payload that type-checks is read or refused natively."""
        method, url = endpoint.split()
        made = self.wires.get(endpoint)
        strategy = bodies(self.input.endpoints[endpoint]) if made is None else payloads(made)

        @settings(deadline=None)
        @given(body=strategy)
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
            silent = f"{request.method} {request.path}" in self.untold
            assert silent or 400 <= answer.status < 500, answer
            return
        assert credential is None or (type(credential) is str and credential)
        assert self.input.accept(request, events).status < 400
        for event in events:
            told = msgspec.to_builtins(event, builtin_types=(datetime,))
            assert msgspec.convert(told, Event) == event, "a field holds another type than its own"
            self._goes_out(event)

    def _goes_out(self, event: Event) -> None:
        output = getattr(self, "output", None)
        if output is None:
            return
        try:
            sent = output.render(event)
        except Unrenderable as error:
            assert str(error)
        else:
            assert sent.reason if isinstance(sent, Declined) else sent.url.startswith("http")
        assert isinstance(output.losses(event), list)
