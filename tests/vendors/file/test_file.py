"""The file output passes the suite of the conformance kit."""

from pathlib import Path

from gateway.testing import OutputSuite
from plugins.http.file_output import FileOutput

BODY = {
    "name": "=event.name",
    "user": "=event.user_id",
    "order_id": "=event.properties.order_id",
    "total": "=event.properties.total",
    "plan": "=event.properties.plan",
}


class TestFile(OutputSuite):
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    output = FileOutput(FileOutput.Config.model_validate({"path": "/archive", "body": BODY}))
    wrong_settings = (
        ({"url": "https://a.example"}, "remove it"),
        ({"rotate_bytes": 0}, "greater than 0"),
        ({"compression": "zip"}, "'none' or 'gzip'"),
        ({"body": "=event.nam"}, "there is no field event.nam"),
    )
