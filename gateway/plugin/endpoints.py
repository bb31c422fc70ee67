"""Endpoints whose paths hold values, such as the id in ``PUT /customers/{id}``."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Self
from urllib.parse import quote, unquote

from gateway.errors import Fault, Rejected, Unrenderable
from gateway.http import Request
from gateway.mapping import EventMapping

PLACE = re.compile(r"\{(\w+)\}")
DOTS = frozenset({"", ".", ".."})
"""What cannot be a step of a path: clients and proxies take it away (RFC 3986, section 5.2.4)."""


class Endpoints(Mapping[str, EventMapping]):
    """The tables by endpoint, where some paths hold values.

    It lists the endpoints as they are documented, ``"PUT /customers/{id}"``, and finds them by
    what was asked for, ``endpoints["PUT /customers/5"]``. A value is one step of the path.
    """

    def __init__(self, tables: Mapping[str, EventMapping]) -> None:
        self._tables = dict(tables)
        self._patterns = _patterns(tables)

    def __getitem__(self, endpoint: str) -> EventMapping:
        """Return the table of a documented or an actual endpoint."""
        return self._tables[self.documented(endpoint)]

    def __iter__(self) -> Iterator[str]:
        """Yield the endpoints as they are documented."""
        return iter(self._tables)

    def __len__(self) -> int:
        """Return how many are documented."""
        return len(self._tables)

    def documented(self, endpoint: str) -> str:
        """Return an actual *endpoint* as it is documented; as it is, if it is not.

        One that is documented without values goes before one that has the same path by its value.
        """
        if endpoint in self._tables:
            return endpoint
        found = (name for name, shape in self._patterns.items() if shape.fullmatch(endpoint))
        return next(found, endpoint)

    def told(self, request: Request) -> dict[str, str]:
        """Return what the path of *request* tells, by name, percent-decoded.

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
    """Documented endpoints, some of whose paths hold values.

    It lists ``"GET /customers/{id}"``, and ``"GET /customers/5"`` is in it, too.
    """

    _shapes: Mapping[str, re.Pattern[str]]

    def __new__(cls, endpoints: Iterable[str] = ()) -> Self:
        """Return the *endpoints*, as they are documented."""
        made = super().__new__(cls, endpoints)
        made._shapes = _patterns(made)
        return made

    def __contains__(self, endpoint: object) -> bool:
        """Tell whether a documented or an actual endpoint is one of them."""
        if super().__contains__(endpoint):
            return True
        return isinstance(endpoint, str) and any(
            shape.fullmatch(endpoint) for shape in self._shapes.values()
        )


def match_endpoint(endpoints: Mapping[str, EventMapping], request: Request) -> str:
    """Return the endpoint of *request* as *endpoints* list it, if they do."""
    asked = f"{request.method} {request.path}"
    return endpoints.documented(asked) if isinstance(endpoints, Endpoints) else asked


def fill_path(url: str, values: Mapping[str, str]) -> str:
    """Return *url* with *values* in the places of their names, percent-encoded.

    Raises:
        Unrenderable: a value is one that no path can hold.
    """
    for name, value in values.items():
        if value in DOTS:
            raise Unrenderable(f"{name}: {value!r} cannot stand in a path")
        url = url.replace(f"{{{name}}}", quote(value, safe=""))
    return url


def _patterns(endpoints: Iterable[str]) -> dict[str, re.Pattern[str]]:
    """Return the shapes of the *endpoints* whose paths hold values."""
    return {name: _pattern(name) for name in endpoints if PLACE.search(name)}


def _pattern(endpoint: str) -> re.Pattern[str]:
    parts = PLACE.split(endpoint)
    return re.compile(
        "".join(
            f"(?P<{part}>[^/]+)" if index % 2 else re.escape(part)
            for index, part in enumerate(parts)
        )
    )
