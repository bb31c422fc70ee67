"""The time of day as a worker reckons with it: it never jumps."""

import time

_ORIGIN = time.time() - time.monotonic()


def steady() -> float:
    """Return Unix seconds as they stood when the process began, and what has passed since.

    Waits end by this clock, so that setting the machine's clock back makes none of them longer,
    and setting it forward makes no retries all at once.
    """
    return _ORIGIN + time.monotonic()
