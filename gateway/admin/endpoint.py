"""An endpoint of the admin API: a coroutine whose annotations say what it takes and gives.

The same annotations check what comes in and describe it in the OpenAPI document, so that neither
can say what the other does not.
"""

import inspect
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple, get_args, get_type_hints

import msgspec
from aiohttp import web

from gateway.admin.desk import Desk
from gateway.admin.fields import plain
from gateway.admin.problem import Problem
from gateway.json_text import digits

PREFIX = "/api/v1"
JSON = {"content-type": "application/json", "cache-control": "no-store"}

_VARIABLE = re.compile(r"\{(\w+)\}")
_encode = msgspec.json.Encoder(enc_hook=digits).encode


class Endpoint(NamedTuple):
    """One operation.

    Its parameters after the desk are the variables of the path, by name, ``query`` (a struct) for
    the query string, and ``body`` (a struct) for a JSON body.
    """

    method: str
    path: str
    serve: Callable[..., Awaitable[Any]]
    takes: Mapping[str, Any]
    """Parameters to their annotations."""
    gives: Any
    refuses: Mapping[int, str]
    """Statuses of its own to when they come."""
    streams: str = ""
    """The content type of an answer that is no JSON, which ``serve`` writes by itself."""

    @property
    def variables(self) -> list[str]:
        """Return the names of the path's variables."""
        return _VARIABLE.findall(self.path)

    @property
    def summary(self) -> str:
        """Return the first line of its docstring."""
        return (inspect.getdoc(self.serve) or "").partition("\n")[0]

    @property
    def description(self) -> str:
        """Return the rest of its docstring."""
        return plain((inspect.getdoc(self.serve) or "").partition("\n")[2])

    def route(self, desk: Desk) -> web.RouteDef:
        """Return how aiohttp serves it."""

        async def served(http: web.Request) -> web.StreamResponse:
            given = self._given(http, await _body(http) if "body" in self.takes else b"")
            if self.streams:
                answered: web.StreamResponse = await self.serve(desk, http, **given)
                return answered
            answer = await self.serve(desk, **given)
            return web.Response(body=_encode(answer), headers=JSON)

        return web.route(self.method, PREFIX + self._pattern(), served)

    def _pattern(self) -> str:
        # A number and a word may stand in the same place of two paths.
        return _VARIABLE.sub(
            lambda found: f"{{{found[1]}:[0-9]+}}" if _counts(self.takes[found[1]]) else found[0],
            self.path,
        )

    def _given(self, http: web.Request, body: bytes) -> dict[str, Any]:
        """Return what *http* says, as the types that are wanted.

        Raises:
            Problem: it cannot be said so.
        """
        given: dict[str, Any] = {}
        for name, kind in self.takes.items():
            try:
                if name == "query":
                    given[name] = msgspec.convert(_once(http), kind, strict=False)
                elif name == "body":
                    given[name] = msgspec.convert(_whole(msgspec.json.decode(body)), kind)
                else:
                    given[name] = msgspec.convert(http.match_info[name], kind, strict=False)
            except (msgspec.ValidationError, msgspec.DecodeError) as error:
                where = name if name in {"query", "body"} else f"{{{name}}} of the path"
                raise Problem(400, f"{where}: {error}") from None
        return given


def _whole(value: Any) -> Any:
    """Return JSON values with 1.0 as 1, which JSON Schema takes for the same integer."""
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _counts(kind: Any) -> bool:
    return bool(get_args(kind)) and get_args(kind)[0] is int


def _once(http: web.Request) -> dict[str, str]:
    """Return the query string.

    Raises:
        Problem: a name stands twice in it.
    """
    twice = {name for name in http.query if len(http.query.getall(name)) > 1}
    if twice:
        raise Problem(400, f"query: {', '.join(sorted(twice))}: say it once")
    return dict(http.query)


async def _body(http: web.Request) -> bytes:
    if http.content_type != "application/json":
        raise Problem(415, "the body must be JSON; send content-type: application/json")
    return await http.read()


def endpoint(
    method: str, path: str, *, refuses: Mapping[int, str] | None = None, streams: str = ""
) -> Callable[[Callable[..., Awaitable[Any]]], Endpoint]:
    """Return what makes an endpoint of a coroutine."""

    def made(serve: Callable[..., Awaitable[Any]]) -> Endpoint:
        hints = get_type_hints(serve, include_extras=True)
        gives = hints.pop("return")
        takes = {name: kind for name, kind in hints.items() if name not in {"desk", "http"}}
        return Endpoint(method, path, serve, takes, gives, refuses or {}, streams)

    return made
