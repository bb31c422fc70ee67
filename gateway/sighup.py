"""React to SIGHUP: record it before the gateway can reload, and ignore it once it stops.

This module imports nothing slow. The event loop's own handlers are not used: removing one makes
SIGHUP end the process until it is ignored.
"""

import signal
from collections.abc import Callable

_early: list[int] = []


def note() -> None:
    """Record every SIGHUP from now on; by default it would end the process."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, _: _early.append(number))


def react(act: Callable[[], object]) -> None:
    """Call *act* at every SIGHUP from now on, wherever the main thread is."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda *_: act())


def ignore() -> None:
    """Ignore SIGHUP, so that a process that is stopping stops normally."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def noted() -> bool:
    """Return whether a SIGHUP came, and reset."""
    came = bool(_early)
    _early.clear()
    return came
