"""The trace file and the live feed, and the limits of both."""

import asyncio
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import apsw
import msgspec
import pytest
from msgspec.structs import replace

from gateway.errors import TraceError
from gateway.event import Event, Product, Properties
from gateway.person import Person
from gateway.trace.live import LiveFeed
from gateway.trace.record_builder import MOST, changed
from gateway.trace.recorder import TraceFile
from gateway.trace.records import (
    AttemptRecord,
    EventRecord,
    RecordedChange,
    RecordedMessage,
    RequestRecord,
    TraceFilter,
    TraceLine,
    shortened,
)
from gateway.trace.store import (
    STEP,
    NoTraceFile,
    Record,
    StoredTraces,
    TraceReader,
    TraceWriter,
    line_of,
    open_traces,
)

NOW = time.time()
OPTIONAL = {"violations", "dropped_fields", "changes", "omitted_changes", "copy"}
"""Fields that the records of a file may lack."""
MESSAGE = RecordedMessage("POST", "/event/track?x=1", {"content-type": "application/json"}, "{}", 2)


def request(number: int, at: float = NOW, **more: str) -> list[Record]:
    """Return the records of a request with one event and its attempt."""
    name = f"r{number:06}"
    received = RequestRecord(name, at, "shop", "chrts", MESSAGE, 1, "keys[0]", 200, 0.01)
    event = EventRecord(
        f"{name}-0", name, at, "shop", "track", "Order Completed",
        message_id=f"m{number}", user_id=f"u{number % 2}", anonymous_id="a1",
    )  # fmt: skip
    outcome = more.get("outcome", "delivered")
    tried = AttemptRecord(
        f"{name}-0", name, at, "shop", "crm", "segment", "Order Completed",
        outcome,  # type: ignore[arg-type]  # one of them
        number=1, status=200, seconds=0.1, user_id=f"u{number % 2}",
    )  # fmt: skip
    return [received, event, tried]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TraceWriter]:
    """Return a store that keeps traces for an hour."""
    made = TraceWriter(tmp_path / "traces.db", 3600, 64 << 20)
    yield made
    made.close()


def test_only_the_owner_can_read_the_file(store: TraceWriter) -> None:
    """The file and SQLite's files beside it have mode 0600."""
    store.add(request(1))
    for file in store.path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize("identity", ["r000003", "r000003-0", "m3"])
def test_a_trace_is_found_by_every_id(store: TraceWriter, identity: str) -> None:
    """A trace is found by request id, event id and message id."""
    for number in range(5):
        store.add(request(number))
    reader = TraceReader(store.path)
    (found,) = reader.show(identity)
    received, event, tried = request(3)
    assert (found.received, found.events, found.attempts) == (received, (event,), (tried,))
    assert reader.show("r00000") == []


def test_a_user_has_many_traces(store: TraceWriter) -> None:
    """A user id or anonymous id finds the newest traces first, up to the limit."""
    for number in range(10):
        store.add(request(number))
    reader = TraceReader(store.path)
    assert [one.request for one in reader.show("u1", 3)] == ["r000009", "r000007", "r000005"]
    assert len(reader.show("a1")) == 10


def test_records_without_newer_fields_are_read(store: TraceWriter) -> None:
    """Records without fields that were added later are read."""
    records = request(1)
    store.add(records)
    connection = apsw.Connection(str(store.path))
    for kind, record in zip(("request", "event", "delivery"), records, strict=True):
        old = {k: v for k, v in msgspec.to_builtins(record).items() if k not in OPTIONAL}
        packed = msgspec.msgpack.encode(old)
        connection.execute("UPDATE record SET packed = ? WHERE kind = ?", (packed, kind))
    connection.close()
    (found,) = TraceReader(store.path).show("r000001")
    assert [found.received, *found.events, *found.attempts] == records


