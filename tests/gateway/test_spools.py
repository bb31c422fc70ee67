"""Which spool a configuration makes."""

import os
import subprocess
import sys
from pathlib import Path

import structlog
import trustme

from gateway.app import Gateway
from gateway.config import Config, SpoolConfig
from gateway.config.changes import delivery_digest
from gateway.config.loader.load import load
from gateway.plugin.registry import load_plugins
from gateway.routing.router import Router
from gateway.spool.jetstream.spool import JetStreamSpool
from gateway.spool.sqlite.database import FILE
from gateway.spool.sqlite.spool import SqliteSpool
from gateway.spools import make_spool
from tests.soak.marks import config

MAX_BODY = 1024
STEPS = """
name = "web"
types = ["track", "identify"]
when = 'event.type == "track" && size(event.name) > 3'
steps = ["private", { sample = 0.5 }, { consent = ["advertising", "personalization"] }]
[steps]
private = [{ drop = ["context.ip", "traits.email"] }, { set = { "context.app.name" = "shop" } }]
"""
DIGEST = """
import sys
from pathlib import Path
from gateway.config.changes import delivery_digest
from gateway.config.loader.load import load
from gateway.plugin.registry import load_plugins
registry = load_plugins()
print(delivery_digest(load(Path(sys.argv[1]), registry), registry.inputs))
"""
ALONE = """
import sys
from gateway.app import Gateway
assert "nats" not in sys.modules, "nats"
"""


def test_url_makes_the_difference(tmp_path: Path) -> None:
    """Without ``url`` the spool is a folder's, with it one that gateways share by name."""
    alone = make_spool(SpoolConfig(path=tmp_path), MAX_BODY)
    shared = [make_spool(SpoolConfig(path=tmp_path, url="nats://n1"), MAX_BODY) for _ in range(2)]
    assert isinstance(alone, SqliteSpool)
    assert all(isinstance(spool, JetStreamSpool) for spool in shared)
    assert alone.node == ""
    assert len({spool.node for spool in shared}) == len(shared)


def test_a_gateway_alone_does_not_import_the_client() -> None:
    """The client for NATS is an extra: a gateway without ``url`` never imports it."""
    subprocess.run([sys.executable, "-c", ALONE], check=True)


def test_others_are_told_what_decides_how_events_are_delivered(tmp_path: Path) -> None:
    """The digest that a gateway tells changes with its destinations, and not with its server."""
    path, registry = tmp_path / "gateway.toml", load_plugins()

    def loaded(port: int, server: str = "") -> Config:
        spool = 'url = "nats://127.0.0.1:9"'
        path.write_text(config(str(tmp_path), {"chrts": port}, server=server, spool=spool))
        return load(path, registry)

    gateway = Gateway(loaded(9), registry)
    assert isinstance(gateway.spool, JetStreamSpool)
    digests = [gateway.spool.report().digest]
    for after in (loaded(9, "max_body = 100_000"), loaded(8)):
        gateway.activate(after, Router(after.routes))
        digests.append(gateway.spool.report().digest)
    assert digests[0] == digests[1] != digests[2]
    assert all(digests)


async def test_a_destination_is_paused_as_another_gateway_was_told_to(tmp_path: Path) -> None:
    """What is paused elsewhere is paused here, and goes on when it does there."""
    path, registry = tmp_path / "gateway.toml", load_plugins()
    spool = 'url = "nats://127.0.0.1:9"\npatience = "100ms"'
    path.write_text(config(str(tmp_path), {"chrts": 9, "tracardi": 9}, spool=spool))
    gateway = Gateway(load(path, registry), registry)
    assert isinstance(gateway.spool, JetStreamSpool)
    await gateway.start()
    for name, to in gateway.config.destinations.items():
        gateway.start_team(gateway.make_team(name, to), paused=False)
    for told in ({"chrts", "gone"}, {"tracardi"}, set[str]()):
        gateway.spool._on_paused(frozenset(told))
        paused = {name for name, team in gateway.teams.items() if team.paused}
        assert paused == told - {"gone"}
    await gateway.stop()


def test_every_gateway_computes_the_same_digest(tmp_path: Path) -> None:
    """The digest of one file is the same in another process, whatever is configured."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    path, registry = tmp_path / "gateway.toml", load_plugins()
    text = config(str(tmp_path), {"chrts": 9}, f'ca = "{tmp_path}/ca.pem"\ncredentials = "own"')
    path.write_text(text + STEPS)
    mine = delivery_digest(load(path, registry), registry.inputs)
    environment = {**os.environ, "PYTHONHASHSEED": "1"}
    command = [sys.executable, "-c", DIGEST, str(path)]
    other = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert other.stdout.strip() == mine


def test_a_spool_that_url_leaves_unused_is_logged(tmp_path: Path) -> None:
    """What waits in the folder is not forgotten silently."""
    (tmp_path / FILE).touch()
    with structlog.testing.capture_logs() as logged:
        make_spool(SpoolConfig(path=tmp_path, url="nats://n1"), MAX_BODY)
        make_spool(SpoolConfig(path=tmp_path), MAX_BODY)
    assert [(line["event"], line["path"]) for line in logged] == [("spool_unused", str(tmp_path))]
