"""Build the requests that a configuration describes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, TypedDict
from urllib.parse import quote, urlencode

import orjson
from msgspec.structs import replace

from gateway.plugin import (
    NEVER_LOST,
    Event,
    Loss,
    Request,
    Row,
    Table,
    Template,
    Unrenderable,
    dumps,
    fill_path,
    filled_fields,
    merge_lists,
)
from plugins.http.credentials import FORM, AuthTable
from plugins.http.settings import HttpRequest

TYPES = {"json": "application/json", "form": FORM, "ndjson": "application/x-ndjson"}
"""Content types by encoding."""


UNUSED = "no expression of the request uses it"
COMPUTED = "only what is computed from it is sent,"
LEFT_OUT = "left out, because {} is missing"


class BuiltRequest(Request, frozen=True, kw_only=True, gc=False):
    """A request that knows what it was built from, so that only its like is joined with it."""

    batch: str = ""
    """The entry of ``requests`` if its requests may have several events; else empty."""
    items: tuple[int, ...] = (1,)
    """How many items of the list each of its events has, in order; 1 where there is no list."""


class AnyBody(TypedDict):
    """A body whose keys are in the configuration."""


class RequestTable(Table):
    """What one of the requests writes of an event: the fields that its expressions use.

    Args:
        request: as configured.
    """

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(AnyBody, ())
        parts = ("body", request.body), ("query", request.query), ("headers", request.headers)
        uses = [(name, use) for name, part in parts if part is not None for use in part.uses]
        uses += [("path", use) for use in request.path.uses]
        self._rows = tuple(
            Row(use.wire if part == "body" else f"{part}.{use.wire}".rstrip("."), use.event)
            for part, use in uses
        )
        self._exact = {use.event for _, use in uses if use.exact}
        self._lacks: dict[str, list[Callable[[Event], str]]] = {}
        for _, use in uses:
            self._lacks.setdefault(use.event, []).append(use.missing)
        self._places = {row.event: row.wire for row in self._rows}

    def said(self, event: Event) -> Sequence[Row]:  # noqa: ARG002 - it is the same for all events
        """Return the fields that the request has, each with its place."""
        return self._rows

    def flat(self) -> Iterator[Row]:
        """Yield the fields that the request has, each with its place."""
        yield from self._rows

    def losses(self, event: Event) -> Iterator[Loss]:
        """Yield the fields of *event* that the request lacks, or only computes with."""
        first = {path.replace("[0]", "[]") for path in self._exact if "[0]" in path}
        for path, value in filled_fields(event):
            if path in NEVER_LOST or path.startswith("extra."):
                continue
            if {path, _holder(path)} & self._exact or path in first:
                continue
            names = (path, path.replace("[]", "[0]"), _holder(path))
            name = next((one for one in names if one in self._places), None)
            if name is None:
                yield Loss(path, "lost", value, UNUSED)
                continue
            missing = [lacks(event) for lacks in self._lacks[name]]
            if all(missing):
                yield Loss(path, "lost", value, LEFT_OUT.format(missing[0]))
            else:
                yield Loss(path, "coerced", value, f"{COMPUTED} at {self._places[name]}")
        several = event.properties.products[1:]
        if several and first and not any("products[]" in path for path in self._places):
            yield Loss("properties.products[1:]", "lost", several)


def _holder(path: str) -> str:
    """Return the mapping that has the free key at *path*; empty if it is no free key."""
    head, mark, _ = path.partition(".extra.")
    if mark:
        return f"{head}.extra"
    return "consent" if path.startswith("consent.") else ""


class RequestBuilder:
    """Builds the requests of one entry of ``requests``.

    Args:
        request: as configured.
        label: names it in messages.
        url: scheme and host, and the prefix of its path.
        auth: the credentials of the destination.
        batch_size: the most items of a request with several events.
        batch_bytes: the largest body of such a request.
    """

    def __init__(  # noqa: PLR0913 - the settings that it needs
        self,
        request: HttpRequest,
        label: str,
        url: str,
        auth: AuthTable,
        *,
        batch_size: int,
        batch_bytes: int,
    ) -> None:
        self.config = request
        self.table = RequestTable(request)
        self.endpoint = f"{request.method} {_documented(request.path)}"
        self.label = label
        self._base = url.rstrip("/")
        self._batch_size = batch_size
        self._batch_bytes = batch_bytes
        self._batch = label if request.batches else ""
        self._envelope = {name: one.get_secret_value() for name, one in auth.body.items()}
        secret = auth.path.get_secret_value() if auth.path is not None else ""
        self._secret_path = f"/{secret.strip('/')}" if secret else ""
        self._credentials = {name: one.get_secret_value() for name, one in auth.query.items()}
        body = request.body is not None or bool(self._envelope)
        kind = {"content-type": TYPES[request.encoding]} if body else {}
        self._has_body = body
        self._headers = {**kind, **auth.fixed_headers()}

    def build(self, event: Event) -> BuiltRequest:
        """Return the request of *event*.

        Raises:
            Unrenderable: a value cannot be written, or one that the path needs is missing.
        """
        value = self._body_value(event) if self._has_body else None
        return BuiltRequest(
            method=self.config.method,
            url=self._fixed_url or self._url(event),
            headers=self._fixed_headers or self._with_headers(event),
            body=self._written(value) if self._has_body else b"",
            batch=self._batch,
            items=(self._count(value),) if self._batch else (1,),
        )

    def _count(self, value: Any) -> int:
        """Return the number of items in the list of a body."""
        for name in self.config.batch_path.split(".") if self.config.batch_path else ():
            value = value.get(name) if isinstance(value, dict) else None
        return len(value) if isinstance(value, list | tuple) else 1

    @cached_property
    def _fixed_url(self) -> str:
        """Return the URL if it is the same for all events; else nothing."""
        path, query = self.config.path, self.config.query
        fixed = path.constant and (query is None or query.constant)
        return self._url(_NOBODY) if fixed else ""

    @cached_property
    def _fixed_headers(self) -> Mapping[str, str]:
        """Return the headers if they are the same for all events; else nothing."""
        headers = self.config.headers
        return self._with_headers(_NOBODY) if headers is None or headers.constant else {}

    def _url(self, event: Event) -> str:
        path = self._value(self.config.path, "path", event)
        if isinstance(path, list):
            path = self._joined(path)
        query = self._value(self.config.query, "query", event) or {}
        fields = [
            (name, text)
            for name, value in {**query, **self._credentials}.items()
            for text in self._texts(value, f"query.{name}")
        ]
        path = f"{path}{self._secret_path}"
        asked = urlencode(fields, quote_via=quote)
        return f"{self._base}{path}?{asked}" if asked else f"{self._base}{path}"

    def _joined(self, segments: Sequence[Any]) -> str:
        if len(segments) != len(self.config.path.raw):
            raise Unrenderable(f"{self.label}.path: a value that it needs is missing")
        texts = [_text(one) for one in segments]
        named = {f"segment_{number}": text for number, text in enumerate(texts)}
        try:
            return fill_path("".join(f"/{{{name}}}" for name in named), named)
        except Unrenderable as error:
            raise Unrenderable(f"{self.label}.path: {error}") from error

    def _with_headers(self, event: Event) -> Mapping[str, str]:
        own = self._value(self.config.headers, "headers", event) or {}
        found = dict(self._headers)
        for name, value in own.items():
            text = ", ".join(self._texts(value, f"headers.{name}"))
            if any(ord(one) < ord(" ") or one == "\x7f" for one in text):
                raise Unrenderable(f"{self.label}.headers.{name}: has a control character")
            found[name.lower()] = text
        return found

    def _texts(self, value: Any, place: str) -> Iterator[str]:
        for one in value if isinstance(value, list | tuple) else (value,):
            if isinstance(one, dict | list | tuple):
                raise Unrenderable(f"{self.label}.{place}: a table cannot stand here")
            if one is not None:
                yield _text(one)

    def _body_value(self, event: Event) -> Any:
        """Return the body of *event*, with the credentials that belong in it."""
        value = self._value(self.config.body, "body", event)
        if not self._envelope:
            return value
        several = isinstance(value, list)
        tables = [{**(one or {}), **self._envelope} for one in (value if several else [value])]
        return tables if several else tables[0]

    def _written(self, value: Any) -> bytes:
        if self.config.encoding == "form":
            fields = [
                (name, text)
                for name, held in value.items()
                for text in self._texts(held, f"body.{name}")
            ]
            return urlencode(fields).encode()
        try:
            if self.config.encoding == "json":
                return dumps({} if value is None else value)
            lines = value if isinstance(value, list) else [{} if value is None else value]
            return b"".join(dumps(line) + b"\n" for line in lines)
        except orjson.JSONEncodeError as error:
            raise Unrenderable(f"{self.label}.body: cannot be written as JSON: {error}") from error

    def _value(self, template: Template | None, part: str, event: Event) -> Any:
        try:
            return None if template is None else template.build(event)
        except Unrenderable as error:
            raise Unrenderable(f"{self.label}.{part}: {error}") from error

    def join(self, request: BuiltRequest, further: BuiltRequest) -> BuiltRequest | None:
        """Return one request with the events of both; None if they do not fit together."""
        items = request.items + further.items
        if not request.batch == further.batch == self._batch or sum(items) > self._batch_size:
            return None
        if self.config.encoding == "json":
            path = self.config.batch_path
            joined = merge_lists(request, further, path, max_bytes=self._batch_bytes)
            return None if joined is None else replace(request, body=joined.body, items=items)
        same = (request.method, request.url, request.headers) == (
            further.method, further.url, further.headers,
        )  # fmt: skip
        body = request.body + further.body
        if not same or len(body) > self._batch_bytes:
            return None
        return replace(request, body=body, items=items)


_NOBODY = Event(type="track")
"""Stands for any event where all give the same."""


def _documented(path: Template) -> str:
    """Return a path as in the configuration, with its expressions in braces."""
    if isinstance(path.raw, str):
        return path.raw or "/"
    return "".join(f"/{_segment(str(one))}" for one in path.raw)


def _segment(raw: str) -> str:
    return f"{{{raw[1:].strip()}}}" if raw.startswith("=") else raw


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else dumps(value).decode()