async def test_records_of_an_older_schema_are_thrown_away(store: TraceWriter) -> None:
    """A file of an older schema is an error for readers, and the writer empties it."""
    store.add(request(1))
    store.close()
    with apsw.Connection(str(store.path)) as connection:
        connection.pragma("user_version", 1)
    with pytest.raises(TraceError, match=r"written by another version of the gateway \(schema 1\)"):
        TraceReader(store.path)
    TraceWriter(store.path, 3600, 64 << 20).close()
    assert TraceReader(store.path).lines() == []


def test_changed_fields_are_named_once_and_so_many() -> None:
    """A list's members count as one changed field; fields beyond the limit are only counted."""
    products = tuple(Product(product_id="1", price=2.0) for _ in range(30))
    extra = {f"field-{number}": number for number in range(MOST)}
    before = Event(type="track", id="r-0", origin="chrts", properties=Properties(products=products))
    cheaper = tuple(Product(product_id="1", price=1.0) for _ in range(30))
    after = replace(before, name="x", properties=Properties(products=cheaper, extra=extra))
    named, more = changed(before, after, str.upper)
    assert named[:2] == (
        RecordedChange("PROPERTIES.PRODUCTS[].PRICE", "changed"),
        RecordedChange("NAME", "added"),
    )
    assert (len(named), more) == (MOST, 2)
    assert changed(before, before, str) == ((), 0)
    assert changed(before, replace(before, user_id="u"), str) == (
        (RecordedChange("user_id", "added"),),
        0,
    )


def test_known_records_are_not_stored_again(store: TraceWriter) -> None:
    """A request and event that are stored already are not stored again."""
    first = request(1)
    numbers = store.add(first)
    assert sorted(numbers) == [0, 1, 2]
    again = store.add([replace(first[0], credential="another"), first[1], first[2]])
    assert sorted(again) == [2]
    (found,) = TraceReader(store.path).show("r000001")
    assert found.received is not None
    assert found.received.credential == "keys[0]"
    assert len(found.attempts) == 2


def test_old_records_are_deleted(store: TraceWriter) -> None:
    """Records older than the retention are deleted when new ones arrive."""
    store.add(request(1, NOW - 7200))
    store.add(request(2))
    reader = TraceReader(store.path)
    assert reader.show("r000001") == []
    assert len(reader.show("r000002")) == 1


def test_the_file_stays_within_its_bounds(tmp_path: Path) -> None:
    """The oldest records are deleted, so the file does not stay above its limit."""
    bound = 2 << 20
    store = TraceWriter(tmp_path / "traces.db", 3600, bound)
    body = "x" * 2000
    for batch in range(40):
        records: list[Record] = []
        for number in range(100):
            received, *rest = request(batch * 100 + number)
            assert isinstance(received, RequestRecord)
            records += [replace(received, message=replace(MESSAGE, body=body)), *rest]
        store.add(records)
    assert store.size < bound * 1.5
    assert store.path.stat().st_size < bound * 2
    reader = TraceReader(store.path)
    assert reader.show("r000001") == []
    assert len(reader.show("r003999")) == 1
    store.close()


@pytest.mark.parametrize("content", [None, b"", b"garbage" * 50_000])
def test_a_deleted_or_corrupted_file_is_recreated_in_use(
    store: TraceWriter, content: bytes | None
) -> None:
    """If the file is deleted or corrupted while in use, a new one is created."""
    store.add(request(1))
    before = TraceReader(store.path)
    if content == b"":
        before.close()
        for ending in ("-wal", "-shm"):
            store.path.with_name(f"traces.db{ending}").unlink()
    elif content is None:
        store.path.unlink()
    else:
        store.path.write_bytes(content)
        store.path.with_name("traces.db-wal").write_bytes(content)
    for number in range(2, 5):
        store.add(request(number))
    assert before.replaced or content == b""
    reader = TraceReader(store.path)
    assert len(reader.show("r000004")) == 1
    assert not reader.replaced


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_a_corrupt_file_is_recreated_at_start(tmp_path: Path, content: bytes) -> None:
    """A corrupt file is replaced at start."""
    (tmp_path / "traces.db").write_bytes(content)
    store = TraceWriter(tmp_path / "traces.db", 3600, 64 << 20)
    store.add(request(1))
    assert len(TraceReader(store.path).show("r000001")) == 1
    store.close()


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A folder that cannot be written is an error with path and correction."""
    (tmp_path / "file").touch()
    with pytest.raises(TraceError, match=r"file/traces\.db: (file exists|not a dir).*make it wri"):
        TraceWriter(tmp_path / "file" / "traces.db", 1, 1 << 20)


@pytest.mark.parametrize("there", [False, True])
async def test_a_new_file_holds_no_traces(tmp_path: Path, *, there: bool) -> None:
    """Before the first trace, a gateway shows none, and the reader's error says why."""
    path = tmp_path / "traces.db"
    if there:
        path.touch()
    assert await StoredTraces(path).find() == []
    assert await StoredTraces(path).show("r000001") == []
    with pytest.raises(
        NoTraceFile, match=r"traces\.db: no traces yet; send an event, or set enabled"
    ):
        TraceReader(path)


