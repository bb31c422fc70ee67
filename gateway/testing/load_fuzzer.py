"""Send many valid and broken requests to a running gateway, and check what it stores."""

import asyncio
import logging
import time
import traceback
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import structlog
from aiohttp import web

from gateway.app import Gateway, GatewayRunner
from gateway.config.models import (
    Config,
    ConsentConfig,
    DestinationConfig,
    ReadFiles,
    RouteConfig,
    ServerConfig,
    SourceConfig,
)
from gateway.config.operations import LogConfig, TraceConfig
from gateway.config.spool import SpoolConfig
from gateway.errors import PluginError, Unrenderable
from gateway.event import Event
from gateway.http import REQUEST_ID, Request, Response
from gateway.mapping import EventMapping
from gateway.plugin.quantities import MIB
from gateway.plugin.registry import load_plugins, placeholder_output
from gateway.plugin.settings import Secret, Settings
from gateway.plugin.vendor import Input, Output
from gateway.testing.live_gateway import PATIENCE, InMemoryClient, SettledEvents, check_balance
from gateway.verdict import Declined


def observing_output(
    vendor: str, tried: Callable[[Event], None], forwarded: Callable[[Request], None]
) -> type[Output]:
    """Return an output named *vendor* that calls functions instead of sending.

    It calls *tried* with each event, and *forwarded* with each request in the format of *vendor*.
    """

    class Reader(Output):
        name = vendor
        docs = ""
        endpoints: Mapping[str, EventMapping] = {}
        Config = Settings

        def headers(self) -> Mapping[str, Any]:
            return {}

        def render(self, event: Event) -> Declined:
            tried(event)
            return Declined("it was read")

        def forward(self, request: Request) -> None:
            forwarded(request)

    return Reader


STRICT = "/strict"
"""The mount of the source that checks keys; the source at the root accepts any."""
READER = "reader"
"""The destination that reads all events."""
ROUND = 250
"""Requests that are sent before the destination reads them from the spool."""
AT_ONCE = 16
"""Connections."""
SHOWN = 5
"""Findings after which a run ends."""
LARGEST = MIB // 4
"""Maximum bytes of a body."""


@dataclass
class LoadResult:
    """The result of a run.

    Attributes:
        sent: the number of requests.
        statuses: the number of responses by status.
        events: the number of accepted events.
        seconds: the duration.
        found: the problems, each with its request.
    """

    sent: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    events: int = 0
    seconds: float = 0.0
    found: list[str] = field(default_factory=list)

    @property
    def refused(self) -> int:
        """Return how many requests got an error."""
        return sum(count for status, count in self.statuses.items() if status >= 400)


