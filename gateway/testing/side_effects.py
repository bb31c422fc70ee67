"""Detect plugins that use more than the values that they are given."""

import gc
import os
import socket
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from types import CodeType, FrameType
from typing import Any

CLOCK = frozenset({
    "time", "time_ns", "monotonic", "monotonic_ns", "perf_counter", "perf_counter_ns",
    "process_time", "process_time_ns", "thread_time", "clock_gettime", "clock_gettime_ns",
    "localtime", "sleep",
})  # fmt: skip
SYSTEM = frozenset({"posix", "nt"})
HARMLESS = frozenset({"fspath"})
"""Functions of the operating system's modules without side effects."""
TODAY = frozenset({"now", "utcnow", "today"})
CHANCE = frozenset({"urandom", "getrandom"})
SEEN: dict[CodeType, str] = {
    os.getenv.__code__: "os.getenv",
    type(os.environ).__getitem__.__code__: "os.environ",
    uuid.uuid1.__code__: "uuid.uuid1",
    uuid.getnode.__code__: "uuid.getnode",
}
"""Python functions with side effects that call none of the above."""


class SideEffect(AssertionError):
    """A plugin used more than the values that it was given."""


@contextmanager
def forbid_side_effects() -> Iterator[None]:
    """Fail if the code inside reads a clock, uses randomness, or opens anything.

    Every call is inspected (`sys.setprofile`), so aliases of functions are detected too.

    Raises:
        SideEffect: it does; the message names the call and its caller.
    """
    found: list[str] = []

    def look(frame: FrameType, kind: str, called: Any) -> None:
        what = _seen_c(called) if kind == "c_call" else _seen(frame) if kind == "call" else ""
        if what:
            caller = frame if kind == "c_call" else frame.f_back or frame
            place = f"{caller.f_code.co_filename}:{caller.f_lineno}"
            found.append(f"{what} is called at {place}")

    before, collected = sys.getprofile(), gc.isenabled()
    gc.disable()  # a collection could close a socket of other code
    sys.setprofile(look)
    try:
        yield
    finally:
        sys.setprofile(before)
        if collected:
            gc.enable()
    if found:
        raise SideEffect(f"{found[0]}; a plugin may use only the values that it is given")


def _seen_c(called: Any) -> str:
    """Return the name of a C function with side effects; empty for others."""
    name = getattr(called, "__name__", "")
    module = getattr(called, "__module__", None) or ""
    owner = getattr(called, "__self__", None)
    if module == "time" and name in CLOCK:
        return f"time.{name}"
    if name in TODAY and isinstance(owner, type) and issubclass(owner, date):
        return f"{owner.__name__}.{name}"
    if type(owner).__module__ == "random" or name in CHANCE:
        return f"random.{name}"
    if module in SYSTEM and name not in HARMLESS:
        return f"os.{name}"
    return "open" if name == "open" and module in {"io", "_io"} else ""


def _seen(frame: FrameType) -> str:
    """Return the name of a Python function with side effects; empty for others."""
    code = frame.f_code
    if code.co_filename == socket.__file__:
        return f"socket.{code.co_name}"
    return SEEN.get(code, "")
