"""What the endpoints of the admin API have to work with."""

import time
from typing import TYPE_CHECKING

from gateway.admin.problem import Problem
from gateway.admin.sampling import Series
from gateway.admin.stream import Streams
from gateway.delivery import Worker
from gateway.reload import Reloading

if TYPE_CHECKING:
    from gateway.app import Gateway


class Desk:
    """The running gateway, as those see it who look after it.

    Attributes:
        gateway: what is looked at.
        reloading: reads its configuration again.
        started: Unix seconds at which the gateway began.
        series: what happened in the last hour.
        streams: those who watch now.
    """

    def __init__(self, gateway: "Gateway", reloading: Reloading) -> None:
        self.gateway = gateway
        self.reloading = reloading
        self.started = time.time()
        self.series = Series(gateway)
        self.streams = Streams()

    def hide(self, text: str) -> str:
        """Return *text* without the credentials of the configuration in effect."""
        return self.gateway.observed.redactor.text(text)

    def worker(self, name: str) -> Worker:
        """Return the worker of a destination.

        Raises:
            Problem: there is none, or a reload is just removing it.
        """
        workers = self.gateway.workers
        if name not in workers or name not in self.gateway.config.destinations:
            raise self.unknown(name)
        return workers[name]

    def unknown(self, name: str) -> Problem:
        """Return what there is to say of a destination that there is not."""
        known = ", ".join(sorted(self.gateway.workers)) or "none"
        return Problem(404, f"there is no destination {name!r}; there is {known}")