@pytest.mark.parametrize(
    ("which", "kinds"),
    [
        (TraceFilter(), ["delivery", "event", "request", "delivery", "event"]),
        (TraceFilter(source="other"), ["request"]),
        (TraceFilter(destination="crm"), ["delivery", "delivery"]),
        (TraceFilter(name="Order Completed", user="u1"), ["delivery", "event"]),
        (TraceFilter(user="a1"), ["event", "event"]),
        (TraceFilter(failed=True), ["delivery", "request"]),
        (TraceFilter(until=NOW - 1), []),
    ],
)
async def test_the_file_and_the_live_feed_agree(
    store: TraceWriter, which: TraceFilter, kinds: list[str]
) -> None:
    """A filter selects the same lines from the file and from the live feed, newest first."""
    refused = RequestRecord(
        "r7", NOW, "other", "chrts", MESSAGE, 0, fault="type", reason="no text", status=400
    )
    records = [*request(1), refused, *request(2, outcome="retry")]
    store.add(records)
    found = await StoredTraces(store.path).find(which)
    assert [line.kind for line in found] == kinds
    lines = [line for record in records if (line := line_of(record))]
    assert [line.kind for line in reversed(lines) if which.takes(line)] == kinds
    assert [replace(line, number=0) for line in reversed(found)] == [
        line for line in lines if which.takes(line)
    ]


