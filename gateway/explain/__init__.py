"""What becomes of one request, told without sending anything.

Entrance.enter       Asked           -> the source, the request as stored, its events | Refusal
Explaining.explain   Asked           -> Explanation: verdicts of routes, steps, requests, losses
judging.judged       Case            -> Judged: what is not as the test expects

Values in, values out: the command line prints them, and whoever else likes to may show them.
"""

from gateway.explain.entering import Entrance
from gateway.explain.explaining import Explaining
from gateway.explain.values import (
    Asked,
    AskedError,
    DeliveryStory,
    EventStory,
    Explanation,
    Refusal,
    RouteStory,
    Sent,
)

__all__ = [
    "Asked",
    "AskedError",
    "DeliveryStory",
    "Entrance",
    "EventStory",
    "Explaining",
    "Explanation",
    "Refusal",
    "RouteStory",
    "Sent",
]
