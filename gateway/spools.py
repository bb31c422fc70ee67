"""Make the spool that a configuration names."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from gateway.config import SpoolConfig
from gateway.errors import SpoolError
from gateway.spool import Shard, Spool, SpoolLimits
from gateway.spool.sqlite.database import FILE
from gateway.spool.sqlite.spool import SqliteSpool

log = structlog.get_logger()


def make_spool(config: SpoolConfig, max_body: int) -> Spool:
    """Return the spool, not open.

    Args:
        config: the table ``[spool]``.
        max_body: bytes of the largest request that the gateway accepts.

    Raises:
        SpoolError: a file with the credentials for NATS cannot be used any more.
    """
    limits = SpoolLimits(config.max_bytes, config.max_age, config.retain)
    if not config.url:
        return SqliteSpool(config.path, limits)
    if (config.path / FILE).exists():
        log.warning("spool_unused", path=str(config.path))
    # The client for NATS is an extra, and takes long to import.
    from gateway.spool.jetstream.access import access_of  # noqa: PLC0415 - see above
    from gateway.spool.jetstream.connection import NatsConnection  # noqa: PLC0415 - see above
    from gateway.spool.jetstream.layout import Layout  # noqa: PLC0415 - see above
    from gateway.spool.jetstream.spool import JetStreamSpool  # noqa: PLC0415 - see above

    access = access_of(config)
    return JetStreamSpool(
        NatsConnection(config.servers, access, patience=config.patience),
        Layout(config.name),
        shards=config.shards,
        replicas=config.replicas,
        limits=limits,
        max_body=max_body,
    )


class _NoDelivery:
    """A ``ShardRunner`` that delivers nothing."""

    def start_shard(self, shard: Shard) -> None:
        """Do nothing."""

    async def finish_shard(self, shard: Shard) -> None:
        """Do nothing."""

    def abandon_shard(self, shard: Shard) -> None:
        """Do nothing: who settles gets `Fenced`."""


@asynccontextmanager
async def open_alone(config: SpoolConfig) -> AsyncIterator[Spool]:
    """Open a spool whose gateways are stopped, with all its shards; nothing in it expires.

    Raises SpoolError if one of them runs, or if there is no spool.
    """
    if not config.url and not (config.path / FILE).exists():
        raise SpoolError(f"{config.path / FILE}: there is no spool; correct path in [spool]")
    spool = make_spool(config.model_copy(update={"max_age": None}), 0)
    spool.run_shards(_NoDelivery())
    await spool.open()
    try:
        await spool.own_all()
        yield spool
    finally:
        await spool.close()
