"""Find the source of a request by path, host and key."""

import re
from collections.abc import Iterable, Mapping, Sequence
from ipaddress import ip_network
from typing import Any, NamedTuple

from multidict import istr

from gateway.errors import Fault, Rejected
from gateway.http import REQUEST_ID, TRACE_CONTEXT, Request, Response, header_text
from gateway.ingest.client import ClientIdentifier, parse_ip
from gateway.ingest.cors import TRACING, Cors, Origins
from gateway.ingest.file_relay import FileRelay
from gateway.ingest.relay import Relay
from gateway.ingest.responses import header_lines
from gateway.plugin.client_credentials import second_credentials
from gateway.plugin.vendor import Input
from gateway.tracking import TrackingPlan

_SLASHES = re.compile("/{2,}")
READS = frozenset({"GET", "HEAD"})
"""Methods by which pages and files are read."""
REMEMBERED = 64
"""Heads of responses that a source keeps; vendors have few, but senders can invent origins."""
LONGEST_LINES = 2048
"""Bytes of such a head; longer ones are made again."""
NO_RIVALS: Mapping[str, "Source"] = {}


class Source:
    """A source that is ready to receive requests.

    Args:
        name: its name in the configuration.
        reads: the vendor's input.
        keys: the keys that it accepts; None accepts any key.
        mount: prefix of all paths of the source; may be empty.
        hosts: its host names in lower case; empty for any host.
        dedup: seconds during which a repeated message id is a duplicate; None for no dedup.
        origins: origins of the pages that may call it; None for the vendor's default.
        clients: identifies the clients of its requests.
        relay: relays requests that are not events; None for no relay.
        respond: seconds to wait for the vendor's own response to events; None to respond at once.
        keeps_client_key: whether to store the client's key, because a destination sends it on.
        plan: the tracking plan; None for none.
        traced: whether to store the caller's trace, so that deliveries can continue it.
        browser_headers: further headers that pages of other origins may send.
        max_events: most events in one request.
        secrets: the second keys that it accepts; empty leaves the check to the vendor.
        networks: from which requests are accepted; empty for all.
        files: fetches the vendor's files for pages; None for none.
    """

    def __init__(  # noqa: PLR0913 - all settings of a source
        self,
        name: str,
        reads: Input,
        keys: Iterable[str] | None,
        mount: str = "",
        hosts: Sequence[str] = (),
        *,
        dedup: float | None = None,
        origins: Origins | None = None,
        clients: ClientIdentifier | None = None,
        relay: Relay | None = None,
        respond: float | None = None,
        keeps_client_key: bool = False,
        plan: TrackingPlan | None = None,
        traced: bool = False,
        browser_headers: Iterable[str] = (),
        max_events: int | None = None,
        secrets: Iterable[str] = (),
        networks: Iterable[str] = (),
        files: FileRelay | None = None,
    ) -> None:
        self.name = name
        self.input = reads
        self._key_names = {} if keys is None else {k: f"keys[{n}]" for n, k in enumerate(keys)}
        self.keys = None if keys is None else frozenset(self._key_names)
        self._secrets = frozenset(secrets)
        self.networks = tuple(ip_network(network) for network in networks)
        self.mount = mount
        self.hosts = frozenset(hosts)
        self.dedup = dedup
        self.plan = plan
        usual: Origins = "*" if reads.browsers_allowed else ()
        exposed = {REQUEST_ID, "retry-after", reads.timing_header} - {""}
        sent = {*reads.browser_headers, *TRACING, *browser_headers}
        self.cors = Cors(usual if origins is None else origins, sent, exposed)
        self._lines: dict[tuple[object, ...], bytes] = {}
        self.max_events = max_events
        self.client_identifier = clients or ClientIdentifier()
        self.relay = relay
        self.files = files
        self.reply_timeout = respond
        key_headers = reads.credential_headers if keeps_client_key else frozenset[str]()
        context = TRACE_CONTEXT if traced else frozenset[str]()
        kept = reads.stored_headers | {"user-agent"} | key_headers | context
        self._kept = [(name, istr(name)) for name in sorted(kept)]
        self.methods: dict[str, set[str]] = {}
        for endpoint in (*reads.endpoints, *reads.unsupported, *reads.public_files):
            method, _, path = endpoint.partition(" ")
            self.methods.setdefault(path, set()).add(method)

    def response_lines(self, response: Response, origin: str | None) -> bytes:
        """Return the header lines of a *response* to a page of *origin*, if it is a page."""
        key = (origin, bool(response.body), *response.headers.items())
        found = self._lines.get(key)
        if found is None:
            headers = self.cors.with_headers(response.headers, origin)
            found = header_lines(headers, has_body=bool(response.body))
            if len(found) <= LONGEST_LINES:
                if len(self._lines) >= REMEMBERED:
                    self._lines.clear()
                self._lines[key] = found
        return found

    def allowed(self, path: str) -> set[str]:
        """Return the methods of the vendor's endpoints at *path*."""
        if path in self.methods:
            return self.methods[path]
        reads = self.input
        sets = (reads.endpoints, reads.unsupported, reads.public_files)
        known = {one.partition(" ")[0] for endpoints in sets for one in endpoints}
        return {method for method in known if any(f"{method} {path}" in found for found in sets)}

    def translates(self, method: str, path: str) -> bool:
        """Return whether the gateway translates such requests into events."""
        return f"{method} {path}" in self.input.endpoints

    def offers(self, method: str, path: str) -> bool:
        """Return whether such requests are for a file that pages load."""
        return method in READS and f"GET {path}" in self.input.public_files

    def rejection_for(self, method: str, path: str) -> Rejected:
        """Return the error for a request that the gateway does not translate."""
        endpoint = f"{method} {path}"
        if endpoint in self.input.unsupported:
            return Rejected("$", f"{endpoint} is not served by this gateway", Fault.UNSUPPORTED)
        if self.allowed(path):
            return Rejected("$", f"{method} is not allowed here", Fault.METHOD)
        return Rejected("$", "no such endpoint", Fault.NOT_FOUND)

    def check_address(self, address: str) -> None:
        """Check that this source accepts requests from an IP address.

        Raises:
            Rejected: it is in none of the networks, or not known.
        """
        found = parse_ip(address)
        if found is None or not any(found in network for network in self.networks):
            raise Rejected("$", "requests from this address are not accepted", Fault.FORBIDDEN)

    def check_key(self, key: str | None) -> None:
        """Check that this source accepts *key*.

        Raises:
            Rejected: the key is missing or unknown.
        """
        if not key:
            raise Rejected("$", "the request has no key", Fault.UNAUTHENTICATED)
        if self.keys is not None and key not in self.keys:
            raise Rejected("$", "unknown key", Fault.FORBIDDEN)

    def check_secret(self, request: Request, payload: Any) -> None:
        """Check the second key of a request, if the source has second keys.

        Args:
            request: the stored request.
            payload: its decoded body.

        Raises:
            Rejected: the second key is unknown, or is missing although the vendor requires one.
        """
        if not self._secrets:
            return
        found = list(second_credentials(request, self.input))
        if not all(one in self._secrets for one in found):
            raise Rejected("$", "unknown key", Fault.FORBIDDEN)
        if not found and self.input.needs_secret(request, payload):
            raise Rejected(self.input.secret_keys[0], "required", Fault.MISSING)

    def key_name(self, key: str | None) -> str:
        """Return a name of *key* that may be shown, such as ``keys[0]``; empty if unknown."""
        if not key:
            return ""
        return "any" if self.keys is None else self._key_names.get(key, "")

    def to_stored(self, request: Request, body: bytes) -> Request:
        """Return *request* as the spool stores it: with its body and the headers that are needed.

        Headers with keys are only needed if a destination sends the client's own key.
        """
        sent, headers = request.headers, dict[str, str]()
        for name, look in self._kept:
            if (value := sent.get(look)) is not None:
                headers[name] = value if value.isascii() else header_text(value)
        return Request(
            method=request.method,
            url=request.url,
            headers=headers,
            body=body,
            id=request.id,
            received_at=request.received_at,
            client=request.client,
        )


