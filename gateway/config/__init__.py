"""The configuration file, read into frozen models; docs/configuration.md is its reference."""

from gateway.config.load import load
from gateway.config.models import (
    Config,
    Delivery,
    DestinationConfig,
    ServerConfig,
    SourceConfig,
    SpoolConfig,
)
from gateway.config.routing import RouteConfig

__all__ = [
    "Config",
    "Delivery",
    "DestinationConfig",
    "RouteConfig",
    "ServerConfig",
    "SourceConfig",
    "SpoolConfig",
    "load",
]
