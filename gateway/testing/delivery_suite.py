"""The delivery suite: test an output against a scripted vendor over real sockets."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import ClassVar, NamedTuple

import aiohttp
import orjson
import pytest
from aiohttp import web

from gateway.app import Gateway
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
from gateway.errors import Unrenderable
from gateway.event import Event
from gateway.http import Request, Response
from gateway.plugin.registry import PluginRegistry, load_plugins
from gateway.plugin.vendor import Input, Output
from gateway.spool import DeadLetter, QueueDepth
from gateway.testing.live_gateway import PATIENCE, SettledEvents, serving
from gateway.testing.plugin_watch import PluginSuite
from gateway.testing.samples import EVENTS, PATH, NeutralInput, load_samples, request_of
from gateway.verdict import Declined, Delivered, Refused


class ConnectionFault(Enum):
    """What a scripted vendor does instead of responding."""

    RESET = "reset"
    """It drops the connection after it has read the request."""
    HANG = "hang"
    """It never responds."""


Step = int | Response | ConnectionFault
"""A status alone is a response without a body; 200 stands for the vendor's success response."""
BUSY = Response(429, {"retry-after": "1"})
SCRIPTS: dict[str, tuple[Step, ...]] = {
    "well": (),
    "failing": (500, 502, 503, 504),
    "busy": (200, BUSY),
    "reset": (ConnectionFault.RESET, 200, ConnectionFault.RESET),
    "silent": (ConnectionFault.HANG, 200, ConnectionFault.HANG),
    "refusing": (400, 200, 422),
    "everything": (
        200, 500, BUSY, ConnectionFault.RESET, 400, ConnectionFault.HANG, 503, 200, 404,
        ConnectionFault.RESET, 500, 200,
    ),
}  # fmt: skip
"""What a vendor does with the first attempts; it accepts all later ones."""


class ReceivedAttempt(NamedTuple):
    """An attempt that the vendor received."""

    at: float
    """Seconds of the event loop's clock."""
    status: int | None
    """The status of the response; None without one."""


class ScriptedVendor:
    """Responds to attempts as *script* says, and after its end with *success*.

    Attributes:
        met: every attempt, in order of arrival.
    """

    def __init__(self, script: Sequence[Step], success: Response) -> None:
        self._script = script
        self._success = success
        self._over = asyncio.Event()
        self.met: list[ReceivedAttempt] = []

    def app(self) -> web.Application:
        """Return the vendor as an application."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    def end(self) -> None:
        """Finish the attempts that hang."""
        self._over.set()

    async def _answer(self, http: web.Request) -> web.Response:
        await http.read()
        turn = len(self.met)
        step = self._script[turn] if turn < len(self._script) else 200
        said = _said(step, self._success)
        status = None if said is None else said.status
        self.met.append(ReceivedAttempt(asyncio.get_running_loop().time(), status))
        if step is ConnectionFault.HANG:
            await self._over.wait()
        if step is ConnectionFault.RESET and http.transport is not None:
            http.transport.abort()
        if said is None:
            return web.Response()
        return web.Response(status=said.status, headers=said.headers, body=said.body)


def _said(step: Step, success: Response) -> Response | None:
    if isinstance(step, ConnectionFault):
        return None
    if step == 200:
        return success
    return Response(step) if isinstance(step, int) else step


VENDOR = "vendor"
"""The name of the only destination."""
SILENCE = 1.0
"""The timeout of an attempt in seconds, for scripts with hanging attempts."""
DRAIN = 1.0
"""Seconds that the gateway waits at its end for attempts: only a plugin's fault leaves any."""
HASTE = 0.05
"""Seconds by which two clocks may differ over one second."""


@dataclass(frozen=True)
class DeliveryReport:
    """The outcome of all events that were sent.

    Attributes:
        sent: how many events were accepted.
        settled: the ids of the settled events, by verdict.
        met: every attempt that the vendor received.
        depth: the backlog in the spool.
        dead: the dead letters.
    """

    sent: int
    settled: dict[type, list[str]]
    met: list[ReceivedAttempt]
    depth: QueueDepth
    dead: list[DeadLetter]


