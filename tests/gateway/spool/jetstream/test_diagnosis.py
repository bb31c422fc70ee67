"""What ``gateway check --connect`` says of NATS servers that a gateway cannot use as it should."""

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from pydantic import SecretStr

from gateway.config import SpoolConfig
from gateway.plugin.quantities import MIB
from gateway.spool.jetstream.access import access_of
from gateway.spool.jetstream.connection import NatsConnection
from gateway.spool.jetstream.diagnosis import OLDEST, Diagnosis, diagnose
from gateway.spool.jetstream.identity import join
from gateway.spool.jetstream.layout import Layout
from tests.cluster.access import (
    ANYBODY,
    PASSWORD,
    USER,
    Access,
    by_certificate,
    by_credentials,
    by_nkey,
    by_password,
)
from tests.cluster.servers import NatsServers, nats_servers

LOGIN = {"user": USER, "password": SecretStr(PASSWORD)}


def table(servers: NatsServers, **keys: Any) -> SpoolConfig:
    """Return ``[spool]`` with *servers* and further keys."""
    return SpoolConfig(
        url=",".join(servers.urls), **{"replicas": len(servers), "max_bytes": MIB, **keys}
    )


async def diagnosed(servers: NatsServers, **keys: Any) -> Diagnosis:
    """Return the diagnosis of *servers*; ``monitor`` is set unless *keys* say otherwise."""
    monitors = {"monitor": ",".join(servers.monitors)}
    return await diagnose(table(servers, **monitors | keys), MIB)


@contextmanager
def one_server(folder: Path, **settings: Any) -> Iterator[NatsServers]:
    """Run a server of its own."""
    with nats_servers(folder, 1, sync_always=True, **settings) as servers:
        yield servers


async def test_servers_that_are_right_are_listed(tmp_path: Path) -> None:
    """With all as it should be, each server is named with its version, and nothing is left."""
    with one_server(tmp_path, access=by_password()) as servers:
        found = await diagnosed(servers, **LOGIN)
        version = found.servers[0].rpartition(" ")[2]
        assert found == ([f"{servers.urls[0]}, version {version}"], [], [])
        assert tuple(map(int, version.split("."))) >= OLDEST
        connection = NatsConnection(servers.urls, access_of(table(servers, **LOGIN)))
        await connection.open()
        assert await connection.api("STREAM.NAMES") == await connection.api("STREAM.NAMES", {})
        assert not (await connection.api("STREAM.NAMES"))["streams"]
        await connection.close()


@pytest.mark.parametrize("how", ["password", "nkey", "credentials", "certificate"])
async def test_each_kind_of_credentials_lets_the_gateway_in(
    how: str, tmp_path: Path, certificate_authority: trustme.CA
) -> None:
    """User and password, an nkey, a credentials file and a certificate work; nothing shows them."""
    access, keys = ANYBODY, dict[str, Any]()
    if how == "password":
        access, keys = by_password(), LOGIN
    elif how == "nkey":
        access = by_nkey()
        keys = {"nkey_seed": SecretStr(access.connect["nkeys_seed_str"])}
    elif how == "credentials":
        access, keys = by_credentials(tmp_path), {"creds": tmp_path / "gateway.creds"}
    else:
        access = by_certificate(tmp_path, certificate_authority)
        files = {"ca": "ca.pem", "cert": "client.pem", "key": "client.key"}
        keys = {key: tmp_path / name for key, name in files.items()}
    with one_server(tmp_path / "servers", access=access) as servers:
        found = await diagnosed(servers, **keys)
        stranger = await diagnosed(servers, **{key: keys[key] for key in keys if key == "ca"})
        shown = repr((access_of(table(servers, **keys)), found, stranger))
    assert (found.problems, found.remarks) == ([], [])
    assert stranger.problems
    secrets = [key.get_secret_value() for key in keys.values() if isinstance(key, SecretStr)]
    assert not [secret for secret in secrets if secret in shown]


