"""SIGHUP before anybody can obey it: it is noted, and obeyed later. Imports nothing slow."""

import signal

_early: list[int] = []


def note() -> None:
    """Note every SIGHUP from now on, instead of ending as a process does by default."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, lambda number, _: _early.append(number))


def ignore() -> None:
    """Take no more of them: a process that is about to end by itself ends well."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def noted() -> bool:
    """Tell whether one came, and forget it."""
    came = bool(_early)
    _early.clear()
    return came
