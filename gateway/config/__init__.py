"""The configuration file, read into frozen models; docs/configuration.md is its reference."""

from gateway.config.models import (
    Config,
    Delivery,
    DestinationConfig,
    RouteConfig,
    ServerConfig,
    SourceConfig,
    SpoolConfig,
)

__all__ = [
    "Config",
    "Delivery",
    "DestinationConfig",
    "RouteConfig",
    "ServerConfig",
    "SourceConfig",
    "SpoolConfig",
]
