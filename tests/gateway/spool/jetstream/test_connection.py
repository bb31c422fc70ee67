"""The connection to NATS: credentials, repeated calls, and errors."""

import asyncio
import re
import socket
from pathlib import Path

import pytest
import structlog
import trustme

from gateway.errors import SpoolError
from gateway.spool.jetstream.access import NatsAccess
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.layout import Layout
from gateway.spool.jetstream.messages import StreamMessage, TooLarge, Unanswered, WrongSequence
from gateway.spool.values import SpoolFull
from gateway.testing.spool.contract import eventually
from tests.cluster.access import PASSWORD, USER, by_certificate, by_password
from tests.cluster.servers import NatsServers, nats_servers
from tests.gateway.spool.jetstream.faulty_connection import (
    FaultyConnection,
    lost_answer,
    lost_request,
    refused,
)


async def test_credentials_are_used_and_never_shown(tmp_path: Path) -> None:
    """User and password let the gateway in; no text and no log has them."""
    with nats_servers(tmp_path, 1, access=by_password()) as servers:
        with structlog.testing.capture_logs() as logged:
            right = NatsConnection(servers.urls, NatsAccess(USER, PASSWORD), name="gateway")
            await right.open()
            assert right.health() is None
            shown = str(right._client and right._client.connected_url)
            await right.close()
            access = NatsAccess(USER, "another-secret", "SUSEED", "creds")
            wrong = NatsConnection(servers.urls, access, patience=0.5)
            with pytest.raises(SpoolError, match="refuses the credentials") as refused:
                await wrong.open()
            texts = [shown, str(refused.value), str(wrong.health()), repr(vars(wrong))]
        assert not re.search(
            f"{PASSWORD}|another-secret|SUSEED|creds", " ".join(texts) + repr(logged)
        )


async def test_no_credential_leaves_without_tls() -> None:
    """A server that does not ask for TLS at a ``tls://`` address gets nothing from the gateway."""
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"x","version":"2.12.1","max_payload":1048576}\r\n')
        got.append(await reader.read())
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        access = NatsAccess(USER, PASSWORD)
        connection = NatsConnection([f"tls://127.0.0.1:{port}"], access, patience=0.5)
        with pytest.raises(SpoolError, match="does not ask for TLS"):
            await connection.open()
    assert got
    assert not b"".join(got)


async def test_a_server_with_a_wrong_certificate_is_passed_over(
    tmp_path: Path, certificate_authority: trustme.CA
) -> None:
    """Of two servers, one with a certificate of a stranger, the other one is used."""
    for name in ("mine", "strange"):
        (tmp_path / name).mkdir()
    mine = by_certificate(tmp_path / "mine", certificate_authority)
    strange = by_certificate(tmp_path / "strange", trustme.CA())
    access = NatsAccess(tls=mine.connect["tls"])
    with (
        nats_servers(tmp_path / "one", 1, access=strange) as wrong,
        nats_servers(tmp_path / "two", 1, access=mine) as right,
    ):
        connection = NatsConnection([*wrong.urls, *right.urls], access, patience=5.0)
        await connection.open()
        assert connection.health() is None
        await connection.close()


