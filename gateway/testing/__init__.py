"""The conformance kit that plugin authors import: contracts, as test classes.

Subclass a suite, give it what it needs, and run pytest. docs/add-a-vendor.md shows it at work.
"""

from gateway.testing.delivery import DeliverySuite
from gateway.testing.samples import Sample, load_samples, request_of
from gateway.testing.vendor import InputSuite, OutputSuite, VendorSuite

__all__ = [
    "DeliverySuite",
    "InputSuite",
    "OutputSuite",
    "Sample",
    "VendorSuite",
    "load_samples",
    "request_of",
]
