"""Explain what the gateway would do with one request, without sending anything.

DryRunIngest.enter   ExplainRequest -> DryRunRequest: the source, the stored request, its events
Explainer.explain    ExplainRequest -> Explanation: routes, steps, outgoing requests, losses
run_route_test       RouteTest      -> RouteTestResult: what differs from the test's expectations

The command line, the admin API and `gateway test` print the results.
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