async def test_servers_that_are_away_are_named() -> None:
    """Without a server, opening ends with the addresses and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    connection = NatsConnection([f"nats://127.0.0.1:{port}"], patience=0.3)
    with pytest.raises(SpoolError, match=f"127.0.0.1:{port}: cannot connect to NATS: .*onnect"):
        await connection.open()
    with pytest.raises(SpoolError, match="no connection to NATS"):
        await connection.store("x", b"", patience=0)
    await connection.close()


async def test_a_repeated_message_is_stored_once(
    connection: FaultyConnection, layout: Layout
) -> None:
    """A message whose acknowledgement is lost is stored once, at one sequence."""
    subject = layout.log(0)
    connection.plan(subject, lost_answer, lost_request, lost_answer)
    first = await connection.store(subject, b"one", message_id=f"{subject}.1")
    second = await connection.store(subject, b"two", message_id=f"{subject}.2")
    found = [one async for one in connection.read_all(layout.log_stream, subject, 1, second)]
    assert [(one.seq, one.data) for one in found] == [(first, b"one"), (second, b"two")]


async def test_a_write_in_process_is_no_other_writer(
    connection: FaultyConnection, layout: Layout
) -> None:
    """Code 10164 says that the write before is not finished: the call is repeated; 10071 is not."""
    subject = layout.journal(0)
    connection.plan(subject, refused(400, 10164, "wrong last sequence"))
    assert await connection.store(subject, b"one", expected=0)
    with pytest.raises(WrongSequence):
        await connection.store(subject, b"two", expected=0)


async def test_patience_ends(connection: FaultyConnection, layout: Layout) -> None:
    """A call that nobody answers ends with SpoolError once patience is over."""
    subject = layout.log(0)
    connection.plan(subject, *[lost_request] * 100)
    with pytest.raises(Unanswered, match="lost"):
        await connection.store(subject, b"one", patience=0.1)


async def test_full_streams_and_large_messages_are_told_apart(
    connection: FaultyConnection, layout: Layout
) -> None:
    """A full stream raises SpoolFull, a message above the servers' limit another SpoolError."""
    subject = layout.log(0)
    connection.plan(subject, refused(503, 10077, "maximum bytes exceeded"))
    with pytest.raises(SpoolFull, match="maximum bytes"):
        await connection.store(subject, b"one")
    with pytest.raises(TooLarge, match="max_payload"):
        await connection.store(subject, b"x" * (connection.max_payload + 1))


async def test_a_batch_is_stored_whole_or_not_at_all(
    connection: FaultyConnection, layout: Layout
) -> None:
    """Of a batch whose expectation fails nothing is stored; otherwise all, one after the other."""
    letter = StreamMessage(layout.dead_letters(0), b"letter")
    wrong = [letter, letter, StreamMessage(layout.journal(0), b"record", expected=7)]
    with pytest.raises(WrongSequence):
        await connection.store_batch("b1", wrong)
    assert await connection.last(layout.state_stream, layout.dead_letters(0)) is None
    right = [letter, letter, StreamMessage(layout.journal(0), b"record", expected=0)]
    last = await connection.store_batch("b2", right)
    subjects = f"{layout.name}.*.0"
    found = [one async for one in connection.read_all(layout.state_stream, subjects, 1, last)]
    assert [(one.seq - last, one.data) for one in found] == [
        (-2, b"letter"), (-1, b"letter"), (0, b"record"),
    ]  # fmt: skip


async def test_a_stream_that_is_not_there_is_told(
    connection: FaultyConnection, layout: Layout
) -> None:
    """Calls about a missing stream or message return nothing; a wrong call is an error."""
    assert await connection.api("STREAM.INFO.nobody") == {}
    assert await connection.message(layout.log_stream, layout.log(0), 5) is None
    with pytest.raises(SpoolError, match="does not match"):
        await connection.api("STREAM.CREATE.odd", {"name": "other"})


async def test_a_client_that_gave_up_is_replaced(nats_cluster: NatsServers) -> None:
    """The connection is made anew when the client closes itself for an error of the server."""
    connection = NatsConnection(nats_cluster.urls)
    await connection.open()
    client = connection._client
    assert client is not None
    await client._process_err("'Authentication Timeout'")

    async def reopened() -> bool:
        return connection._client not in {None, client}

    await eventually(reopened)
    assert connection.health() is None
    assert await connection.api("INFO")
    await connection.close()


async def test_messages_larger_than_a_page_are_read(
    connection: FaultyConnection, layout: Layout
) -> None:
    """Messages that exceed what one answer may hold come nevertheless, one by one."""
    large = b"x" * 5_000_000
    for _ in range(2):
        last = await connection.store(layout.log(0), large)
    found = connection.read_all(layout.log_stream, layout.log(0), 1, last)
    assert [one.data == large async for one in found] == [True, True]
