"""The application for aiohttp-devtools: ``make dev`` runs it and reloads it when code changes."""

import os
from pathlib import Path

from aiohttp import web

from gateway import log
from gateway.app import Gateway, make_app
from gateway.config import load as load_config
from gateway.plugins import load


def create_app() -> web.Application:
    """Return the gateway on the file that ``GATEWAY_CONFIG`` names, by default config/gateway.toml.

    Raises:
        ConfigError: the file has problems.
    """
    log.configure()
    registry = load()
    path = Path(os.environ.get("GATEWAY_CONFIG", "config/gateway.toml"))
    return make_app(Gateway(load_config(path, registry), registry))
