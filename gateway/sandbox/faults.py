"""Planned faults: let a vendor fail, respond slowly or drop connections for some requests."""

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

import msgspec
import orjson

from gateway.errors import GatewayError
from gateway.sandbox.checks import one_of

LONGEST_DELAY: Final = 3600.0
"""Seconds."""


class BadFaultError(GatewayError):
    """A fault's description is invalid; the message names the key and the allowed values."""


class UnknownVendorError(GatewayError):
    """The sandbox has no vendor with this name."""

    def __init__(self, name: object, vendors: Collection[str]) -> None:
        super().__init__(f"there is no vendor {name!r}; use {one_of(sorted(vendors))}")


class PlannedFault(msgspec.Struct, omit_defaults=True):
    """A fault for the next ``count`` requests of a vendor.

    First the response is delayed for ``delay`` seconds. Then the connection is dropped (``reset``),
    or the response has ``status``; otherwise the vendor responds as usual. ``retry_after`` is sent
    unchanged in the header of that name (RFC 9110, section 10.2.3).
    """

    vendor: str
    count: int
    status: int | None = None
    delay: float = 0.0
    reset: bool = False
    retry_after: str | None = None

    @property
    def reason(self) -> str:
        """Return the text for the journal."""
        if self.reset:
            return "a planned fault dropped the connection"
        return f"a planned fault responded {self.status}"


class FaultPlan:
    """The planned faults, at most one for each vendor."""

    def __init__(self, vendors: Collection[str]) -> None:
        self._vendors = vendors
        self._planned: dict[str, PlannedFault] = {}

    def plan(self, description: bytes) -> PlannedFault:
        """Replace a vendor's fault by the one described in JSON; ``count`` 0 removes it.

        Raises:
            BadFaultError: the description is invalid.
            UnknownVendorError: the sandbox has no such vendor.
        """
        fault = _read(description, self._vendors)
        self._planned.pop(fault.vendor, None)
        if fault.count:
            self._planned[fault.vendor] = fault
        return fault

    def take(self, vendor: str) -> PlannedFault | None:
        """Return the fault for the next request of ``vendor``, and decrement its count."""
        fault = self._planned.get(vendor)
        if fault:
            fault.count -= 1
            if not fault.count:
                del self._planned[vendor]
        return fault

    def clear(self) -> None:
        """Remove all faults."""
        self._planned.clear()

    def listed(self) -> list[PlannedFault]:
        """Return the planned faults; ``count`` is the number of remaining requests."""
        return list(self._planned.values())


def _whole(least: int, most: int) -> Callable[[Any], bool]:
    return lambda value: type(value) is int and least <= value <= most


def _seconds(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= LONGEST_DELAY


def _waiting_time(value: Any) -> bool:
    """Return whether a value is valid in ``retry-after``: whole seconds, or a date on one line."""
    if isinstance(value, str):
        return bool(value.strip()) and value.isascii() and value.isprintable()
    return type(value) is int and value >= 0


_KEYS: Final[Mapping[str, tuple[Callable[[Any], bool], str]]] = {
    "vendor": (lambda value: isinstance(value, str), "the name of a vendor"),
    "count": (_whole(0, 10**9), "a whole number of requests, 0 to clear the vendor's fault"),
    "status": (_whole(300, 599), "an HTTP status from 300 to 599"),
    "delay": (_seconds, f"a number of seconds from 0 to {LONGEST_DELAY:.0f}"),
    "reset": (lambda value: isinstance(value, bool), "true or false"),
    "retry_after": (_waiting_time, "whole seconds, or an HTTP date as a string"),
}


def _read(description: bytes, vendors: Collection[str]) -> PlannedFault:
    try:
        fault = orjson.loads(description)
    except orjson.JSONDecodeError as error:
        raise BadFaultError(f"the fault is not JSON: {error}") from None
    if not isinstance(fault, dict):
        raise BadFaultError(
            'the fault: expected a JSON object such as {"vendor": "chrts", "count": 1}'
        )
    for key, value in fault.items():
        if key not in _KEYS:
            raise BadFaultError(f"{key}: unknown key; expected {one_of(_KEYS)}")
        holds, expected = _KEYS[key]
        if not holds(value):
            raise BadFaultError(f"{key}: expected {expected}")
    for key in ("vendor", "count"):
        if key not in fault:
            raise BadFaultError(f"{key}: is missing; expected {_KEYS[key][1]}")
    if fault["vendor"] not in vendors:
        raise UnknownVendorError(fault["vendor"], vendors)
    if "retry_after" in fault:
        fault["retry_after"] = str(fault["retry_after"])
    return _consistent(PlannedFault(**fault))


def _consistent(fault: PlannedFault) -> PlannedFault:
    if fault.count and not (fault.status or fault.delay or fault.reset):
        raise BadFaultError("status, delay, reset: expected at least one of them")
    if fault.reset and fault.status:
        raise BadFaultError("reset, status: expected only one of them")
    if fault.retry_after is not None and fault.status is None:
        raise BadFaultError("retry_after: needs a status to be sent with, such as 429 or 503")
    return fault
