"""Destinations that only look on: what they would get is compared, aggregated and kept apart."""

from gateway.shadow.recorder import ShadowRecorder
from gateway.shadow.sender import ShadowSender

__all__ = ["ShadowRecorder", "ShadowSender"]