class SourceMatch(NamedTuple):
    """The source of a request, or several if the key decides."""

    source: Source
    """The source; any of the candidates if the key decides."""
    path: str
    """The path without the mount, as the vendor defines it."""
    by_key: Mapping[str, Source] = NO_RIVALS
    """Sources of one vendor at the same address, by key."""

    def for_key(self, key: str | None) -> Source:
        """Return the source that accepts *key*.

        Raises:
            Rejected: no source does.
        """
        source = self.by_key.get(key or "", self.source) if self.by_key else self.source
        source.check_key(key)
        return source

    def for_files(self, key: str | None) -> Source:
        """Return the source whose files a request with *key* is for; many files need no key.

        Raises:
            Rejected: no source accepts the key.
        """
        if key is not None:
            return self.for_key(key)
        sources = (self.source, *self.by_key.values())
        return next((one for one in sources if one.files is not None), self.source)

    @property
    def can_relay(self) -> bool:
        """Return whether any candidate relays requests that are not events."""
        sources = self.by_key.values() or (self.source,)
        return any(source.relay is not None for source in sources)

    @property
    def relays_with_own_key(self) -> bool:
        """Return whether any candidate relays with the gateway's own key."""
        sources = self.by_key.values() or (self.source,)
        return any(source.relay is not None and source.relay.uses_own_key for source in sources)


