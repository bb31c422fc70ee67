"""Observe the data path: metrics, logs, traces, alerts and health pages."""

from gateway.observability.counters import Counters

__all__ = ["Counters"]
