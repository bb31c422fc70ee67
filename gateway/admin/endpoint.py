"""Define endpoints of the admin API, and make the OpenAPI document from them.

The same annotations validate requests and describe them in the document, so the two cannot differ.
"""

import ast
import inspect
import itertools
import re
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from functools import cache
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any, NamedTuple, get_args, get_type_hints

import msgspec
from aiohttp import web
from msgspec import Meta

from gateway.admin.audit import entry_of
from gateway.admin.auth import CALLER, CSRF_HEADER, SAFE, check_role
from gateway.admin.caller import Caller
from gateway.admin.context import CONTENT_TYPE, AdminContext, ApiProblem, ProblemDetails
from gateway.config.operations import Role
from gateway.ingest.off_loop import OffLoop
from gateway.json_text import digits


def plain(docstring: str) -> str:
    """Return a docstring as one paragraph of Markdown."""
    return " ".join(docstring.split()).replace("``", "`")


def structs(kind: Any) -> Iterator[type[msgspec.Struct]]:
    """Yield the structs in *kind*, itself and nested ones."""
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        yield kind
        for hint in get_type_hints(kind).values():
            yield from structs(hint)
    for part in get_args(kind):
        yield from structs(part)


def said(kind: type[msgspec.Struct]) -> dict[str, str]:
    """Return the docstrings of a struct's fields, inherited ones included, by field."""
    found: dict[str, str] = {}
    for one in reversed(kind.__mro__):
        if issubclass(one, msgspec.Struct) and one is not msgspec.Struct:
            found |= dict(_own(one))
    return found


def _own(kind: type[msgspec.Struct]) -> Iterator[tuple[str, str]]:
    body = _classes(kind.__module__).get(kind.__name__, [])
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            match text:
                case ast.Expr(value=ast.Constant(value=str(words))):
                    yield field.target.id, plain(words)


@cache
def _classes(module: str) -> Mapping[str, list[ast.stmt]]:
    """Return the bodies of a module's classes by name; parsing is most of what a document costs."""
    parsed = ast.parse(inspect.getsource(sys.modules[module])).body
    return {one.name: one.body for one in parsed if isinstance(one, ast.ClassDef)}


PREFIX = "/api/v1"
LARGEST_BODY = 256 * 1024
"""Bytes of the body of a usual call."""
JSON = {"content-type": "application/json", "cache-control": "no-store"}

GIVEN = frozenset({"context", "http", "caller"})
"""Parameters that are not part of a call."""
_VARIABLE = re.compile(r"\{(\w+)\}")
_encode = msgspec.json.Encoder(enc_hook=digits).encode


def _no_detail(_given: Mapping[str, Any], _answer: Any) -> str:
    return ""


def _named(given: Mapping[str, Any], _answer: Any) -> str:
    return str(given.get("name", ""))


