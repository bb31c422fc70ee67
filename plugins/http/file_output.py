"""The file output: writes events as lines of JSON (NDJSON) into files of a folder."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from gateway.plugin import (
    ConfigTable,
    Duration,
    Event,
    FileRules,
    Loss,
    OutgoingCall,
    Output,
    Request,
    Response,
    Secret,
    Settings,
    Size,
    Template,
    UploadRules,
    Verdict,
    verdict_by_status,
)
from plugins.http.credentials import AuthTable
from plugins.http.requests import BuiltRequest, RequestBuilder
from plugins.http.settings import MIB, HttpRequest

MOST_LINES = 100
"""Lines of one user that are one delivery."""
_PREFIX = re.compile(r"(?!/)(?:(?!//)(?!\.{1,2}(?:/|\Z))[A-Za-z0-9!_.*'()=/-]|%[YmdH])*")
"""Characters that are safe in names of objects
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html), and parts of the time."""


class UploadTable(ConfigTable):
    """The bucket that complete files are uploaded to, of S3 or of a storage with the same API."""

    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]+[a-z0-9]$", max_length=63)
    """The name of the bucket; it must exist."""
    prefix: str = ""
    """The folder of the files within the bucket, such as `"raw"`. `%Y`, `%m`, `%d` and `%H` stand
    for the year, month, day and hour (UTC) in which a file was begun:
    `"raw/date=%Y-%m-%d/hour=%H"`."""
    region: str = Field(default="us-east-1", pattern=r"^[A-Za-z0-9-]+$")
    """The region of the bucket."""
    endpoint: str = ""
    """The URL of the storage, if it is not Amazon's: `"https://minio.example:9000"`."""
    access_key: Secret | None = None
    """The id of the access key. Without it: the credentials in the environment (`AWS_*`), or those
    of the machine's or the pod's role."""
    secret_key: Secret | None = None
    """The secret of the access key."""
    max_waiting: Size = Field(default=10 * 1024 * MIB, gt=0)
    """How many bytes of complete files may wait for their upload. Above it nothing is written, and
    events wait in the spool."""

    @field_validator("prefix")
    @classmethod
    def _is_safe(cls, prefix: str) -> str:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError('is not a folder of a bucket; write one like "raw/date=%Y-%m-%d"')
        return prefix

    @field_validator("endpoint")
    @classmethod
    def _is_address(cls, endpoint: str) -> str:
        try:
            parts = urlsplit(endpoint)
            fine = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
        except ValueError:
            fine = False
        if endpoint and not (fine and parts.path in {"", "/"} and set("?#@ ").isdisjoint(endpoint)):
            raise ValueError('is not scheme, host and port; write "https://minio.example:9000"')
        return endpoint.rstrip("/")

    @model_validator(mode="after")
    def _whole_key(self) -> "UploadTable":
        if (self.access_key is None) != (self.secret_key is None):
            given, other = ("access_key", "secret_key")[:: 1 if self.access_key else -1]
            raise ValueError(f"has {given} without {other}; set both, or neither")
        return self

    def rules(self) -> UploadRules:
        """Return what the gateway does with complete files."""
        return UploadRules(
            self.bucket,
            f"{self.prefix}/" if self.prefix and not self.prefix.endswith("/") else self.prefix,
            self.endpoint or f"https://s3.{self.region}.amazonaws.com",
            self.region,
            self.access_key,
            self.secret_key,
            self.max_waiting,
        )


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
    upload: UploadTable | None = None
    """Where complete files are [uploaded](vendors/file.md#upload) to; they are deleted here when
    they are there. Needs the extra `s3`: `pip install 'cdp-gateway[s3]'`. Default: they stay."""

    @property
    def reached_url(self) -> str:
        """Return the URL of the storage, if files are uploaded."""
        return self.upload.rules().endpoint if self.upload is not None else self.url

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
        self._builder = RequestBuilder(
            request, "a line", config.url, AuthTable(), batch_size=MOST_LINES, batch_bytes=MIB
        )
        self.files = FileRules(
            config.path,
            config.rotate_bytes,
            config.rotate_every,
            config.compression == "gzip",
            config.upload.rules() if config.upload is not None else None,
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
        if not isinstance(request, BuiltRequest) or not isinstance(further, BuiltRequest):
            return None
        return self._builder.join(request, further)

    def losses(self, event: Event) -> list[Loss]:
        """Return the fields of *event* that the line lacks."""
        return list(self._builder.table.losses(event))

    def verdict(self, response: Response, now: datetime | None = None) -> Verdict:
        """Judge by the status that the gateway gives to writing."""
        return verdict_by_status(response, now)
