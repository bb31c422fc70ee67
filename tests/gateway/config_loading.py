"""A plugin, a valid file and a registry that the configuration tests share."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pluggy
import pytest
from pydantic import field_validator

from gateway.config import Config
from gateway.config.loader.load import load
from gateway.errors import ConfigError, Rejected
from gateway.event import Event
from gateway.http import Request, Response
from gateway.mapping import EventMapping
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.settings import Secret, Settings
from gateway.plugin.vendor import Input, Output


class AcmeInput(Input):
    """An input that takes nothing; the tests only configure it."""

    name = "acme"
    docs = "https://acme.example/docs"
    endpoints: Mapping[str, EventMapping] = {}
    unsupported = frozenset({"POST /acme/events", "GET /acme/profile"})

    def credential(self, request: Request, payload: Any) -> str | None:
        """Return none."""
        del request, payload
        return None

    def accept(self, request: Request, events: Sequence[Event]) -> Response:
        """Return a success."""
        del request, events
        return Response(200)

    def refuse(self, request: Request, error: Rejected) -> Response:
        """Return an error."""
        del request, error
        return Response(400)


class AcmeOutput(Output):
    """An output that sends nothing; the tests only configure it."""

    name = "acme"
    docs = "https://acme.example/docs"
    endpoints: Mapping[str, EventMapping] = {}

    class Config(Settings):
        """Settings of every type."""

        url: str = "https://api.acme.example"
        """The URL of Acme."""
        token: Secret
        """The token of the account. It is long."""
        backup: Secret | None = None
        """Another token."""
        mode: Literal["fast", "careful"] = "careful"
        """The mode of sending."""
        words: Mapping[str, str] = {}
        """Ours to theirs."""
        account: str = ""
        """The account's name."""

        @field_validator("account", mode="after")
        @classmethod
        def _check(cls, value: str) -> str:
            if value.startswith("bad"):
                raise ValueError(f"there is no account {value!r}")
            return value

    def headers(self) -> Mapping[str, str]:
        """Return none."""
        return {}


class HornInput(AcmeInput):
    """An input that shares a path with Acme's."""

    name = "horn"
    unsupported = frozenset({"POST /acme/events"})


class BellInput(AcmeInput):
    """An input with paths of its own."""

    name = "bell"
    unsupported = frozenset({"POST /bell"})


def registry() -> PluginRegistry:
    """Return the vendors of these tests: acme as input and output, horn and bell as inputs."""
    return PluginRegistry(
        {"acme": AcmeInput, "bell": BellInput, "horn": HornInput},
        {"acme": AcmeOutput},
        {},
        pluggy.PluginManager("gateway"),
    )


FINE = """
[sources.shop]
vendor = "acme"
keys = ["shop-key"]
[destinations.crm]
vendor = "acme"
token = "crm-token"
[[routes]]
to = ["crm"]
"""


def read(
    folder: Path, text: str, environ: Mapping[str, str] | None = None, listen: str | None = None
) -> Config:
    """Return the configuration in *text*."""
    path = folder / "gateway.toml"
    path.write_text(text)
    return load(path, registry(), environ or {}, listen=listen)


def problems(
    folder: Path, text: str, environ: Mapping[str, str] | None = None, listen: str | None = None
) -> list[str]:
    """Return the problems in *text*, each without the folder."""
    with pytest.raises(ConfigError) as caught:
        read(folder, text, environ, listen)
    return [problem.removeprefix(f"{folder}/") for problem in caught.value.problems]
