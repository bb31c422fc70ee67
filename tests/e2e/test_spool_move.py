"""What `POST /api/v1/spool/move` refuses."""

import io
import math
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import orjson

from gateway.http import Request
from gateway.spool import Attempt, Entry
from gateway.spool.moved import MAX_ENTRIES, MAX_LETTERS, MAX_REMEMBERED
from gateway.spool.rows import pack, pack_attempts
from tests.e2e.admin import AT, TOKEN, administered

BODY = b'{"uid":"ann","name":"counted"}'


def meta(targets: dict[str, tuple[int, ...]], source: str = "shop") -> bytes:
    """Return what a spool stores beside the body of a request with one event."""
    request = Request(
        method="POST", url="/event/track", body=BODY, received_at=datetime.fromtimestamp(AT, UTC)
    )
    return pack(Entry("r1", source, request, targets, "chrts", users=(7,)))


def entry(**changed: Any) -> dict[str, Any]:
    """Return a request with some other parts."""
    known = {"number": 1, "at": AT, "id": "r1", "meta": meta({"crm": (0,)}), "body": BODY}
    return {**known, **changed}


def letter(**changed: Any) -> dict[str, Any]:
    """Return a dead letter with some other parts."""
    known = {
        "number": 1, "entry": entry(), "destination": "crm", "index": 0, "cause": "refused",
        "reason": "no", "at": AT, "attempts": b"", "rendered": b"", "event_name": "", "user": "",
    }  # fmt: skip
    return {**known, **changed}


def attempts(at: float) -> bytes:
    """Return the only attempt of a dead letter."""
    return pack_attempts((Attempt(at, 400, 0.25, "no"),))


REFUSED: list[tuple[str, Any, str]] = [
    ("entries", entry(meta=b"\xff\x00"), "$.entries[0].meta"),
    ("entries", entry(meta=b""), "$.entries[0].meta"),
    ("entries", entry(meta=meta({"crm": (0,)}, "sh\0op")), "$.entries[0].meta"),
    ("entries", entry(meta=meta({"crm": (99,)})), "$.entries[0].meta"),
    ("entries", entry(meta=meta({"crm": (-1,)})), "$.entries[0].meta"),
    ("entries", entry(id="r\0"), "$.entries[0].id"),
    ("entries", entry(at=-1), "$.entries[0].at"),
    ("entries", entry(at=1e300), "$.entries[0].at"),
    ("dead_letters", letter(attempts=b"\xff"), "$.dead_letters[0].attempts"),
    ("dead_letters", letter(attempts=attempts(math.nan)), "$.dead_letters[0].attempts"),
    ("dead_letters", letter(entry=entry(meta=b"")), "$.dead_letters[0].entry.meta"),
    ("dead_letters", letter(at=1e12), "$.dead_letters[0].at"),
    *(
        ("dead_letters", letter(index=index), "$.dead_letters[0].index")
        for index in (-1, 99, 2**40)
    ),
    ("message_ids", {"key": b"short", "until": AT}, "$.message_ids[0].key"),
    ("message_ids", {"key": b"k" * 16, "until": 1e12}, "$.message_ids[0].until"),
    ("consents", {"user": b"u", "until": AT, "records": {}}, "$.consents[0].user"),
]


async def test_an_invalid_part_gets_a_400_with_its_path(tmp_path: Path) -> None:
    """A part of a batch that no spool holds gets a 400 with its path, and nothing is stored."""
    async with administered(tmp_path) as admin:
        for kind, part, path in REFUSED:
            body = msgspec.to_builtins({"origin": 1, kind: [part]})
            status, problem = await admin.call("POST", "/api/v1/spool/move", body)
            assert status == 400, (kind, part, problem)
            assert path in problem["detail"], (path, problem)
        depths = await admin.context.gateway.spool.balances()
        assert not any(one.accepted or one.dead_letters for one in depths.values())


async def test_an_unknown_destination_gets_a_409(tmp_path: Path) -> None:
    """A batch for a destination that does not exist gets a 409 with the name of it."""
    other = entry(meta=meta({"crm": (0,), "shop2": (0,)}))
    dead = letter(entry=other, destination="shop2")
    async with administered(tmp_path) as admin:
        for part in ({"entries": [other]}, {"dead_letters": [dead]}):
            body = msgspec.to_builtins({"origin": 1, **part})
            status, problem = await admin.call("POST", "/api/v1/spool/move", body)
            assert status == 409
            assert problem["detail"].startswith("unknown destinations: shop2;")
        good = msgspec.to_builtins({"origin": 1, "entries": [entry()], "dead_letters": [letter()]})
        assert (await admin.post("/spool/move", good))["requests"] == 1


async def test_a_batch_is_bounded(tmp_path: Path) -> None:
    """A batch of more parts or bytes than a spool sends is refused, and blocks nothing."""
    remembered = {"key": b"k" * 16, "until": AT}
    consent = {"user": b"u" * 16, "until": AT, "records": {}}
    async with administered(tmp_path) as admin:
        for kind, part, most in (
            ("entries", entry(body=b"", meta=b""), MAX_ENTRIES),
            ("dead_letters", letter(), MAX_LETTERS),
            ("message_ids", remembered, MAX_REMEMBERED),
            ("consents", consent, MAX_REMEMBERED),
        ):
            body = msgspec.to_builtins({"origin": 1, kind: [part] * (most + 1)})
            status, problem = await admin.call("POST", "/api/v1/spool/move", body)
            assert status == 400
            assert f"length <= {most}" in problem["detail"]
            assert kind in problem["detail"]
        url = f"{admin.url}/api/v1/spool/move"
        headers = {
            "authorization": f"Bearer {TOKEN}",
            "x-gateway-admin": "1",
            "content-type": "application/json",
        }
        for count, status in ((1_900_000, 400), (2_200_000, 413)):
            many = b'{"origin":1,"entries":[' + b"[]," * count + b"[]]}"
            began = time.process_time()
            async with admin.running.client.post(
                url, data=io.BytesIO(many), headers=headers
            ) as answer:
                assert answer.status == status, await answer.read()
                assert orjson.loads(await answer.read())["status"] == status
            assert time.process_time() - began < 1
