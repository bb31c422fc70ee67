"""Endpoints with values in their paths, such as the id in ``PUT /customers/{id}``."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Self
from urllib.parse import quote, unquote

from gateway.errors import Fault, Rejected, Unrenderable
from gateway.http import Request
from gateway.mapping import EventMapping

PLACE = re.compile(r"\{(\w+)\}")
DOTS = frozenset({"", ".", ".."})
"""Invalid path segments: clients and proxies remove them (RFC 3986, section 5.2.4)."""


class Endpoints(Mapping[str, EventMapping]):
    """Tables by endpoint, with values in some paths.

    It lists the documented endpoints, ``"PUT /customers/{id}"``, and finds them by the requested
    ones, ``endpoints["PUT /customers/5"]``. A value is one segment of the path.
    """

    def __init__(self, tables: Mapping[str, EventMapping]) -> None:
        self._tables = dict(tables)
        self._patterns = _patterns(tables)

    def __getitem__(self, endpoint: str) -> EventMapping:
        """Return the table of a documented or requested endpoint."""
        return self._tables[self.documented(endpoint)]

    def __iter__(self) -> Iterator[str]:
        """Yield the documented endpoints."""
        return iter(self._tables)

    def __len__(self) -> int:
        """Return the number of documented endpoints."""
        return len(self._tables)

    def documented(self, endpoint: str) -> str:
        """Return the documented endpoint of a requested one; *endpoint* itself if there is none.

        An endpoint without values takes precedence over one whose values match.
        """
        if endpoint in self._tables:
            return endpoint
        found = (name for name, shape in self._patterns.items() if shape.fullmatch(endpoint))
        return next(found, endpoint)

    def told(self, request: Request) -> dict[str, str]:
        """Return the values in the path of *request* by name, percent-decoded.

        Raises:
            Rejected: a value is not UTF-8.
        """
        endpoint = f"{request.method} {request.path}"
        pattern = self._patterns.get(self.documented(endpoint))
        found = None if pattern is None else pattern.fullmatch(endpoint)
        values = {} if found is None else found.groupdict()
        try:
            return {name: unquote(value, errors="strict") for name, value in values.items()}
        except UnicodeDecodeError as error:
            raise Rejected("$", "the path is not UTF-8", Fault.VALUE) from error


class EndpointSet(frozenset[str]):
    """A set of documented endpoints, with values in some paths.

    It lists ``"GET /customers/{id}"``, and also contains ``"GET /customers/5"``.
    """

    _shapes: Mapping[str, re.Pattern[str]]

    def __new__(cls, endpoints: Iterable[str] = ()) -> Self:
        """Return a set of documented *endpoints*."""
        made = super().__new__(cls, endpoints)
        made._shapes = _patterns(made)
        return made

    def __contains__(self, endpoint: object) -> bool:
        """Return whether a documented or requested endpoint is in the set."""
        if super().__contains__(endpoint):
            return True
        return isinstance(endpoint, str) and any(
            shape.fullmatch(endpoint) for shape in self._shapes.values()
        )


def match_endpoint(endpoints: Mapping[str, EventMapping], request: Request) -> str:
    """Return the endpoint of *request* as listed in *endpoints*, or as requested."""
    asked = f"{request.method} {request.path}"
    return endpoints.documented(asked) if isinstance(endpoints, Endpoints) else asked


def fill_path(url: str, values: Mapping[str, str]) -> str:
    """Return *url* with *values* instead of their names, percent-encoded.

    Raises:
        Unrenderable: a value is not allowed in a path.
    """
    for name, value in values.items():
        if value in DOTS:
            raise Unrenderable(f"{name}: {value!r} is not allowed in a path")
        url = url.replace(f"{{{name}}}", quote(value, safe=""))
    return url


def _patterns(endpoints: Iterable[str]) -> dict[str, re.Pattern[str]]:
    """Return a pattern for each of the *endpoints* with values in its path."""
    return {name: _pattern(name) for name in endpoints if PLACE.search(name)}


def _pattern(endpoint: str) -> re.Pattern[str]:
    parts = PLACE.split(endpoint)
    return re.compile(
        "".join(
            f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        )
    )