class LoadFuzzer:
    """Sends requests to a gateway with one vendor's sources, and checks what it stored.

    The requests pass through the gateway's HTTP parser and ingest into its spool. Then one
    destination takes them from there, where each request is parsed again: the events must equal the
    accepted ones. Every output renders them, and the vendor's own output forwards the request;
    nothing is sent.

    Args:
        reads: the vendor's input.
        output: the vendor's output; None if it has none.
        keys: the keys that the strict source accepts.
        native: returns whether a rejection looks like the vendor's.
    """

    def __init__(
        self,
        reads: Input,
        output: Output | None,
        keys: Iterable[str],
        native: Callable[[Response], bool],
    ) -> None:
        self._native = native
        self._tally = LoadResult()
        self._watch = SettledEvents()
        self._raw: dict[str, bytes] = {}
        self._accepted: dict[str, Event] = {}
        found = load_plugins([self._watch.plugin()])
        self._outputs = list(_outputs(found.outputs, reads.name, output))
        self._registry = replace(
            found,
            inputs={**found.inputs, reads.name: type(reads)},
            outputs={
                **found.outputs,
                reads.name: observing_output(reads.name, self._tried, self._forwarded),
            },
        )
        self._config = _config(reads.name, sorted(keys))
        self._own = output

    async def run(self, requests: Iterable[bytes]) -> LoadResult:
        """Send *requests* and return the result; stop soon after the first findings."""
        tally, left = self._tally, iter(requests)
        began = time.monotonic()
        asyncio.get_running_loop().set_exception_handler(self._loose_end)
        with TemporaryDirectory(prefix="gateway-kit-") as folder, _quiet():
            spool = SpoolConfig(path=Path(folder) / "spool")
            gateway = Gateway(replace(self._config, spool=spool), self._registry)
            async with _served(gateway) as server:
                pipes = [InMemoryClient(server) for _ in range(AT_ONCE)]
                while len(tally.found) < SHOWN and (some := list(islice(left, ROUND))):
                    await gateway.stop_team(READER)
                    await self._send(some, pipes)
                    await self._read(gateway)
                for pipe in pipes:
                    pipe.close()
        tally.seconds = time.monotonic() - began
        return tally

    async def _send(self, requests: Iterable[bytes], pipes: Iterable[InMemoryClient]) -> None:
        left = iter(requests)

        async def client(pipe: InMemoryClient) -> None:
            for raw in left:
                self._tally.sent += 1
                try:
                    async with asyncio.timeout(PATIENCE):
                        answer = await pipe.exchange(raw)
                except (ConnectionError, TimeoutError) as error:
                    self._find(raw, f"no response: {error!r}")
                else:
                    self._judge(raw, answer)

        await asyncio.gather(*map(client, pipes))

    def _judge(self, raw: bytes, answer: Response) -> None:
        tally = self._tally
        tally.statuses[answer.status] += 1
        self._raw[answer.headers.get(REQUEST_ID, "")] = raw
        if answer.status >= 500 or (answer.status >= 400 and not self._native(answer)):
            self._find(raw, f"the response is {answer.status} {answer.body[:300]!r}")

    async def _read(self, gateway: Gateway) -> None:
        """Let the destination read the accepted events, and wait until it has."""
        watch = self._watch
        self._tally.events += len(watch.accepted)
        self._accepted = {event.id: event for event in watch.accepted}
        team = gateway.make_team(READER, self._config.destinations[READER])
        gateway.start_team(team, paused=False)
        try:
            while (count := len(watch.settled)) < len(watch.accepted):
                await watch.until(partial(_went_on, count))
        except TimeoutError:
            for lost in self._accepted.keys() - {event.id for event, _, _ in watch.settled}:
                self._find(self._raw_of(lost), "accepted, but never delivered")
        for event, _, verdict in watch.settled:
            if not isinstance(verdict, Declined):
                self._find(self._raw_of(event.id), f"accepted, but then {verdict}")
        for seen in (watch.accepted, watch.settled, self._raw):
            seen.clear()

    def _tried(self, event: Event) -> None:
        """Render *event*, which was read from the spool, with every output."""
        if event != self._accepted.get(event.id):
            self._find(self._raw_of(event.id), f"parsed from the spool, the event differs: {event}")
        for output in self._outputs:
            try:
                with suppress(Unrenderable):
                    output.render(event)
                output.losses(event)
            except Exception as error:  # noqa: BLE001 - every exception is a finding
                self._find(self._raw_of(event.id), f"{output.name}, {_told(error)}")

    def _forwarded(self, request: Request) -> None:
        """Forward *request*, which was read from the spool, with the vendor's own output."""
        try:
            with suppress(Unrenderable):
                if self._own is not None:
                    self._own.forward(request)
        except Exception as error:  # noqa: BLE001 - every exception is a finding
            self._find(self._raw.get(request.id, b""), f"forwarding, {_told(error)}")

    def _raw_of(self, event: str) -> bytes:
        return self._raw.get(event.rpartition("-")[0], b"")

    def _loose_end(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._find(b"", f"{context['message']}: {context.get('exception')!r}")

    def _find(self, raw: bytes, what: str) -> None:
        if len(self._tally.found) < SHOWN:
            self._tally.found.append(f"{what}\n  sent: {raw[:3000]!r}")


@contextmanager
def _quiet() -> Iterator[None]:
    """Log only errors."""
    before = structlog.get_config()
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    try:
        yield
    finally:
        structlog.configure(**before)


def _outputs(
    known: Mapping[str, type[Output]], vendor: str, own: Output | None
) -> Iterator[Output]:
    """Yield the *known* outputs, with *own* in place of that of its *vendor*.

    Outputs that need a configuration are left out.
    """
    for name, output in known.items():
        if own is None or name != vendor:
            with suppress(PluginError):
                yield placeholder_output(output)
    if own is not None:
        yield own


def _went_on(count: int, watch: SettledEvents) -> bool:
    return len(watch.settled) > count


def _told(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{error!r} at {place.filename}:{place.lineno}"


def _config(vendor: str, keys: Sequence[str]) -> Config:
    secrets = tuple(map(Secret, keys))
    settings = Settings(url="https://reader.example")
    return Config(
        path=Path("gateway.toml"),
        server=ServerConfig(listen="127.0.0.1:0", max_body=LARGEST),
        spool=SpoolConfig(path=Path("spool")),
        sources={
            "any": SourceConfig(vendor=vendor, keys="any"),
            "strict": SourceConfig(vendor=vendor, keys=secrets, mount=STRICT),
        },
        destinations={READER: DestinationConfig(vendor=vendor, settings=settings)},
        routes=(RouteConfig(to=(READER,)),),
        consent=ConsentConfig(),
        trace=TraceConfig(enabled=False),
        log=LogConfig(success_rate_limit=0),
        files=ReadFiles(),
    )


@asynccontextmanager
async def _served(gateway: Gateway) -> AsyncIterator[web.Server]:
    runner = GatewayRunner(gateway, shutdown_timeout=1)
    await runner.setup()
    try:
        assert runner.server is not None
        yield runner.server
    finally:
        await runner.cleanup()
    await asyncio.to_thread(check_balance, gateway.config.spool.path)
