"""The file output: writes events as lines of JSON (NDJSON) into files of a folder."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from gateway.plugin import (
    Duration,
    Event,
    FileRules,
    Loss,
    OutgoingCall,
    Output,
    Request,
    Response,
    Settings,
    Size,
    Template,
    Verdict,
    verdict_by_status,
)
from plugins.http.credentials import AuthTable
from plugins.http.requests import RequestBuilder
from plugins.http.settings import MIB, HttpRequest

MOST_LINES = 100
"""Lines of one user that are one delivery."""


class FileSettings(Settings):
    """``[destinations.*]`` with ``vendor = "file"``."""

    path: str = Field(min_length=1)
    """The folder of the files, relative to this file. Nothing else may write in it."""
    url: str = ""
    """Is made of the `path`; do not set it."""
    body: Template = Template("=event")
    """A line: a value with [expressions](vendors/http.md#values). Default: the whole event."""
    rotate_bytes: Size = Field(default=128 * MIB, gt=0)
    """Size, before compression, at which a file is closed and the next one begun."""
    rotate_every: Duration = Field(default=3600.0, gt=0)
    """Time after which a file is closed."""
    compression: Literal["none", "gzip"] = "none"
    """How closed files are compressed."""

    @field_validator("url")
    @classmethod
    def _absolute(cls, url: str) -> str:  # the rule of all other vendors: an address of HTTP
        return url

    @model_validator(mode="before")
    @classmethod
    def _with_url(cls, raw: Any) -> Any:
        if not isinstance(raw, dict) or not isinstance(raw.get("path"), str):
            return raw
        url = f"file://{raw['path']}"
        if raw.get("url", url) != url:
            raise ValueError("has a url, which a file has not; remove it")
        return {**raw, "url": url}


class FileOutput(Output):
    """Writes each event as one line."""

    name = "file"
    docs = "https://github.com/ndjson/ndjson-spec"
    endpoints = {}  # noqa: RUF012 - the configuration describes them
    configured = True
    forwards = False
    account = frozenset({"path"})
    paths = ("path",)
    batch_size = MOST_LINES
    Config = FileSettings
    config: FileSettings

    def __init__(self, config: FileSettings) -> None:
        super().__init__(config)
        request = HttpRequest.model_validate({"body": config.body.raw, "encoding": "ndjson"})
        self._builder = RequestBuilder(request, "a line", config.url, AuthTable(), MIB)
        self.files = FileRules(
            config.path, config.rotate_bytes, config.rotate_every, config.compression == "gzip"
        )

    def headers(self) -> Mapping[str, str]:
        """Return nothing: a file has no headers."""
        return {}

    def select(self, event: Event) -> OutgoingCall:
        """Return the line of *event*."""
        return OutgoingCall(self._builder.endpoint, self._builder.table, event)

    def render(self, event: Event) -> Request:
        """Return the line of *event*.

        Raises:
            Unrenderable: an expression fails, or a value cannot be written.
        """
        return self._builder.build(event)

    def merge(self, request: Request, further: Request) -> Request | None:
        """Return both lines as one request."""
        return self._builder.join(request, further)

    def losses(self, event: Event) -> list[Loss]:
        """Return the fields of *event* that the line lacks."""
        return list(self._builder.table.losses(event))

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge by the status that the gateway gives to writing."""
        return verdict_by_status(response, now)
