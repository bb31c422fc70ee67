"""What becomes of one request, told without sending anything.

Entrance.enter       Asked           -> the source, the request as stored, its events | Refusal
Explaining.explain   Asked           -> Explanation: verdicts of routes, steps, requests, losses
judging.judged       Case            -> Judged: what is not as the test expects

Values in, values out: the command line prints them, and whoever else likes to may show them.
"""

from gateway.explain.dry_run import DryRunIngest
from gateway.explain.explainer import Explainer
from gateway.explain.models import (
    DeliveryExplanation,
    EventExplanation,
    ExplainRequest,
    ExplainRequestError,
    Explanation,
    OutgoingRequest,
    Refusal,
    RouteExplanation,
)

__all__ = [
    "DeliveryExplanation",
    "DryRunIngest",
    "EventExplanation",
    "ExplainRequest",
    "ExplainRequestError",
    "Explainer",
    "Explanation",
    "OutgoingRequest",
    "Refusal",
    "RouteExplanation",
]
