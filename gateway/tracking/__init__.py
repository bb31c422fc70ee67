"""Tracking plans: what events of a source should look like, and what becomes of those that do not.

TrackingPlan.apply   [Event] -> [Event] and what was dropped | Rejected -> the vendor's own 4xx
without_fields       Event   -> the same event without what was dropped, also after a restart
"""

from gateway.tracking.plan import PlannedEvents, TrackingPlan, ViolationCounter, ViolationPolicy
from gateway.tracking.schema import Schema, SchemaError

__all__ = [
    "PlannedEvents",
    "Schema",
    "SchemaError",
    "TrackingPlan",
    "ViolationCounter",
    "ViolationPolicy",
]
