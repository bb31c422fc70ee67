"""The http output passes the suites of the conformance kit, as far as they apply to any API."""

from pathlib import Path
from typing import ClassVar

import pytest

from gateway.event import Event
from gateway.http import Request
from gateway.plugin.vendor import Output
from gateway.testing import DeliverySuite, OutputSuite, SandboxSuite
from plugins.http.output import HttpOutput
from plugins.http.sandbox import HttpSandbox

KEY = "the-token"
CONFIG = {
    "url": "https://api.example/v2",
    "auth": {"bearer": KEY, "query": {"api_secret": "secret-in-query"}},
    "requests": [
        {
            "when": 'event.type == "identify" && has(event.user_id)',
            "method": "PUT",
            "path": ["people", "=event.user_id"],
            "headers": {"x-request": "=event.id"},
            "body": {
                "email": "=event.traits.email",
                "age": "=event.traits.age",
                "plan": "=event.traits.plan",
            },
        },
        {
            "when": 'event.type == "track" && event.name != "nobody did it"',
            "path": "/mp/collect",
            "query": {"measurement_id": "G-1"},
            "body": {
                "client_id": "=event.anonymous_id",
                "user_id": "=event.user_id",
                "timestamp_micros": "=unix_micros(event.timestamp)",
                "events": [
                    {
                        "name": '=event.name == "Order Completed" ? "purchase" : event.name',
                        "params": {
                            "transaction_id": "=event.properties.order_id",
                            "currency": "=event.properties.currency",
                            "value": "=event.properties.value",
                            "shipping": "=event.properties.shipping",
                            "tax": "=event.properties.tax",
                            "plan": "=event.properties.plan",
                            "items": "=event.properties.products.map(p, {'item_id': p.product_id, "
                            "'item_name': p.name, 'price': p.price, 'quantity': p.quantity, "
                            "'color': p.color})",
                        },
                    }
                ],
            },
        },
    ],
}


class TestHttp(OutputSuite):
    """See gateway/testing/vendor_suite.py."""

    samples = Path(__file__).parent
    output = HttpOutput(HttpOutput.Config.model_validate(CONFIG))
    declined = (
        (Event(type="page", user_id="u1"), "the destination has no request for a page call"),
        (Event(type="identify"), "the destination has no request for an identify call"),
        (
            Event(type="track", name="nobody did it"),
            "the destination has no request for 'nobody did it'",
        ),
    )
    wrong_settings = (
        ({"requests": []}, "is empty"),
        ({"requests": [{"path": "track"}]}, 'must begin with "/"'),
        ({"requests": [{"path": "=event.name"}]}, "must be a list of segments"),
        ({"requests": [{"encoding": "form", "body": ["a"]}]}, "needs a body that is a table"),
        ({"requests": [{"query": "a=b"}]}, "must be a table"),
        *(
            ({"requests": [request]}, "a list of tables, at 'a'")
            for request in (
                {"query": {"a": "=event.properties"}},
                {"headers": {"a": {"b": 1}}},
                {"encoding": "form", "body": {"a": "={'b': event.name}"}},
                {"encoding": "form", "body": {"a": ["x", {"b": 1}]}},
                {"encoding": "form", "body": {"a": "=event.properties.products.filter(p, true)"}},
                {"encoding": "form", "body": {"a": "=event.properties.l.map(x, {'b': x}) + [1]"}},
                {"encoding": "form", "body": {"a": "=has(event.name) ? [[event.name]] : null"}},
            )
        ),
        ({"requests": [{"headers": {"a b": "c"}}]}, "is not a header name"),
        ({"requests": [{"encoding": "ndjson", "batch_path": "a"}]}, "does not use"),
        ({"batch_size": 2}, "no request can have several events"),
        ({"auth": {"body": {"k": "v"}}, "requests": [{"body": ["a"]}]}, "auth.body needs a body"),
        ({"auth": {"bearer": "a", "basic": {"user": "b"}}}, "bearer and basic"),
    )


class TestHttpDelivery(DeliverySuite):
    """See gateway/testing/delivery_suite.py."""

    output = TestHttp.output


class TestHttpSandbox(SandboxSuite):
    """See gateway/testing/sandbox_suite.py; any path and any method are somebody's API."""

    sandbox = HttpSandbox()
    outputs: ClassVar = {"": TestHttp.output}
    key = KEY
    samples = TestHttp.samples

    def test_knows_no_other_path(self, output: Output) -> None:
        """Every path is accepted."""
        for path in ("/nothing", "/"):
            answer = self.sandbox.respond(Request(method="POST", url=path), None)
            assert answer.reason is None, output.name

    def test_knows_no_other_method(self, output: Output) -> None:
        """Every method is accepted."""
        for method in ("DELETE", "GET", "PATCH"):
            answer = self.sandbox.respond(Request(method=method, url="/"), None)
            assert answer.reason is None, output.name

    def test_needs_a_key(self, output: Output) -> None:
        """Without a key to compare, none is needed, since a plain webhook has none."""
        assert self.sandbox.respond(Request(method="POST", url="/"), None).reason is None
        assert self.sandbox.respond(Request(method="POST", url="/"), KEY).reason, output.name

    @pytest.mark.parametrize(
        ("media", "body", "wrong"),
        [
            ("application/json", b"{", True),
            ("application/json", b"", True),
            ("application/json", b"[]", False),
            ("application/x-ndjson", b'{"a":1}\n{"a":2}\n', False),
            ("application/x-ndjson", b'{"a":1}\n{', True),
            ("application/x-www-form-urlencoded", b"a=1&b=2", False),
            ("application/x-www-form-urlencoded", b"a", True),
            ("text/plain", b"\xff", False),
        ],
    )
    def test_a_body_is_what_its_label_says(self, media: str, body: bytes, *, wrong: bool) -> None:
        """A body that is not of its content type is refused with 400; other types are not read."""
        request = Request(method="POST", url="/", headers={"content-type": media}, body=body)
        answer = self.sandbox.respond(request, None)
        assert answer.response.status == (400 if wrong else 200)
        assert bool(answer.reason) == wrong

    @pytest.mark.parametrize("body", [b"", b"[]", b"\xff"], ids=repr)
    def test_needs_an_object(self, body: bytes, output: Output) -> None:
        """A body without a label may be anything."""
        request = Request(method="POST", url="/", body=body)
        assert self.sandbox.respond(request, None).reason is None, output.name

    def test_shows_no_key(self, output: Output) -> None:
        """The reason of a rejection contains no key, since people see it."""
        answer = self._respond(output, self._some(output), "not-the-key")
        assert answer.reason
        assert KEY not in answer.reason
        assert "not-the-key" not in answer.reason
