"""Record a SIGHUP that arrives before the gateway can reload. This module imports nothing slow."""

import signal

_early: list[int] = []


def note() -> None:
    """Record every SIGHUP from now on; by default it would end the process."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, _: _early.append(number))


def ignore() -> None:
    """Ignore SIGHUP, so that a process that is stopping stops normally."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def noted() -> bool:
    """Return whether a SIGHUP came, and reset."""
    came = bool(_early)
    _early.clear()
    return came
