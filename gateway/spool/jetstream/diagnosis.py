"""Look at the NATS servers of a cluster, and say what keeps a gateway from using them."""

import asyncio
import contextlib
import os
import re
import ssl
from collections.abc import AsyncIterator, Sequence
from typing import Any, NamedTuple

import aiohttp
import msgspec
from nats.errors import Error, NoRespondersError

from gateway.config import SpoolConfig
from gateway.errors import SpoolError
from gateway.spool.jetstream.access import TLS_MISSING, NatsAccess, NatsClient, access_of
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.identity import checked_identity
from gateway.spool.jetstream.layout import HEAD_ROOM, Layout

OLDEST = (2, 12, 1)
"""The first version of the server with all that the gateway needs, such as atomic batches."""
_WAIT = 2.0
"""Seconds for one answer."""
_TRIES = 5
_VIOLATION = re.compile(
    r'permissions violation for (publish|subscription) to "([^"]+)"', re.IGNORECASE
)
_ONE_SERVER, _TOO_FEW = 10074, 10005
_NO_ROOM = frozenset({10023, 10047})
_NOT_ENABLED = 10039


class Diagnosis(NamedTuple):
    """What was found; each text names its key and says what to do."""

    servers: list[str]
    """Each server that let the gateway in, with its version."""
    problems: list[str]
    """What a gateway cannot work with."""
    remarks: list[str]
    """What it can work with, but promises less."""


class _ServerInfo(NamedTuple):
    address: str
    version: tuple[int, int, int]
    max_payload: int


class _Impossible(Exception):
    """Problems that leave nothing more to look at."""


async def diagnose(spool: SpoolConfig, max_body: int) -> Diagnosis:
    """Connect to the servers in *spool*, and try what a gateway does there.

    If the cluster has no streams yet, one like them is made and deleted again.

    Args:
        spool: the table with ``url``.
        max_body: bytes of the largest request that the gateway accepts.
    """
    found = Diagnosis([], [], [])
    try:
        access = access_of(spool)
        infos = await _reach_all(spool, access, found)
        for info in infos:
            found.servers.append(f"{info.address}, version {_shown(info.version)}")
            found.problems.extend(_server_problems(info, max_body))
        if infos:
            await _try_subjects(spool, access, infos[0].address)
            await _look_at_streams(spool, access, found)
    except (_Impossible, SpoolError) as error:
        found.problems.extend(map(str, error.args))
    await _look_at_monitors(spool, found)
    return found


# ---- the servers -----------------------------------------------------------------------------


async def _reach_all(spool: SpoolConfig, access: NatsAccess, found: Diagnosis) -> list[_ServerInfo]:
    tried = await asyncio.gather(*[_reach(address, access) for address in spool.servers])
    found.problems.extend(one for one in tried if isinstance(one, str))
    return [one for one in tried if isinstance(one, _ServerInfo)]


async def _reach(address: str, access: NatsAccess) -> _ServerInfo | str:
    """Return what a server tells of itself, or why it cannot be used.

    A server that refuses the gateway may close the connection before its reason is read: it is
    asked again.
    """
    error: Exception = TimeoutError()
    for _ in range(_TRIES):
        errors: list[Exception] = []
        try:
            async with _client(address, access, errors) as client:
                at = client.connected_server_version
                version = (at.major, at.minor, at.patch)
                return _ServerInfo(address, version, int(client.max_payload))
        except (Error, OSError, TimeoutError, ValueError) as found:
            error = errors[-1] if errors else found
        if not isinstance(error, ConnectionResetError):
            break
    return f"[spool] url: {address}: {_why_not(error)}"


