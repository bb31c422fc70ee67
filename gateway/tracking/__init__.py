"""Tracking plans: what events of a source should look like, and what becomes of those that do not.

Plan.keeps     [Event] -> [Event] and what was dropped | Rejected -> the vendor's own 4xx
amend.without  Event   -> the same event without what was dropped, also after a restart
"""

from gateway.tracking.plan import Kept, Plan, Violations
from gateway.tracking.schema import Schema, SchemaError
from gateway.tracking.tally import Tally

__all__ = ["Kept", "Plan", "Schema", "SchemaError", "Tally", "Violations"]
