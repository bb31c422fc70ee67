"""A destination that sends nothing: it shows what it is given, and declines it."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from gateway.event import Event
from gateway.exchange import Declined, Request
from gateway.mapping import Mapped
from gateway.plugin import Output, Settings


def reader(
    vendor: str, tried: Callable[[Event], None], forwarded: Callable[[Request], None]
) -> type[Output]:
    """Return an output that calls *tried* with each event, and *forwarded* with its own requests.

    The latter are those that came in the format of *vendor*, whose name it bears.
    """

    class Reader(Output):
        name = vendor
        docs = ""
        endpoints: ClassVar[Mapping[str, Mapped]] = {}
        Config = Settings

        def headers(self) -> Mapping[str, Any]:
            return {}

        def render(self, event: Event) -> Declined:
            tried(event)
            return Declined("it was read")

        def forward(self, request: Request) -> None:
            forwarded(request)

    return Reader
