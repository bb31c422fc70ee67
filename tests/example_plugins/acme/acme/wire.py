"""Acme's payload, with Acme's field names: https://acme.example/docs/events."""

from typing import Any, TypedDict


class Thing(TypedDict, total=False):
    """The body of ``POST /v1/events``."""

    what: str
    who: str | int
    visitor: str
    cookie: str
    at: int | float
    page: str
    product: str | int
    more: dict[str, Any]