async def test_lines_are_found_page_by_page(store: TraceWriter) -> None:
    """A line's number leads to the next page of older lines."""
    for number in range(STEP // 50):
        store.add(request(number))
    traces, seen, before = StoredTraces(store.path), list[TraceLine](), None
    while page := await traces.find(before=before, limit=7):
        seen += page
        before = page[-1].number
    assert len(seen) == 2 * STEP // 50
    assert [line.number for line in seen] == sorted({x.number for x in seen}, reverse=True)


async def test_a_slow_subscriber_is_dropped() -> None:
    """A slow subscriber gets the lines in its buffer, then the end; others are unaffected."""
    hub = LiveFeed()
    line = TraceLine(0, "event", NOW, "r1", "shop", "accepted")
    with (
        hub.subscribe(room=10) as slow,
        hub.subscribe(TraceFilter(source="shop"), room=100) as quick,
    ):
        hub.publish([line] * 50)
        assert slow.dropped
        assert not quick.dropped
        assert hub.lines == {quick}
        async with asyncio.timeout(5):
            assert len([one async for one in slow]) == 10
            hub.close()
            assert len([one async for one in quick]) == 50


@pytest.mark.parametrize(("name", "wanted"), [("page", True), ("Viewed", True), ("track", False)])
def test_an_event_without_a_name_is_found_by_its_type(name: str, *, wanted: bool) -> None:
    """A filter by name matches the type of an event without a name."""
    page = Event(type="page", id="r-0", origin="chrts")
    viewed = Event(type="track", name="Viewed", id="r-1", origin="chrts")
    assert TraceFilter(name=name).concerns("shop", "", (page, viewed), failed=False) is wanted


async def test_a_subscription_ends_with_its_block() -> None:
    """A subscription ends with its ``with`` block."""
    hub = LiveFeed()
    with hub.subscribe():
        assert hub.lines
    assert not hub.lines


def test_a_clock_that_is_ahead_purges_no_traces(tmp_path: Path) -> None:
    """Retention uses the given clock, not the system clock."""
    store = TraceWriter(tmp_path / "traces.db", 3600, 64 << 20, lambda: 1_000.0)
    store.add(request(1, 900.0))
    store.add(request(2, 1_000.0))
    assert len(TraceReader(store.path).show("r000001")) == 1
    store.close()


# Erasing a person


def bytes_of(folder: Path) -> bytes:
    """Return the bytes of all files in *folder*."""
    return b"".join(path.read_bytes() for path in folder.iterdir())


def numbers(path: Path) -> set[str]:
    """Return the requests that have records."""
    with open_traces(path) as reader:
        return {line.request for line in reader.lines(limit=1000)}


def test_erasing_leaves_no_byte(tmp_path: Path) -> None:
    """All records of a person's requests go, and the file keeps no byte of them."""
    path = tmp_path / "traces.db"
    writer = TraceWriter(path, 3600.0, 1 << 30)
    for number in range(50):
        writer.add(request(number))
    assert b"m41" in bytes_of(tmp_path)
    assert writer.erase(Person(["u1"])) == 75
    assert numbers(path) == {f"r{number:06}" for number in range(0, 50, 2)}
    assert b"m41" not in bytes_of(tmp_path)
    assert b"m42" in bytes_of(tmp_path)
    writer.add(request(51))
    assert "r000051" in numbers(path)
    writer.close()


def test_erasing_finds_ids_in_texts(tmp_path: Path) -> None:
    """A refused request has no events: it is found by its text; others by ids that are certain."""
    path = tmp_path / "traces.db"
    writer = TraceWriter(path, 3600.0, 1 << 30)
    body = '{"userId": "42", "email": "Anna@shop.example"}'
    message = replace(MESSAGE, body=body)
    refused = RequestRecord("r000100", NOW, "shop", "chrts", message, 0, fault="value")
    accepted = replace(request(101)[0], message=message)
    writer.add([refused, accepted, *request(101)[1:], *request(102)])
    assert writer.erase(Person(["42"])) == 1
    assert numbers(path) == {"r000101", "r000102"}
    assert writer.erase(Person(["anna@shop.example"])) == 3
    assert numbers(path) == {"r000102"}
    writer.close()


def test_erasing_finds_a_truncated_id(tmp_path: Path) -> None:
    """An id that is too long to be recorded as a whole is found by its beginning."""
    path, long = tmp_path / "traces.db", "u" * 2000
    writer = TraceWriter(path, 3600.0, 1 << 30)
    writer.add([replace(request(1)[1], user_id=shortened(long))])
    assert writer.erase(Person([long])) == 1
    writer.close()


def test_a_reader_of_an_old_state_is_named(tmp_path: Path) -> None:
    """While another process reads the file it cannot be rewritten; the error says what to do."""
    path = tmp_path / "traces.db"
    writer = TraceWriter(path, 3600.0, 1 << 30)
    writer.add(request(1))
    reader = apsw.Connection(str(path))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM record").fetchall()
    with pytest.raises(TraceError, match=r"another process has locked the file"):
        writer.erase(Person(["u1"]))
    reader.execute("COMMIT")
    reader.close()
    writer.erase(Person(["u1"]))
    assert b"m1" not in bytes_of(tmp_path)
    writer.close()


def test_a_file_that_is_no_longer_written_is_erased_too(tmp_path: Path) -> None:
    """Traces from before they were turned off are erased; without a file there is nothing."""
    file = TraceFile(tmp_path / "traces.db", 3600.0, 1 << 30, time.time)
    assert file.erase(Person(["u1"])) == 0
    assert not file.path.exists()
    writer = file()
    writer.add([*request(1), *request(2)])
    writer.close()
    assert file.erase(Person(["u1"])) == 3
    assert numbers(file.path) == {"r000002"}
