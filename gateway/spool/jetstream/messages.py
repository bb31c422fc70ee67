"""Messages of streams, and what the servers' answers about them mean."""

from base64 import b64decode
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import orjson
from nats.aio.msg import Msg

from gateway.errors import SpoolError
from gateway.spool.values import SpoolFull, Unreachable

MESSAGE_ID = "Nats-Msg-Id"
EXPECTED = "Nats-Expected-Last-Subject-Sequence"
_RETRY_AFTER = 5.0
_WRONG_LAST_SEQUENCE = 10071
"""The subject has another last message; 10164 with the same text means that it is being written."""
_FULL = frozenset({10023, 10047, 10077})
"""Insufficient resources, insufficient storage, the stream's own limit of bytes."""
_REFUSED = frozenset({10054, 10109})
"""Too large, sealed: a repeat changes nothing."""
_FINAL = frozenset({400, 403})
"""Kinds of errors of the API that a repeat does not change."""
_DUPLICATE = 10201
"""A batch with the id of a message that is stored: an earlier attempt arrived."""
_NOTHING_TO_DO = frozenset({10014, 10037, 10043, 10058, 10059})
"""No such consumer, message, sequence or stream (10059); a stream that exists already (10058)."""


class Unanswered(Unreachable):
    """No server answered, or none can now: what was asked may have been done; repeat it."""


class WrongSequence(SpoolError):
    """The subject's last message is not the expected one."""


class AlreadyStored(SpoolError):
    """A message of a batch is stored already, as its id says."""


class StreamFull(SpoolFull):
    """The stream takes nothing more."""


class TooLarge(SpoolError):
    """The message exceeds what the servers take (``max_payload``)."""


class StoredMessage(NamedTuple):
    """A message of a stream."""

    seq: int
    data: bytes
    at: float
    """Unix seconds at which a server stored it."""


class StreamFollower(NamedTuple):
    """A server that follows the leader of a stream."""

    name: str
    current: bool
    """Whether it answers and has all of the stream."""


class StreamInfo(NamedTuple):
    """What a stream's leader tells of it."""

    bytes: int
    """Of its messages, in one replica."""
    created: str
    """When it was made, as the servers write it."""
    config: Mapping[str, Any]
    leader: str = ""
    """The server's name; empty if it is the only one."""
    followers: tuple[StreamFollower, ...] = ()


def read_stream_info(answer: Mapping[str, Any]) -> StreamInfo:
    """Return what the leader of a stream tells; a server that is alone tells of no cluster."""
    cluster = answer.get("cluster") or {}
    return StreamInfo(
        int(answer["state"]["bytes"]),
        str(answer["created"]),
        answer["config"],
        str(cluster.get("leader", "")),
        tuple(
            StreamFollower(str(one["name"]), bool(one["current"]) and not one.get("offline"))
            for one in cluster.get("replicas") or ()
        ),
    )


class StreamMessage(NamedTuple):
    """A message to store as a part of a batch."""

    subject: str
    data: bytes
    expected: int | None = None
    """The sequence of the subject's last message."""
    headers: Mapping[str, str] = {}


def with_id(subject: str, data: bytes, message_id: str) -> StreamMessage:
    """Return a message that is the same one if it is stored again within two minutes."""
    return StreamMessage(subject, data, headers={MESSAGE_ID: message_id})


def api_answer(call: str, message: Msg) -> dict[str, Any]:
    """Return the answer to a call of the JetStream API; ``{}`` if there was nothing to do."""
    answer = _object_of(message)
    error = answer.get("error")
    if not error:
        return answer
    if error.get("err_code") in _NOTHING_TO_DO:
        return {}
    kind = SpoolError if error.get("code") in _FINAL else Unanswered
    raise kind(f"{call}: {error.get('description')} ({error.get('err_code')})")


def leader_message(answer: Mapping[str, Any]) -> StoredMessage | None:
    """Return the message in an answer of a stream's leader."""
    found = answer.get("message")
    if not found:
        return None
    return StoredMessage(
        found["seq"], b64decode(found.get("data", "")), _unix_seconds(found["time"])
    )


def stored_sequence(subject: str, message: Msg) -> int:
    """Return the sequence of an acknowledgement; raise what it means otherwise."""
    answer = _object_of(message)
    error = answer.get("error")
    if not error:
        return int(answer["seq"])
    code, text = error.get("err_code"), f"{subject}: {error.get('description')}"
    if code == _WRONG_LAST_SEQUENCE:
        raise WrongSequence(text)
    if code == _DUPLICATE:
        raise AlreadyStored(text)
    if code in _FULL:
        raise StreamFull(f"{text}; the stream takes nothing more", _RETRY_AFTER)
    if code in _REFUSED:
        raise TooLarge(text)
    raise Unanswered(f"{text} ({code})")


def batch_headers(batch_id: str, number: int, message: StreamMessage) -> dict[str, str]:
    """Return the headers of the message with a number, from 1 on, in a batch."""
    headers = {**message.headers, "Nats-Batch-Id": batch_id, "Nats-Batch-Sequence": str(number)}
    if message.expected is not None:
        headers[EXPECTED] = str(message.expected)
    return headers


def stored_message(headers: Mapping[str, str], data: bytes) -> StoredMessage:
    """Return a message as a replica sent it."""
    at = _unix_seconds(headers["Nats-Time-Stamp"])
    return StoredMessage(int(headers["Nats-Sequence"]), data, at)


def _object_of(message: Msg) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = orjson.loads(message.data)
    except ValueError as error:
        raise Unanswered(f"{message.subject}: an answer that is no JSON") from error
    return answer


def _unix_seconds(moment: str) -> float:
    """Return Unix seconds of RFC 3339 with nanoseconds."""
    return datetime.fromisoformat(moment).timestamp()
