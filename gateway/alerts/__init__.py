"""Alerts: somebody is told when a destination is paused, falls behind, or gets dead letters.

``judging`` decides what is to be told, ``webhook`` tells it, ``watch`` looks again and again.
"""

from gateway.alerts.watch import Alerting

__all__ = ["Alerting"]
