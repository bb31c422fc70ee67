"""Define the configuration file as frozen models, and load it.

docs/configuration.md is the reference of its keys.
"""

from gateway.config.models import (
    Config,
    Delivery,
    DestinationConfig,
    RouteConfig,
    ServerConfig,
    SourceConfig,
)
from gateway.config.spool import SpoolConfig

__all__ = [
    "Config",
    "Delivery",
    "DestinationConfig",
    "RouteConfig",
    "ServerConfig",
    "SourceConfig",
    "SpoolConfig",
]
