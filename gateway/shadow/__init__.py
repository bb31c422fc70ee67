"""Shadow destinations: compare and count what they would receive, without delivering it."""

from gateway.shadow.recorder import ShadowRecorder
from gateway.shadow.sender import ShadowSender

__all__ = ["ShadowRecorder", "ShadowSender"]
