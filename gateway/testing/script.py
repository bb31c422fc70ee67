"""A vendor that answers by a script, over real sockets."""

import asyncio
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from aiohttp import web

from gateway.exchange import Response


class Trouble(Enum):
    """What may come instead of an answer."""

    RESET = "reset"
    """The connection is lost when the request is read."""
    HANG = "hang"
    """No answer comes at all."""


Step = int | Response | Trouble
"""A status alone is an answer without body; 200 is what the vendor answers to what it takes."""
BUSY = Response(429, {"retry-after": "1"})
SCRIPTS: dict[str, tuple[Step, ...]] = {
    "well": (),
    "failing": (500, 502, 503, 504),
    "busy": (200, BUSY),
    "reset": (Trouble.RESET, 200, Trouble.RESET),
    "silent": (Trouble.HANG, 200, Trouble.HANG),
    "refusing": (400, 200, 422),
    "everything": (
        200, 500, BUSY, Trouble.RESET, 400, Trouble.HANG, 503, 200, 404, Trouble.RESET, 500, 200,
    ),
}  # fmt: skip
"""What a vendor may do with the first attempts that it gets; it takes all that come later."""


class Met(NamedTuple):
    """An attempt that came in."""

    at: float
    """Seconds of the event loop's clock."""
    status: int | None
    """How it was answered; None where it was not."""


class ScriptedVendor:
    """Answers one attempt after the other as *script* says, and those after it with *success*.

    Attributes:
        met: every attempt, in the order in which they came in.
    """

    def __init__(self, script: Sequence[Step], success: Response) -> None:
        self._script = script
        self._success = success
        self._over = asyncio.Event()
        self.met: list[Met] = []

    def app(self) -> web.Application:
        """Return what to serve."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._answer)
        return app

    def end(self) -> None:
        """Let go of the attempts that were kept waiting."""
        self._over.set()

    async def _answer(self, http: web.Request) -> web.Response:
        await http.read()
        turn = len(self.met)
        step = self._script[turn] if turn < len(self._script) else 200
        said = _said(step, self._success)
        status = None if said is None else said.status
        self.met.append(Met(asyncio.get_running_loop().time(), status))
        if step is Trouble.HANG:
            await self._over.wait()
        if step is Trouble.RESET and http.transport is not None:
            http.transport.abort()
        if said is None:
            return web.Response()
        return web.Response(status=said.status, headers=said.headers, body=said.body)


def _said(step: Step, success: Response) -> Response | None:
    if isinstance(step, Trouble):
        return None
    if step == 200:
        return success
    return Response(step) if isinstance(step, int) else step
