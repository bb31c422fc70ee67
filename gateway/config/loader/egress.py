"""Read how a destination is reached: its proxy, its added headers, its certificate files."""

import re
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, SecretStr

from gateway.config.loader.references import FILE, ReferenceResolver
from gateway.config.loader.report import ConfigReport
from gateway.config.models import DestinationConfig, SourceConfig
from gateway.config.proxy import environment_proxy, parse_proxy
from gateway.config.tls_files import TlsFileError, TlsFiles, read_tls_files
from gateway.config.types import FIELD, SHOWN_HEADERS
from gateway.plugin.registry import PluginRegistry
from gateway.redact import SHORTEST_PART
from gateway.redact import is_secret as names_secret

S3_CLIENT = "obstore"
"""The module that the extra ``s3`` installs."""
T = TypeVar("T", bound=BaseModel)
_AUTHORIZES = re.compile(r"(basic|bearer|digest|token)\s+\S", re.IGNORECASE)
"""The beginning of a header's value with a scheme of authorization before it."""


class EgressReader:
    """Reads the keys that say how vendors are reached.

    Args:
        references: resolves credentials.
        report: gets the problems.

    Attributes:
        files: the certificate files that were read.
    """

    def __init__(self, references: ReferenceResolver, report: ConfigReport) -> None:
        self.files: list[Path] = []
        self._references = references
        self._report = report

    def credentials(
        self, written: Mapping[str, Any], expanded: Mapping[str, Any], table: str
    ) -> dict[str, Any]:
        """Return ``proxy`` and ``headers`` of a table with their credentials read and marked.

        Args:
            written: the table as in the file.
            expanded: the table with its variables replaced.
            table: its place in the file.
        """
        found: dict[str, Any] = {}
        if "proxy" in expanded:
            found["proxy"] = self._references.secret(expanded["proxy"], table, "proxy")
        headers, values = written.get("headers"), expanded.get("headers")
        if isinstance(headers, dict) and isinstance(values, dict):
            found["headers"] = {
                name: self._header(name, headers[name], value, table)
                for name, value in values.items()
            }
        return found

    def _header(self, name: str, written: Any, value: Any, table: str) -> Any:
        """Return the value of a header; as a `SecretStr` if it is a credential."""
        if not isinstance(value, str):
            return value
        literal = written == value and not value.startswith(FILE)
        plain = name.lower() in SHOWN_HEADERS or len(value) < SHORTEST_PART
        if literal and plain and not names_secret(name) and not _AUTHORIZES.match(value):
            return value
        return SecretStr(self._references.secret(value, table, f"headers.{name}"))

    def apply(self, destination: DestinationConfig, table: str) -> DestinationConfig:
        """Return *destination* with its proxy of the environment, and with its files' content."""
        found = destination.model_copy(update={"tls": self._tls(destination, table)})
        return self.with_proxy(found, destination.settings.reached_url, table)

    def with_proxy(self, model: T, url: str, table: str) -> T:
        """Return *model* with the environment's proxy for *url*, unless it has one of its own."""
        if "proxy" in model.model_fields_set:
            return model
        found = environment_proxy(url, self._references.environ)
        if found is None:
            return model
        self._report.hide(found.url)
        try:
            parse_proxy(found.url)
        except ValueError as error:
            self._report.problem(table, "proxy", f"{found.variable} in the environment {error}")
        return model.model_copy(update={"proxy": SecretStr(found.url)})

    def relay(self, source: SourceConfig, url: str, table: str) -> SourceConfig:
        """Return *source* with the environment's proxy for *url*, where calls or files are fetched.

        Only tunnels are used, since a client must not take a proxy's response for the vendor's; and
        aiohttp makes tunnels only for https.
        """
        if not url.startswith("http:"):
            return self.with_proxy(source, url, table) if url else source
        if source.proxy is not None and source.proxy.get_secret_value():
            self._report.problem(table, "proxy", "needs an https url; write https, or remove proxy")
        elif found := environment_proxy(url, self._references.environ):
            what = (
                f"is reached directly: {found.variable} is used only for https; list its host in "
            )
            self._report.warning(table, "url", f"{what}NO_PROXY if that is right")
        return source

    def _tls(self, delivery: DestinationConfig, table: str) -> TlsFiles | None:
        files = [path for path in (delivery.ca, delivery.cert, delivery.key) if path is not None]
        if delivery.key is not None and delivery.cert is None:
            what = "has no certificate; name its file in cert, or remove key"
            self._report.problem(table, "key", what)
            return None
        if files and delivery.settings.reached_url.startswith("http:"):
            key = "ca" if delivery.ca is not None else "cert"
            self._report.warning(table, key, "has no effect with an http url; write https")
        if not files or self._references.stand_ins:
            return None
        self.files += files
        try:
            return read_tls_files(delivery.ca, delivery.cert, delivery.key)
        except TlsFileError as error:
            self._report.problem(table, error.key, str(error))
            return None


def check_headers(
    destination: DestinationConfig, table: str, registry: PluginRegistry, report: ConfigReport
) -> None:
    """Report added headers that the vendor's plugin, the client or the gateway sets."""
    for name, who in _taken(destination, registry):
        if name in destination.headers:
            report.problem(table, "headers", f"cannot have {name}, which {who} sets; remove it")


def check_upload(
    destination: DestinationConfig, table: str, registry: PluginRegistry, report: ConfigReport
) -> None:
    """Report what keeps files from being uploaded: a missing extra, or a client certificate."""
    files = registry.outputs[destination.vendor](destination.settings).files
    if files is None or files.upload is None:
        return
    if find_spec(S3_CLIENT) is None:
        what = "needs the extra s3; run pip install 'cdp-gateway[s3]'"
        report.problem(table, "upload", what)
    if destination.cert is not None:
        report.problem(table, "cert", "cannot be shown to the storage of upload; remove it")


def _taken(destination: DestinationConfig, registry: PluginRegistry) -> Iterator[tuple[str, str]]:
    if not destination.headers:
        return
    vendor = destination.vendor
    for name in registry.outputs[vendor](destination.settings).headers():
        yield name.lower(), f"the plugin of {vendor}"
    if destination.credentials == "client" and vendor in registry.inputs:
        for name in registry.inputs[vendor].credential_headers:
            yield name, "the client"
    if destination.client_ip not in {"", FIELD}:
        yield destination.client_ip, "client_ip"
