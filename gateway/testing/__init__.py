"""The conformance kit for plugin authors: the contract of a plugin as pytest classes.

Subclass a suite, set its attributes, and run pytest. docs/add-a-vendor.md shows an example.
"""

import pkgutil

import pytest

for _module in pkgutil.iter_modules(__path__, f"{__name__}."):
    pytest.register_assert_rewrite(_module.name)  # else failed assertions show no values

from gateway.plugin.registry import load_plugins  # noqa: E402 - after the lines above
from gateway.testing.delivery_suite import DeliverySuite  # noqa: E402 - likewise
from gateway.testing.refusal_suite import (  # noqa: E402 - likewise
    FaultAnswer,
    RefusalSuite,
    RefusedRequest,
    post,
)
from gateway.testing.samples import (  # noqa: E402 - likewise
    Sample,
    events_of,
    load_samples,
    request_of,
)
from gateway.testing.sandbox_suite import SandboxSuite  # noqa: E402 - likewise
from gateway.testing.vendor_suite import InputSuite, OutputSuite, VendorSuite  # noqa: E402 - likewise

__all__ = [
    "DeliverySuite",
    "FaultAnswer",
    "InputSuite",
    "OutputSuite",
    "RefusalSuite",
    "RefusedRequest",
    "Sample",
    "SandboxSuite",
    "VendorSuite",
    "events_of",
    "load_plugins",
    "load_samples",
    "post",
    "request_of",
]
