"""A bucket of S3, or of a storage with the same API, in which files become objects."""

import asyncio
import hashlib
import re
import ssl
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from gateway.config import DestinationConfig
from gateway.config.proxy import proxy_of
from gateway.config.types import plain_value
from gateway.errors import UploadFailed
from gateway.plugin.file_rules import UploadRules

if TYPE_CHECKING:
    from obstore.store import ClientConfig, S3Credential, S3Store

CONNECT_TIMEOUT = "10s"
REQUEST_TIMEOUT = "60s"
"""For a part of a file, or a small file."""
RETRIES_END = timedelta(seconds=30)
"""After a request began: until then it is repeated once, so that a long upload need not begin
anew; a whole upload is repeated by whoever asked for it."""
PART = 5 * 1024**2
"""Bytes that are sent in one request, as S3 wants them at least."""
MOST_PARTS = 9_000
"""S3 takes 10,000 (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html)."""
AT_ONCE = 2
"""Parts of a file that are sent at the same time; so many are in memory."""
METADATA = "169.254.169.254,169.254.170.2,169.254.170.23,fd00:ec2::254,fd00:ec2::23"
"""Addresses within the machine that have the credentials of its role; no proxy reaches them."""
EVERYWHERE = "*,0.0.0.0/0,::/0"
UNUSED = "http://127.0.0.1:9"
"""Stands for a proxy that is used for no address: without one, the library takes that of the
environment, by rules other than the gateway's."""
LONGEST_REASON = 500
"""Characters of a reason: a storage may answer with a whole page."""
TRIAL = "gateway-check"
"""The object that a trial puts and deletes."""
_NAME = re.compile(r"(events-(\d{8}T\d{6}Z)-\d{6})([.].*)")
_ANSWER = re.compile(r"<Code>([^<]*)</Code>(?:\s*<Message>([^<]*)</Message>)?")
_STATUS = re.compile(r"status code: (\d{3}[A-Za-z ]*)")
_INNER = re.compile(r'(?:message|error): "([^"]*)"')
_TIMEOUT = re.compile(r"kind: Timeout\b|TimedOut")


