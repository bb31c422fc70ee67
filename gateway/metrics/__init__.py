"""Metrics: plain counts on the data path, gathered for Prometheus when they are asked for."""

from gateway.metrics.counts import Counts

__all__ = ["Counts"]