def _why_not(error: Exception) -> str:
    text = str(error).removeprefix("nats: ")
    if "uthorization" in text:
        return (
            "NATS refuses the credentials; correct user and password, nkey_seed or creds, or add "
            "the user to the servers' configuration"
        )
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = error.verify_message
        return f"its certificate is not accepted ({reason}); name its authority in ca"
    if TLS_MISSING in text:
        return text
    if isinstance(error, ssl.SSLError):
        reason = (error.reason or text).lower().replace("_", " ")
        return f"TLS fails ({reason}); if the servers want a certificate, name it in cert and key"
    if isinstance(error, TimeoutError):
        text = "no answer in time"
    elif isinstance(error, OSError):  # a number of the system, or one of its resolver below 0
        number = error.errno or 0
        text = os.strerror(number) if number > 0 else str(error.strerror or error)
    return f"cannot connect ({text or type(error).__name__}); start it, or correct url"


@contextlib.asynccontextmanager
async def _client(
    address: str, access: NatsAccess, errors: list[Exception]
) -> AsyncIterator[NatsClient]:
    """Connect to one server; what the client reports is appended to *errors*."""

    async def note(error: Exception) -> None:
        errors.append(error)

    client = NatsClient()
    try:
        async with asyncio.timeout(2 * _WAIT):
            await client.connect(
                [address],
                name="gateway check",
                error_cb=note,
                allow_reconnect=False,
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=2,
                **access.options(),
            )
        yield client
    finally:
        with contextlib.suppress(Error, OSError):
            await client.close()


def _server_problems(info: _ServerInfo, max_body: int) -> list[str]:
    found = []
    if info.version < OLDEST:
        what = f"NATS {_shown(info.version)} is too old; upgrade it to {_shown(OLDEST)} or later"
        found.append(f"[spool] url: {info.address}: {what}")
    needed = max_body + HEAD_ROOM
    if info.max_payload < needed:
        found.append(
            f"[spool] url: {info.address}: its max_payload is {info.max_payload} bytes; set it to "
            f"{needed} or more on every server, or lower max_body in [server]"
        )
    return found


def _shown(version: Sequence[int]) -> str:
    return ".".join(map(str, version))


# ---- permissions -----------------------------------------------------------------------------


async def _try_subjects(spool: SpoolConfig, access: NatsAccess, address: str) -> None:
    """Use a subject of each kind; raise what is not permitted, or that JetStream is off."""
    errors: list[Exception] = []
    probe = f"{spool.name}.check"
    async with _client(address, access, errors) as client:
        inbox = client.new_inbox()
        for subject in (probe, inbox):
            await client.subscribe(subject)
        for subject in (probe, inbox, "$JS.FC.check"):
            await client.publish(subject, b"")
        await client.flush(int(_WAIT))
        off = None
        try:
            answer = await client.request("$JS.API.INFO", b"", timeout=_WAIT)
            code = msgspec.json.decode(answer.data).get("error", {}).get("err_code")
            off = "of this account" if code == _NOT_ENABLED else None
        except NoRespondersError:
            off = "of the servers"
        except Error as error:
            errors.append(error)
    if refused := _refused(errors, spool.name):
        raise _Impossible(*refused)
    if off:
        raise _Impossible(f"[spool] url: JetStream is off; turn it on in the configuration {off}")
    if errors:
        raise _Impossible(f"[spool] url: JetStream does not answer ({errors[-1]}); try again")


def _refused(errors: Sequence[Exception], name: str) -> list[str]:
    """Return a problem for each kind of subject that the user may not use.

    The client tells the subjects in lower case.
    """
    found = {}
    for error in errors:
        if violation := _VIOLATION.search(str(error)):
            verb = "publish" if violation[1].lower() == "publish" else "subscribe"
            subject = violation[2].lower()
            kinds = ("$JS.API.>", "$JS.FC.>", "_INBOX.>", f"{name}.>")
            kind = next((k for k in kinds if subject.startswith(k[:-1].lower())), subject)
            what = f"NATS does not let the gateway {verb} to {kind}; permit it for its user"
            found[verb, kind] = f"[spool] url: {what}"
    return list(found.values())


# ---- streams ---------------------------------------------------------------------------------


