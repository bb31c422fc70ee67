"""Destinations that only look on: what they would get is compared, aggregated and kept apart."""

from gateway.shadow.sender import ShadowSender
from gateway.shadow.shadows import Shadows

__all__ = ["ShadowSender", "Shadows"]
