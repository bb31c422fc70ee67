"""What the records of stored requests hide."""

from datetime import UTC, datetime

from gateway.event import Event
from gateway.http import Request
from gateway.plugin.registry import load_plugins
from gateway.plugin.vendor import Input
from gateway.redact import Redactor
from gateway.routing.router import Router
from gateway.spool import DeliveryRef, Entry
from gateway.trace.record_builder import AttemptSnapshot, RecordBuilder, RecordSettings
from gateway.trace.records import AttemptRecord, RequestRecord

VENDOR = "chrts"
INPUT = load_plugins().inputs[VENDOR]()


def settings(*secrets: str, reads: Input = INPUT) -> RecordSettings:
    """Return settings without routes, under which *secrets* are hidden."""
    return RecordSettings(Router(()), {VENDOR: reads}, Redactor(more=secrets), {})


def entry(identity: str, key: str, text: str) -> Entry:
    """Return a stored request with the key of its client, and a body that holds *text*."""
    request = Request(
        method="POST",
        url="/event/track",
        headers={"authorization": f"Bearer {key}"},
        body=f'{{"note": "{text}"}}'.encode(),
        id=identity,
        received_at=datetime.now(UTC),
    )
    return Entry(identity, "shop", request, {}, VENDOR)


def body(builder: RecordBuilder, stored: Entry) -> str:
    """Return the body in the record of a stored request."""
    (record,) = builder.stored(stored, {})
    assert isinstance(record, RequestRecord)
    return record.message.body


def test_each_request_hides_its_own_key() -> None:
    """The records of a request hide its client's key, and not that of another client."""
    builder, both = RecordBuilder(settings(), 1000), "first-key second-key"
    stored = [entry("r1", "first-key", both), entry("r2", "second-key", both)]
    for _ in range(2):
        assert [body(builder, one) for one in stored] == [
            '{"note": "*** second-key"}',
            '{"note": "first-key ***"}',
        ]


def test_a_new_setting_hides_its_secrets_in_known_requests() -> None:
    """After a reload the new credentials are hidden, also in requests that were recorded before."""
    builder, stored = (
        RecordBuilder(settings("old-secret"), 1000),
        entry("r1", "k", "old-secret new"),
    )
    assert body(builder, stored) == '{"note": "*** new"}'
    builder.setting = settings("old-secret new")
    assert body(builder, stored) == '{"note": "***"}'


def test_an_attempt_shows_the_headers_that_its_destination_adds() -> None:
    """The request in the record of an attempt has the added headers, which replace the client's."""
    stored = entry("r1", "k", "x")
    sent = Request(method="POST", url="https://a.example/", headers={"X-Tenant": "theirs"})
    trial = AttemptSnapshot(
        0.0, stored, Event(type="track", id="r1-0"), DeliveryRef(1, 0), None, sent,
        forwarded=False, number=1, destination="crm", output=None, outcome="delivered", reason="",
        attempt=None,
    )  # fmt: skip
    added = {"crm": {"x-tenant": "***", "accept": "text/plain"}}
    builder = RecordBuilder(settings()._replace(headers=added), 1000)
    found = next(one for one in builder.tried(trial) if isinstance(one, AttemptRecord))
    assert found.sent is not None
    assert found.sent.headers == added["crm"]


def test_the_key_of_a_request_is_searched_once() -> None:
    """A stored request is searched for credentials once, however many records it has."""

    class Counting(type(INPUT)):  # type: ignore[misc]  # a class that is only known at run time
        """The input, which counts its searches."""

        searches = 0

        def credential(self, request: Request, payload: object) -> str | None:
            """Count and return the key."""
            self.searches += 1
            found: str | None = super().credential(request, payload)
            return found

    reads = Counting()
    builder, stored = RecordBuilder(settings(reads=reads), 1000), entry("r1", "a-key", "x")
    for _ in range(5):
        body(builder, stored)
    assert reads.searches == 1