async def test_a_server_that_is_away_is_named(nats_cluster: NatsServers) -> None:
    """Of several servers only the one that cannot be reached is a problem."""
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        away = f"nats://127.0.0.1:{reserved.getsockname()[1]}"
    urls = ",".join((*nats_cluster.urls, away))
    found = await diagnose(SpoolConfig(url=urls, name="t-away", max_bytes=MIB), MIB)
    assert len(found.servers) == len(nats_cluster)
    assert found.problems == [
        f"[spool] url: {away}: cannot connect (Connection refused); start it, or correct url"
    ]
    nobody = await diagnose(SpoolConfig(url="nats://nobody.invalid"), MIB)
    (problem,) = nobody.problems
    assert re.search(r"nobody\.invalid: cannot connect \(.*[Nn]ame", problem), problem


async def test_wrong_credentials_are_told(tmp_path: Path) -> None:
    """Credentials that NATS does not know are a problem, and are not shown."""
    with one_server(tmp_path, access=by_password()) as servers:
        found = await diagnosed(servers, user=USER, password=SecretStr("another-secret"))
    (problem,) = found.problems
    assert "NATS refuses the credentials; correct user and password" in problem
    assert "another-secret" not in problem


async def test_tls_that_fails_is_told(
    tmp_path: Path, certificate_authority: trustme.CA, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown authority, a missing certificate, and no TLS are told apart; the log is quiet."""
    access = by_certificate(tmp_path, certificate_authority)
    ca = tmp_path / "ca.pem"
    with one_server(tmp_path / "servers", access=access) as servers:
        unknown = await diagnosed(servers)
        nobody = await diagnosed(servers, ca=ca)
        known = await diagnosed(
            servers, ca=ca, cert=tmp_path / "client.pem", key=tmp_path / "client.key"
        )
    with one_server(tmp_path / "plain") as servers:
        url = servers.urls[0].replace("nats:", "tls:")
        plain = await diagnose(table(servers).model_copy(update={"url": url}), MIB)
    assert "its certificate is not accepted (" in unknown.problems[0]
    assert unknown.problems[0].endswith("); name its authority in ca")
    assert "if the servers want a certificate, name it in cert and key" in nobody.problems[0]
    assert (known.problems, known.remarks) == ([], [])
    assert not caplog.records
    assert "the server does not ask for TLS; configure tls there" in plain.problems[0]


async def test_jetstream_that_is_off_is_told(tmp_path: Path) -> None:
    """A server without JetStream is a problem, and so is its monitoring page."""
    with one_server(tmp_path, access=Access("jetstream: disabled")) as servers:
        found = await diagnosed(servers)
    assert found.problems == [
        "[spool] url: JetStream is off; turn it on in the configuration of the servers"
    ]
    what = "tells nothing of JetStream (KeyError); correct the address"
    assert found.remarks == [f"[spool] monitor: {servers.monitors[0]} {what}"]


async def test_too_few_servers_are_told(tmp_path: Path, nats_cluster: NatsServers) -> None:
    """More replicas than servers are a problem, with one server and with three."""
    with one_server(tmp_path) as servers:
        alone = await diagnosed(servers, replicas=3)
    many = await diagnosed(nats_cluster, replicas=5, name="t-few")
    for found, replicas in ((alone, 3), (many, 5)):
        (problem,) = found.problems
        assert problem.startswith(f"[spool] replicas: NATS has too few servers for {replicas} ")


async def test_too_little_room_is_told(tmp_path: Path, nats_cluster: NatsServers) -> None:
    """A log that no server has room for is a problem."""
    with one_server(tmp_path) as servers:
        alone = await diagnosed(servers, max_bytes=MIB**2)
    many = await diagnosed(nats_cluster, max_bytes=MIB**2, name="t-room")
    for found in (alone, many):
        (problem,) = found.problems
        assert problem.startswith(f"[spool] max_bytes: NATS has too little room for {MIB**2} ")


async def test_a_small_max_payload_is_told(tmp_path: Path) -> None:
    """A server whose messages are smaller than a request is a problem, with the size it needs."""
    with one_server(tmp_path, access=Access("max_payload: 1MB")) as servers:
        found = await diagnosed(servers)
    (problem,) = found.problems
    assert "its max_payload is 1048576 bytes; set it to 1114112 or more" in problem


@asynccontextmanager
async def older(servers: NatsServers, version: str) -> AsyncIterator[str]:
    """Yield the address of a proxy before a server, which says that it has another version."""

    async def copy(source: asyncio.StreamReader, to: asyncio.StreamWriter) -> None:
        while data := await source.read(65536):
            to.write(data.replace(b'"version":"2.', b'"version":"' + version.encode() + b"-2."))
        to.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = servers.urls[0].rpartition("/")[2].split(":")
        back, forth = await asyncio.open_connection(host, int(port))
        await asyncio.gather(copy(back, writer), copy(reader, forth), return_exceptions=True)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"nats://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def test_an_old_version_is_told(nats_cluster: NatsServers) -> None:
    """A server before 2.12.1 is a problem."""
    async with older(nats_cluster, "2.11.9") as url:
        found = await diagnose(SpoolConfig(url=url, name="t-old", max_bytes=MIB), MIB)
    (problem,) = found.problems
    assert f"{url}: NATS 2.11.9 is too old; upgrade it to 2.12.1 or later" in problem


PERMITTED = ("{name}.>", "$JS.API.>", "$JS.FC.>", "_INBOX.>")


@pytest.mark.parametrize(
    "missing",
    [
        ("publish", "$JS.API.>"), ("publish", "$JS.FC.>"), ("publish", "{name}.>"),
        ("subscribe", "{name}.>"), ("subscribe", "_INBOX.>"), None,
    ],
)  # fmt: skip
async def test_a_missing_permission_names_its_subject(
    tmp_path: Path, missing: tuple[str, str] | None
) -> None:
    """Without one of the permissions the problem names it; with exactly these there is none."""
    allowed = {
        "publish": [s for s in PERMITTED if missing != ("publish", s)],
        "subscribe": [s for s in ("{name}.>", "_INBOX.>") if missing != ("subscribe", s)],
    }
    lists = ", ".join(f"{verb}: {json.dumps(found)}" for verb, found in allowed.items())
    lists = lists.replace("{name}", "Shop")
    login = f'user: "{USER}", password: "{PASSWORD}"'
    config = f"authorization {{ users: [ {{ {login}, permissions: {{ {lists} }} }} ] }}"
    with one_server(tmp_path, access=Access(config)) as servers:
        found = await diagnosed(servers, name="Shop", **LOGIN)
    wanted = []
    if missing:
        what = f"{missing[0]} to {missing[1].replace('{name}', 'Shop')}; permit it for its user"
        wanted = [f"[spool] url: NATS does not let the gateway {what}"]
    assert found.problems == wanted


async def test_writes_that_are_not_synced_are_a_remark(nats_cluster: NatsServers) -> None:
    """A server that does not sync each write, and one that nobody can ask, are remarks."""
    found = await diagnosed(nats_cluster, name="t-sync")
    assert (found.problems, len(found.remarks)) == ([], len(nats_cluster))
    assert all("does not sync every write" in remark for remark in found.remarks)
    unasked = await diagnosed(nats_cluster, name="t-sync", monitor="")
    (remark,) = unasked.remarks
    assert remark.startswith("[spool] monitor: is not set, so nobody looked")


async def test_another_number_of_shards_is_told(nats_cluster: NatsServers) -> None:
    """A cluster that was made with other settings is told, with what can be changed."""
    connection, layout = NatsConnection(nats_cluster.urls), Layout("t-shards")
    await connection.open()
    streams = layout.streams(replicas=1)
    for name, settings in streams.items():
        await connection.create_stream(name, settings)
    await join(connection, layout, 4)
    found = await diagnosed(nats_cluster, name=layout.name, shards=8)
    for name in streams:
        await connection.api(f"STREAM.DELETE.{name}")
    await connection.close()
    assert found.problems == [
        f"{layout.identity}: the cluster has 4 shards, not 8; their number cannot change"
    ]
    assert [remark for remark in found.remarks if "replicas" in remark] == [
        (
            f"[spool] replicas: the stream {name} has 1 replicas, not 3; change them with nats "
            "stream edit, or write replicas = 1"
        )
        for name in streams
    ]
