"""Tracking plans: schemas for the events of a source, and the handling of violations.

TrackingPlan.apply   [Event] -> [Event] and dropped fields | Rejected -> a 4xx
without_fields       Event   -> the event without the dropped fields, after a restart too
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