class Endpoint(NamedTuple):
    """One operation.

    The parameters of ``serve`` after the context are the variables of the path by name, ``query``
    (a struct) for the query string, ``body`` (a struct) for a JSON body, and ``caller``.
    """

    method: str
    path: str
    serve: Callable[..., Awaitable[Any]]
    takes: Mapping[str, Any]
    """The annotations of the parameters."""
    gives: Any
    refuses: Mapping[int, str]
    """Its own error statuses, with when they occur."""
    role: Role
    """What its callers must be; what an operator does is recorded."""
    streams: str = ""
    """The content type of a response that is not JSON and that ``serve`` writes itself."""
    detail: Callable[[Mapping[str, Any], Any], str] = _no_detail
    """Returns what the audit log tells of the arguments and the answer."""
    target: Callable[[Mapping[str, Any], Any], str] = _named
    """Returns on what it acts, of the arguments and the answer; None is the answer of a failure."""
    largest_body: int | Callable[[AdminContext], int] = LARGEST_BODY
    """Bytes of the largest body, or a function that returns them."""

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

    def route(self, context: AdminContext) -> web.RouteDef:
        """Return the aiohttp route."""
        off_loop = OffLoop()

        async def served(http: web.Request) -> web.StreamResponse:
            caller = http[CALLER]
            check_role(caller, self.role)
            most = self.largest_body
            limit = most if isinstance(most, int) else most(context)
            body = await _body(http, limit) if "body" in self.takes else b""
            given = await off_loop(len(body), self._given, http, body)
            if self.streams:
                answered: web.StreamResponse = await self.serve(context, http, **given)
                return answered
            if self.by_caller:
                given["caller"] = caller
            if self.role == "operator":
                answer = await self._recorded(context, caller, given)
            else:
                answer = await self.serve(context, **given)
            return web.Response(body=_encode(answer), headers=JSON)

        return web.route(self.method, PREFIX + self._pattern(), served)

    @property
    def by_caller(self) -> bool:
        """Return whether the answer depends on who calls."""
        return "caller" in inspect.signature(self.serve).parameters

    async def _recorded(self, context: AdminContext, caller: Caller, given: dict[str, Any]) -> Any:
        """Return the answer, and record who asked for it."""
        answer, detail, error = None, "", ""
        try:
            answer = await self.serve(context, **given)
            detail = self.detail(given, answer)
        except Exception as problem:
            error = context.hide(str(problem)) or type(problem).__name__
            raise
        finally:
            target = self.target(given, answer)
            action = self.serve.__name__
            await context.record(
                entry_of(caller, action, target=target, detail=detail, error=error)
            )
        return answer

    def _pattern(self) -> str:
        # Two paths may differ only in a number and a word at the same place.
        return _VARIABLE.sub(
            lambda found: f"{{{found[1]}:[0-9]+}}" if _counts(self.takes[found[1]]) else found[0],
            self.path,
        )

    def _given(self, http: web.Request, body: bytes) -> dict[str, Any]:
        """Return the arguments from *http*, converted to their types.

        Raises:
            ApiProblem: a value is invalid.
        """
        given: dict[str, Any] = {}
        for name, kind in self.takes.items():
            try:
                if name == "query":
                    given[name] = msgspec.convert(_once(http), kind, strict=False)
                elif name == "body":
                    given[name] = _read(body, kind)
                else:
                    given[name] = msgspec.convert(http.match_info[name], kind, strict=False)
            except (msgspec.ValidationError, msgspec.DecodeError) as error:
                where = name if name in {"query", "body"} else f"{{{name}}} of the path"
                raise ApiProblem(400, f"{where}: {error}") from None
        return given


