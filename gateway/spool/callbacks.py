"""Call the followers and listeners of a spool."""

import asyncio
from collections.abc import Callable, Iterable


def call_each(callbacks: Iterable[Callable[..., None]], *values: object) -> None:
    """Call each on the loop; an exception of one goes to the loop's exception handler."""
    for callback in callbacks:
        try:
            callback(*values)
        except Exception as e:  # noqa: BLE001 - other callbacks must still run
            context = {"message": f"the spool's callback {callback!r} failed", "exception": e}
            asyncio.get_running_loop().call_exception_handler(context)
