"""What the configuration file may say of routes and of consent."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from gateway.config.quantities import Duration
from gateway.config.steps import Step
from gateway.config.tables import Table
from gateway.event import EventType


def _some(value: object) -> object:
    if not isinstance(value, list | tuple):
        raise ValueError('must be a list; write ["..."]')  # noqa: TRY004 - pydantic turns a ValueError into a finding
    if not value:
        raise ValueError("is empty, so that the route would never be taken; name some")
    return value


class ConsentConfig(Table):
    """What is remembered of users' consent, for steps that ask for it."""

    remember: Duration | None = Field(default=None, gt=0)
    """How long the last consent that a user gave or withdrew is remembered, per category; nothing
    is where this is left out."""
    across_sources: bool = False
    """Let what a user said to one source count for the events of the others. User ids must then
    mean the same people everywhere."""


class RouteConfig(Table):
    """A route: which events of which sources go where, after which steps."""

    sources: Annotated[tuple[str, ...] | None, BeforeValidator(_some)] = Field(
        default=None, alias="from"
    )
    """The sources whose events it takes; every one where this is left out."""
    to: Annotated[tuple[str, ...], BeforeValidator(_some)]
    """The destinations that get them."""
    types: Annotated[tuple[EventType, ...] | None, BeforeValidator(_some)] = None
    """The types of events that it takes; every one where this is left out."""
    names: Annotated[tuple[str, ...] | None, BeforeValidator(_some)] = None
    """The names of events that it takes, as patterns over the neutral name: `*` is any text, `?`
    one character, `[...]` one of these; case matters. Every one where this is left out."""
    when: str | None = None
    """A condition in CEL that must hold, such as `event.properties.total > 100`."""
    on_error: Literal["skip", "send"] = "skip"
    """What happens where the condition cannot be judged: the route is not taken, or taken."""
    steps: tuple[Step, ...] = ()
    """What is done to its events first: steps, and names of step lists."""
    also: bool = False
    """Deliver beside what other routes deliver to the same destinations, not instead."""
    stop: bool = False
    """Ask no later route about an event that this one takes."""
    otherwise: bool = False
    """Take only events that no ordinary route takes."""
    label: str = Field(default="", alias="name")
    """What the route is called in explanations; `route 1` and so on where this is left out. A
    route with steps needs a name, which is stored with its deliveries."""
