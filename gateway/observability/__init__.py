"""Metrics: plain counts on the data path, gathered for Prometheus when they are asked for."""

from gateway.observability.counters import Counters

__all__ = ["Counters"]