def _read(body: bytes, kind: Any) -> Any:
    """Return JSON as *kind*; a usual body may have 1.0 for 1."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError:
        # Plain objects take many times the memory of a large body.
        if len(body) > LARGEST_BODY:
            raise
    return msgspec.convert(_whole(msgspec.json.decode(body)), kind)


def _whole(value: Any) -> Any:
    """Return JSON values with 1.0 as 1: in JSON Schema both are the same integer."""
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _counts(kind: Any) -> bool:
    return bool(get_args(kind)) and get_args(kind)[0] is int


def _once(http: web.Request) -> dict[str, str]:
    """Return the parameters of the query string.

    Raises:
        ApiProblem: a name occurs twice.
    """
    twice = {name for name in http.query if len(http.query.getall(name)) > 1}
    if twice:
        raise ApiProblem(400, f"query: {', '.join(sorted(twice))} occurs twice; give it once")
    return dict(http.query)


async def _body(http: web.Request, limit: int) -> bytes:
    if http.content_type != "application/json":
        raise ApiProblem(415, "the body must be JSON; send content-type: application/json")
    try:
        return await http.clone(client_max_size=limit).read()
    except web.HTTPRequestEntityTooLarge as error:
        raise ApiProblem(413, f"{error.reason}: the limit is {limit:,} bytes") from None


def endpoint(  # noqa: PLR0913 - each is a property of the endpoint
    method: str,
    path: str,
    *,
    refuses: Mapping[int, str] | None = None,
    streams: str = "",
    role: Role | None = None,
    detail: Callable[[Mapping[str, Any], Any], str] = _no_detail,
    target: Callable[[Mapping[str, Any], Any], str] = _named,
    largest_body: int | Callable[[AdminContext], int] = LARGEST_BODY,
) -> Callable[[Callable[..., Awaitable[Any]]], Endpoint]:
    """Return a decorator that makes an endpoint of a coroutine.

    Args:
        method: of its calls.
        path: below the prefix.
        refuses: its own error statuses, with when they occur.
        streams: the content type if it writes its response itself.
        role: what its callers must be; by default operators for what is not a GET.
        detail: returns what the audit log tells of the arguments and the answer.
        target: returns on what it acts, by default the name in the path; the answer of a failure is
            None.
        largest_body: bytes of the largest body, or a function that returns them.
    """

    def made(serve: Callable[..., Awaitable[Any]]) -> Endpoint:
        hints = get_type_hints(serve, include_extras=True)
        gives = hints.pop("return")
        takes = {name: kind for name, kind in hints.items() if name not in GIVEN}
        needs = role or ("viewer" if method in SAFE else "operator")
        return Endpoint(
            method,
            path,
            serve,
            takes,
            gives,
            refuses or {},
            needs,
            streams,
            detail,
            target,
            largest_body,
        )

    return made


REF = "#/components/schemas/{name}"
ALWAYS = {
    401: "The token is missing or wrong.",
    421: "The gateway is called under a name that is not in `hosts`.",
    503: "The spool or the traces' file cannot be used now.",
}
INFO = {
    "title": "Gateway admin API",
    "description": "Show and control a running gateway. See docs/admin.md.",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the OpenAPI document of *endpoints*."""
    endpoints = list(endpoints)
    kinds = [ProblemDetails, *(kind for found in endpoints for kind in _kinds(found))]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    for struct in (one for kind in kinds for one in structs(kind)):
        component = components[struct.__name__]
        component["description"] = plain(component["description"])
        for name, words in said(struct).items():
            component["properties"][name]["description"] = words
    known = iter(schemas)
    problem = next(known)
    paths: dict[str, dict[str, Any]] = {}
    for found in endpoints:
        shown = {name: next(known) for name in (*found.takes, *_answer(found))}
        operation = _operation(found, shown, components, problem)
        paths.setdefault(PREFIX + found.path, {})[found.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {**INFO, "version": version("cdp-gateway")},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _kinds(found: Endpoint) -> list[Any]:
    return [*found.takes.values(), *_answer(found).values()]


def _answer(found: Endpoint) -> Mapping[str, Any]:
    return {} if found.streams else {"return": found.gives}


def _operation(
    found: Endpoint, shown: Mapping[str, Any], components: Mapping[str, Any], problem: Any
) -> dict[str, Any]:
    refusals = {**ALWAYS, **found.refuses}
    if found.takes:
        refusals[400] = "The request is invalid, or names something that does not exist."
    operation: dict[str, Any] = {
        "operationId": found.serve.__name__,
        "summary": found.summary,
        "parameters": [*_variables(found, shown), *_query(found, shown, components)],
        "responses": {"200": _good(found, shown)},
    }
    if found.description:
        operation["description"] = found.description
    if found.method not in SAFE:
        refusals[403] = (
            f"The header {CSRF_HEADER} is missing, or the call comes from a page of another origin"
            f"{', or the caller is a viewer' if found.role == 'operator' else ''}."
        )
        constant = {"type": "string", "const": "1"}
        operation["parameters"].append(
            {"name": CSRF_HEADER, "in": "header", "required": True, "schema": constant}
        )
    if "body" in found.takes:
        refusals |= {413: "The body is too large.", 415: "The body is not JSON."}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": shown["body"]}},
        }
    for status, when in sorted(refusals.items()):
        content = {CONTENT_TYPE: {"schema": problem}}
        operation["responses"][str(status)] = {
            "description": when or HTTPStatus(status).phrase,
            "content": content,
        }
    return operation


def _good(found: Endpoint, shown: Mapping[str, Any]) -> dict[str, Any]:
    if found.streams:
        return {"description": "A stream of events.", "content": {found.streams: {}}}
    return {"description": "Success.", "content": {"application/json": {"schema": shown["return"]}}}


def _variables(found: Endpoint, shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": shown[name]}
        for name in found.variables
    ]


def _query(
    found: Endpoint, shown: Mapping[str, Any], components: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if "query" not in found.takes:
        return []
    held = components[shown["query"]["$ref"].rpartition("/")[2]]
    return [
        {"name": name, "in": "query", "required": name in held.get("required", ()), "schema": kind}
        for name, kind in held["properties"].items()
    ]


Name = Annotated[
    str, Meta(pattern="^[a-z0-9][a-z0-9_-]*$", description="A name in the configuration.")
]
Number = Annotated[int, Meta(ge=1, le=2**53)]
"""An id that the gateway assigned."""
Offset = Annotated[int, Meta(ge=0, le=2**53)]
Limit = Annotated[int, Meta(ge=1, le=500, description="The maximum number of items.")]
Seconds = Annotated[float, Meta(ge=0, le=1e11, description="Unix seconds.")]
Text = Annotated[str, Meta(min_length=1, max_length=500)]