class _Endpoint:
    """The sources at one path: by host name, and one for all other hosts."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._hosts: dict[str, SourceMatch] = {}
        self._other: SourceMatch | None = None

    def add(self, source: Source) -> None:
        """Add *source*, next to other sources of its vendor."""
        for host in source.hosts:
            self._hosts[host] = _joined(self._hosts.get(host), source, self._path)
        if not source.hosts:
            self._other = _joined(self._other, source, self._path)

    def at(self, headers: Mapping[str, str]) -> SourceMatch | None:
        """Return the source for the host in *headers*."""
        if not self._hosts:
            return self._other
        return self._hosts.get(_host(headers), self._other)


def _joined(found: SourceMatch | None, source: Source, path: str) -> SourceMatch:
    """Return *found* with one more source; the first one wins if no key decides."""
    if found is None:
        return SourceMatch(source, path)
    rivals = dict(found.by_key) or dict.fromkeys(found.source.keys or (), found.source)
    return SourceMatch(found.source, path, dict.fromkeys(source.keys or (), source) | rivals)


class _Mount:
    """The sources under one mount, for paths that no vendor documents."""

    def __init__(self, mount: str) -> None:
        self._mount = mount
        self._vendors: dict[str, _Endpoint] = {}

    def add(self, source: Source) -> None:
        """Add *source*."""
        self._vendors.setdefault(source.input.name, _Endpoint("")).add(source)

    def at(self, path: str, headers: Mapping[str, str]) -> SourceMatch | None:
        """Return the source of *path*: by the vendors' prefixes, else the only one with a relay."""
        here = [found for vendor in self._vendors.values() if (found := vendor.at(headers))]
        path = path.removeprefix(self._mount)
        for some in ([found for found in here if found.source.hosts], here):
            begun = {len(p): f for f in some for p in f.source.input.prefixes if path.startswith(p)}
            relaying = [found for found in some if found.can_relay]
            if begun or len(relaying) == 1:
                return (begun[max(begun)] if begun else relaying[0])._replace(path=path)
        return here[0]._replace(path=path) if here and self._mount else None


class SourceIndex:
    """The endpoints of all sources.

    The paths of all vendors differ, so sources share a port. A mount or hosts separate several
    sources of one vendor; a source with hosts is preferred to one without. Several sources of one
    vendor may also share an address, each with its own keys.

    Attributes:
        by_name: the sources by name.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._exact: dict[str, _Endpoint] = {}
        self.by_name: dict[str, Source] = {}
        mounts: dict[str, _Mount] = {}
        for source in sources:
            self.by_name[source.name] = source
            for path in source.methods:
                self._exact.setdefault(source.mount + path, _Endpoint(path)).add(source)
            mounts.setdefault(source.mount, _Mount(source.mount)).add(source)
        self._mounts = sorted(mounts.items(), key=lambda item: -len(item[0]))

    def find(self, path: str, headers: Mapping[str, str], method: str = "") -> SourceMatch | None:
        """Return the source of *path*; None if there is none.

        Extra slashes, as string concatenation produces them, are ignored if the path without them
        is an event endpoint for *method*. Other paths stay as written, since only the vendor knows
        what they mean.
        """
        endpoint = self._exact.get(path)
        found = None if endpoint is None else endpoint.at(headers)
        if found is None:
            found = self._below(path, headers)
        if not ("//" in path or path.endswith("/")):
            return found
        if method == "OPTIONS":
            method = headers.get("access-control-request-method", "")
        if found is not None and found.source.translates(method, found.path):
            return found
        plain = _SLASHES.sub("/", path).removesuffix("/")
        tidy = None if plain == path else self.find(plain, headers, method)
        if tidy is not None and tidy.source.translates(method, tidy.path):
            return tidy
        return found

    def _below(self, path: str, headers: Mapping[str, str]) -> SourceMatch | None:
        """Return the source of a path that no vendor documents; None if there is none."""
        for prefix, mount in self._mounts:
            if path.startswith(f"{prefix}/") and (found := mount.at(path, headers)):
                return found
        return None


def _host(headers: Mapping[str, str]) -> str:
    """Return the ``host`` header without its port (RFC 9110, section 7.2)."""
    host = headers.get("host", "").lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
