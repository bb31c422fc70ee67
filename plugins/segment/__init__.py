"""Segment, and RudderStack, which speaks the same; https://segment.com/docs/connections/spec/.

One endpoint per kind of call, one for a batch of any kinds, and pixels for places where nothing
but an image can be loaded. A write key, in one of several places, names the source.
"""

from gateway.plugin import hookimpl
from plugins.segment.input import SegmentInput
from plugins.segment.output import SegmentOutput
from plugins.segment.sandbox import SegmentSandbox


@hookimpl
def register_inputs() -> list[type[SegmentInput]]:
    """Offer the input."""
    return [SegmentInput]


@hookimpl
def register_outputs() -> list[type[SegmentOutput]]:
    """Offer the output."""
    return [SegmentOutput]


@hookimpl
def register_sandboxes() -> list[type[SegmentSandbox]]:
    """Offer the emulated server."""
    return [SegmentSandbox]