class DeliverySuite(PluginSuite):
    """Tests that no event is lost or delivered twice when a destination fails.

    The gateway runs as in production, with HTTP server, spool and connections; the vendor is a
    scripted one. The tests send the kit's neutral events, and the samples if there are any. They
    need no pytest plugin.
    """

    output: ClassVar[Output]
    """An output of the vendor; its URL is replaced by that of the scripted vendor."""
    input: ClassVar[Input | None] = None
    """The vendor's input, if it has one."""
    samples: ClassVar[Path | None] = None
    """The folder of its samples."""
    success: ClassVar[Response] = Response(200)
    """The vendor's response to a request that it accepts."""

    @pytest.mark.parametrize("script", SCRIPTS.values(), ids=SCRIPTS.keys())
    def test_every_event_has_one_end(self, script: Sequence[Step]) -> None:
        """Delivered, dead and declined events add up to the routed ones; none has two outcomes."""
        account = asyncio.run(self._run(script))
        delivered, dead, declined = (
            account.settled.get(end, []) for end in (Delivered, Refused, Declined)
        )
        ends = Counter([*delivered, *dead, *declined])
        assert len(delivered) + len(dead) + len(declined) == account.sent
        assert set(ends.values()) <= {1}, [event for event, times in ends.items() if times > 1]
        owed = account.depth
        assert (owed.backlog, owed.retrying, owed.parked) == (0, 0, 0)
        assert len(account.dead) == len(dead), "each refused event must become a dead letter"
        refused = sum(letter.cause == "refused" for letter in account.dead)
        self._check_answers(account, len(delivered), refused)

    def _check_answers(self, account: DeliveryReport, delivered: int, refused: int) -> None:
        """Compare the outcomes of events with the vendor's responses."""
        said = [met.status for met in account.met if met.status is not None]
        taken = said.count(self.success.status)
        noes = sum(400 <= status < 500 and status != BUSY.status for status in said)
        if self.output.batch_size == 1:
            assert (delivered, refused) == (taken, noes), "outcomes must match the responses"
        else:
            assert taken <= delivered
            assert refused <= noes

    def test_waits_as_long_as_it_is_asked_to(self) -> None:
        """After 429 with Retry-After, the next attempt waits for that time."""
        account = asyncio.run(self._run((BUSY,), self._first()))
        assert len(account.met) == 2, "expected two attempts"
        first, again = account.met
        waited = again.at - first.at
        assert waited >= 1 - HASTE, f"retried after {waited:.2f} s instead of 1 s"

    def _first(self) -> Event:
        """Return the first of the kit's events that the output renders."""
        for event in EVENTS:
            with suppress(Unrenderable):
                if isinstance(self.output.render(event), Request):
                    return event
        pytest.fail("the output renders none of the neutral events")

    async def _run(self, script: Sequence[Step], only: Event | None = None) -> DeliveryReport:
        watch = SettledEvents()
        vendor = ScriptedVendor(script, self.success)
        async with (
            serving(vendor.app()) as address,
            self._gateway(address, watch, _timeout(script)) as (gateway, url),
        ):
            sent = await self._send(url, only)
            try:
                await watch.until(lambda watch: len(watch.settled) >= sent)
            except TimeoutError:
                pytest.fail(f"{sent - len(watch.settled)} of {sent} events have no outcome")
            finally:
                vendor.end()
            async with asyncio.timeout(PATIENCE):
                await gateway.stop_team(VENDOR)
            dead = await gateway.spool.dead_letters(limit=sent + 1)
            depth = (await gateway.spool.depths())[VENDOR]
        settled: dict[type, list[str]] = {}
        for event, _, verdict in watch.settled:
            settled.setdefault(type(verdict), []).append(event.id)
        assert len(watch.accepted) == sent
        return DeliveryReport(sent, settled, vendor.met, depth, dead)

    @asynccontextmanager
    async def _gateway(
        self, vendor: str, watch: SettledEvents, patience: float
    ) -> AsyncIterator[tuple[Gateway, str]]:
        with TemporaryDirectory(prefix="gateway-kit-") as folder:
            config = self._config(Path(folder), vendor, patience)
            gateway = Gateway(config, self._registry(watch))
            async with serving(gateway) as url:
                yield gateway, url

    def _registry(self, watch: SettledEvents) -> PluginRegistry:
        found = load_plugins([watch.plugin()])
        inputs: dict[str, type[Input]] = {**found.inputs, NeutralInput.name: NeutralInput}
        if self.input is not None:
            inputs[self.input.name] = type(self.input)
        outputs = {**found.outputs, self.output.name: type(self.output)}
        return replace(found, inputs=inputs, outputs=outputs)

    def _config(self, folder: Path, vendor: str, patience: float) -> Config:
        sources = {"neutral": SourceConfig(vendor=NeutralInput.name, keys="any", mount="/kit")}
        if self.input is not None:
            sources["own"] = SourceConfig(vendor=self.input.name, keys="any")
        destination = DestinationConfig(
            vendor=self.output.name,
            settings=self.output.config.model_copy(update={"url": vendor}),
            timeout=patience,
            retry_min=0.01,
            retry_max=0.05,
            passthrough=False,
        )
        return Config(
            path=folder / "gateway.toml",
            server=ServerConfig(listen="127.0.0.1:0", drain_timeout=DRAIN),
            spool=SpoolConfig(path=folder / "spool"),
            sources=sources,
            destinations={VENDOR: destination},
            routes=(RouteConfig(to=(VENDOR,)),),
            consent=ConsentConfig(),
            trace=TraceConfig(),
            log=LogConfig(),
            files=ReadFiles(),
        )

    async def _send(self, url: str, only: Event | None) -> int:
        """Send all events, or only one of the kit's; return their number."""
        sent = 0
        async with aiohttp.ClientSession() as client:
            for number, event in enumerate(EVENTS):
                if only is None or event is only:
                    await _post(client, f"{url}/kit{PATH}", orjson.dumps({"number": number}))
                    sent += 1
            if self.input is not None and self.samples is not None and only is None:
                for sample in load_samples(self.samples).values():
                    request = request_of(sample)
                    await _post(client, url + request.url, request.body, request)
                    sent += len(sample["events"])
        return sent


def _timeout(script: Sequence[Step]) -> float:
    """Return the timeout of an attempt.

    It is long unless the script has hanging attempts: on a busy machine, a response after the
    timeout would be counted by the vendor only.
    """
    return SILENCE if ConnectionFault.HANG in script else PATIENCE


async def _post(
    client: aiohttp.ClientSession, url: str, body: bytes, like: Request | None = None
) -> None:
    method, headers = (like.method, like.headers) if like else ("POST", {})
    async with client.request(method, url, data=body, headers=headers) as answer:
        said = await answer.read()
        assert answer.status < 400, f"{url}: {answer.status} {said[:200]!r}"