class S3Bucket:
    """Puts files into a bucket, and makes sure that they are there.

    Requests are signed with their content, so the storage refuses what was changed on the way. It
    needs the extra ``s3``.

    Args:
        rules: the bucket, the names of objects, and the credentials.
        config: the proxy, headers and authorities of the destination.
    """

    def __init__(self, rules: UploadRules, config: DestinationConfig) -> None:
        self._rules = rules
        proxy = proxy_of(config.proxy)
        self._via = f" through proxy {proxy.address}" if proxy else ""
        self._store = _store(rules, config)

    async def put(self, path: Path) -> str:
        """Upload a closed file; return the name of the object.

        The name is made of the file's own and its content, so the same file always has the same
        name, and files of several gateways have different ones.

        Raises:
            OSError: the file cannot be read.
            ValueError: its name has no time in it.
            UploadFailed: it is not in the bucket, as far as is known.
        """
        digest, size = await asyncio.to_thread(_read, path)
        name = object_name(self._rules.prefix, path.name, digest)
        await self._put(name, path, size)
        return name

    async def try_out(self) -> str:
        """Put a small object and delete it; return why it is still there, or nothing.

        Raises:
            UploadFailed: files could not be uploaded.
        """
        name = time.strftime(self._rules.prefix, time.gmtime()) + TRIAL
        await self._put(name, b"\n", 1)
        try:
            await self._store.delete_async(name)
        except Exception as error:  # noqa: BLE001 - the library has errors of many classes
            return f"{name} cannot be deleted: {self._reason(error)}"
        return ""

    async def _put(self, name: str, content: Path | bytes, size: int) -> None:
        kind = "application/gzip" if name.endswith(".gz") else "application/x-ndjson"
        try:
            made = await self._store.put_async(
                name,
                content,
                attributes={"Content-Type": kind},
                chunk_size=max(PART, size // MOST_PARTS + 1),
                max_concurrency=AT_ONCE,
            )
        except Exception as error:
            raise self._failure(error, "") from error
        try:
            found = await self._store.head_async(name)
        except Exception as error:
            what = "the storage does not show what it took (s3:GetObject): "
            raise self._failure(error, what) from error
        if found["size"] != size:
            what = f"{name} has {found['size']} bytes in the bucket, and {size} here"
            raise UploadFailed("server", what)
        if None not in (tags := (made["e_tag"], found["e_tag"])) and tags[0] != tags[1]:
            raise UploadFailed("server", f"{name} is not what was sent: something else wrote it")

    def _failure(self, error: Exception, what: str) -> UploadFailed:
        from obstore import exceptions  # noqa: PLC0415 - the extra may not be installed

        cause = "server"
        if isinstance(error, exceptions.PermissionDeniedError | exceptions.UnauthenticatedError):
            cause = "credential"
        elif "<Code>NoSuchBucket</Code>" in str(error):
            cause, what = "bucket", f"there is no bucket {self._rules.bucket}: "
        return UploadFailed(cause, what + self._reason(error))

    def _reason(self, error: Exception) -> str:
        """Return why a request failed, in one line."""
        reason = _reason(str(error), self._rules.endpoint, self._via)
        return " ".join(reason.split())[:LONGEST_REASON]


def _store(rules: UploadRules, config: DestinationConfig) -> "S3Store":
    from obstore.store import S3Store  # noqa: PLC0415 - the extra may not be installed

    key, secret = rules.access_key, rules.secret_key

    def credentials() -> "S3Credential":
        assert key is not None  # noqa: S101 - for the type checker
        assert secret is not None  # noqa: S101 - likewise
        return {
            "access_key_id": key.get_secret_value(),
            "secret_access_key": secret.get_secret_value(),
            "expires_at": None,
        }

    return S3Store(
        rules.bucket,
        config={
            "endpoint": rules.endpoint,
            "aws_endpoint_url_s3": rules.endpoint,  # else one of the environment comes first
            "region": rules.region,
            "virtual_hosted_style_request": False,
            "disable_bulk_delete": True,
            # The environment's values of these would come in otherwise.
            "unsigned_payload": False,
            "skip_signature": False,
            "request_payer": False,
            "s3_express": False,
        },
        client_options=_client_options(rules, config),
        retry_config={"max_retries": 1, "retry_timeout": RETRIES_END},
        credential_provider=None if key is None else credentials,
    )


def _client_options(rules: UploadRules, config: DestinationConfig) -> "ClientConfig":
    options: ClientConfig = {
        "allow_http": rules.endpoint.startswith("http:"),
        "connect_timeout": CONNECT_TIMEOUT,
        "timeout": REQUEST_TIMEOUT,
        "proxy_url": UNUSED,
        "proxy_excludes": EVERYWHERE,
        "default_headers": {name: plain_value(value) for name, value in config.headers.items()},
    }
    if config.proxy is not None and (proxy := config.proxy.get_secret_value()):
        options["proxy_url"], options["proxy_excludes"] = proxy, METADATA
    if config.tls is not None:
        authorities = config.tls.context.get_ca_certs(binary_form=True)
        options["root_certificate"] = "".join(map(ssl.DER_cert_to_PEM_cert, authorities))
    return options


def object_name(prefix: str, name: str, digest: str) -> str:
    """Return the name of the object of a closed file.

    Args:
        prefix: as in `UploadRules`.
        name: of the file.
        digest: of its content.

    Raises:
        ValueError: there is no time in the name.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is no closed file")
    try:
        begun = time.strptime(found[2], "%Y%m%dT%H%M%SZ")
    except ValueError as error:
        raise ValueError(f"{name} has an impossible time in its name") from error
    return f"{time.strftime(prefix, begun)}{found[1]}-{digest[:8]}{found[3]}"


def _read(path: Path) -> tuple[str, int]:
    """Return the SHA-256 and the size of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest(), file.tell()


def _reason(text: str, endpoint: str, via: str) -> str:
    """Return why a request failed: the storage's own words if it has any.

    Args:
        text: the library's.
        endpoint: the storage.
        via: the way to it.
    """
    status = _STATUS.search(text)
    said = f"HTTP {status[1].strip()}" if status else ""
    if answer := _ANSWER.search(text):
        return ": ".join(filter(None, (said[:8], answer[1], answer[2])))
    if said:
        return said
    if _TIMEOUT.search(text):
        return f"{endpoint} does not answer in time{via}"
    if inner := _INNER.search(text):
        return f"{endpoint} cannot be reached{via}: {inner[1]}"
    return text.partition("\n")[0]
