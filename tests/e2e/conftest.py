"""The spools on which the stories run."""

from collections.abc import Iterator
from hashlib import sha256
from uuid import uuid4

import pytest

from gateway import app
from gateway.config import SpoolConfig
from gateway.plugin.quantities import MIB
from gateway.spool import Spool
from gateway.spool.jetstream import presence
from gateway.spools import make_spool
from tests.cluster.servers import NatsServers


@pytest.fixture(params=["sqlite", "jetstream"])
def each_spool(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Run a test with its spools in folders, and once more with the same spools in NATS.

    It is for tests that run gateways in their own process, one at a time on a folder: a gateway
    need not wait for the signs of life of others.
    """
    if request.param == "sqlite":
        yield
        return
    server: NatsServers = request.getfixturevalue("nats_server")
    made: list[Spool] = []
    prefix = uuid4().hex

    def make(config: SpoolConfig, max_body: int) -> Spool:
        folder = sha256(str(config.path).encode()).hexdigest()[:8]
        in_nats = {
            "url": server.urls[0], "name": f"t{prefix}-{folder}", "shards": 4, "replicas": 1,
            "max_bytes": min(config.max_bytes, 16 * MIB),
        }  # fmt: skip
        made.append(make_spool(config.model_copy(update=in_nats), max_body))
        return made[-1]

    monkeypatch.setattr(app, "make_spool", make)
    monkeypatch.setattr(presence, "WARM_UP", 0.0)
    yield
    assert made, "no gateway was made in this process"