async def _look_at_streams(spool: SpoolConfig, access: NatsAccess, found: Diagnosis) -> None:
    """Look at the cluster's streams; without any, try whether they could be made."""
    layout = Layout(spool.name)
    connection = NatsConnection(spool.servers, access, name="gateway check", patience=_WAIT)
    await connection.open()
    try:
        missing = []
        for stream in layout.streams(spool.replicas):
            answer = await connection.api(f"STREAM.INFO.{stream}")
            if answer:
                _judge_stream(stream, answer, spool, found)
            else:
                missing.append(stream)
        if layout.log_stream in missing:
            await _try_stream(connection, layout, spool)
        if layout.config_stream not in missing:
            identity = await connection.last(layout.config_stream, layout.identity)
            if identity:
                checked_identity(identity.data, layout, spool.shards)
    finally:
        await connection.close()


def _judge_stream(
    stream: str, answer: dict[str, Any], spool: SpoolConfig, found: Diagnosis
) -> None:
    copies = answer["config"]["num_replicas"]
    if copies != spool.replicas:
        found.remarks.append(
            f"[spool] replicas: the stream {stream} has {copies} replicas, not {spool.replicas}; "
            f"change them with nats stream edit, or write replicas = {copies}"
        )
    for peer in (answer.get("cluster") or {}).get("replicas") or ():
        if peer.get("offline") or not peer.get("current"):
            found.remarks.append(
                f"[spool] url: the server {peer['name']} has no current copy of {stream}; start "
                "it, or wait until it has caught up"
            )


async def _try_stream(connection: NatsConnection, layout: Layout, spool: SpoolConfig) -> None:
    """Make a stream as the log will be, store a message, and delete the stream."""
    name, subject = f"{layout.name}_CHECK", f"{layout.name}.check"
    settings = layout.streams(spool.replicas, spool.max_bytes)[layout.log_stream]
    request = {"name": name, **settings, "subjects": [subject]}
    answer = await connection.request(f"$JS.API.STREAM.CREATE.{name}", msgspec.json.encode(request))
    error = msgspec.json.decode(answer.data).get("error")
    if error:
        raise _Impossible(_creation_problem(error["err_code"], error["description"], spool))
    try:
        await connection.store(subject, b"")
    finally:
        await connection.api(f"STREAM.DELETE.{name}")


def _creation_problem(code: int, what: str, spool: SpoolConfig) -> str:
    if code in _NO_ROOM or "insufficient storage" in what:
        return (
            f"[spool] max_bytes: NATS has too little room for {spool.max_bytes} bytes ({what}); "
            "raise max_file of the servers' JetStream, or lower max_bytes"
        )
    if code in {_ONE_SERVER, _TOO_FEW}:
        return (
            f"[spool] replicas: NATS has too few servers for {spool.replicas} replicas ({what}); "
            "add servers, or lower replicas"
        )
    return f"[spool] url: NATS makes no stream ({what}); look at the servers' log"


# ---- monitoring ------------------------------------------------------------------------------


async def _look_at_monitors(spool: SpoolConfig, found: Diagnosis) -> None:
    """Remark which servers do not sync each write, or cannot be asked."""
    if not spool.monitors:
        found.remarks.append(
            "[spool] monitor: is not set, so nobody looked whether each server has sync_interval: "
            "always; without it a power failure of all servers loses answered events"
        )
        return
    timeout = aiohttp.ClientTimeout(total=_WAIT)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        for address in spool.monitors:
            try:
                async with session.get(f"{address}/varz") as response:
                    page = await response.json(content_type=None)
                always = page["jetstream"]["config"].get("sync_always", False)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError, LookupError) as error:
                what = f"{address} tells nothing of JetStream ({type(error).__name__})"
                found.remarks.append(f"[spool] monitor: {what}; correct the address")
                continue
            if not always:
                found.remarks.append(
                    f"[spool] monitor: {address} does not sync every write, so a power failure of "
                    "all servers loses answered events; set sync_interval: always in jetstream"
                )
