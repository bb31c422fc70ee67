"""Make the spool that a configuration names."""

import structlog

from gateway.config import SpoolConfig
from gateway.spool import Spool, SpoolLimits
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
    limits = SpoolLimits(config.max_bytes, config.max_age)
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
