"""Where the sources' endpoints stand: which source a request is for."""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from gateway.errors import Fault, Rejected
from gateway.http import REQUEST_ID, TRACE_CONTEXT, Request, header_text
from gateway.ingest.client import ClientIdentifier
from gateway.ingest.cors import TRACING, Cors, Origins
from gateway.ingest.relay import Relay
from gateway.plugin.client_credentials import second_credentials
from gateway.plugin.vendor import Input
from gateway.tracking import TrackingPlan

_SLASHES = re.compile("/{2,}")
NO_RIVALS: Mapping[str, "Source"] = {}


class Source:
    """A source, ready to receive.

    Args:
        name: its name in the configuration.
        reads: the vendor's input.
        keys: the credentials that it accepts; None accepts any.
        mount: the prefix under which the vendor's paths stand; empty for none.
        hosts: the host names that it answers to, lower-case; empty for any.
        dedup: seconds in which an event counts once, by its sender's message id; None for off.
        origins: whose pages may call it from browsers; None leaves it to the vendor's input.
        clients: tells who is behind its requests.
        relay: passes through what the gateway does not translate; None where nothing is.
        respond: seconds to wait for the vendor's own answer to events; None answers at once.
        lends: a destination sends the client's own credential on, so it must be stored.
        plan: what its events should look like; None where nobody says.
        traced: the caller's trace is stored, so that deliveries can continue it.
        browser_headers: further headers that pages of other origins may send.
        max_events: how many events one request may hold.
        secrets: the second credentials that it accepts; none of them leaves the vendor to judge.
    """

    def __init__(  # noqa: PLR0913 - what there is to know of a source, each once
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
        lends: bool = False,
        plan: TrackingPlan | None = None,
        traced: bool = False,
        browser_headers: Iterable[str] = (),
        max_events: int | None = None,
        secrets: Iterable[str] = (),
    ) -> None:
        self.name = name
        self.input = reads
        self._key_names = {} if keys is None else {k: f"keys[{n}]" for n, k in enumerate(keys)}
        self.keys = None if keys is None else frozenset(self._key_names)
        self._secrets = frozenset(secrets)
        self.mount = mount
        self.hosts = frozenset(hosts)
        self.dedup = dedup
        self.plan = plan
        usual: Origins = "*" if reads.browsers_allowed else ()
        exposed = {REQUEST_ID, "retry-after", reads.timing_header} - {""}
        sent = {*reads.browser_headers, *TRACING, *browser_headers}
        self.cors = Cors(usual if origins is None else origins, sent, exposed)
        self.max_events = max_events
        self.client_identifier = clients or ClientIdentifier()
        self.relay = relay
        self.reply_timeout = respond
        lent = reads.credential_headers if lends else frozenset[str]()
        context = TRACE_CONTEXT if traced else frozenset[str]()
        self._kept = reads.stored_headers | {"user-agent"} | lent | context
        self.methods: dict[str, set[str]] = {}
        for endpoint in (*reads.endpoints, *reads.unsupported):
            method, _, path = endpoint.partition(" ")
            self.methods.setdefault(path, set()).add(method)

    def allowed(self, path: str) -> set[str]:
        """Return the methods of the vendor's endpoints at *path*."""
        if path in self.methods:
            return self.methods[path]
        unsupported = self.input.unsupported
        known = {one.partition(" ")[0] for one in (*self.input.endpoints, *unsupported)}
        return {
            method
            for method in known
            if self.translates(method, path) or f"{method} {path}" in unsupported
        }

    def translates(self, method: str, path: str) -> bool:
        """Tell whether the gateway makes events of such requests."""
        return f"{method} {path}" in self.input.endpoints

    def rejection_for(self, method: str, path: str) -> Rejected:
        """Return why the gateway does not translate such requests."""
        endpoint = f"{method} {path}"
        if endpoint in self.input.unsupported:
            return Rejected("$", f"{endpoint} is not served by this gateway", Fault.UNSUPPORTED)
        if self.allowed(path):
            return Rejected("$", f"{method} is not allowed here", Fault.METHOD)
        return Rejected("$", "no such endpoint", Fault.NOT_FOUND)

    def check_key(self, key: str | None) -> None:
        """Pass a credential that this source accepts.

        Raises:
            Rejected: there is none, or it is another's.
        """
        if not key:
            raise Rejected("$", "no credential came along", Fault.UNAUTHENTICATED)
        if self.keys is not None and key not in self.keys:
            raise Rejected("$", "the credential is not known here", Fault.FORBIDDEN)

    def check_secret(self, request: Request, payload: Any) -> None:
        """Pass a call whose second credential this source accepts, or that needs none.

        Args:
            request: as it is stored.
            payload: its decoded body.

        Raises:
            Rejected: it has another one, or has none where the vendor asks for one.
        """
        if not self._secrets:
            return
        found = list(second_credentials(request, self.input))
        if not all(one in self._secrets for one in found):
            raise Rejected("$", "the credential is not known here", Fault.FORBIDDEN)
        if not found and self.input.needs_secret(request, payload):
            raise Rejected(self.input.secret_keys[0], "required", Fault.MISSING)

    def key_name(self, key: str | None) -> str:
        """Return what may be shown of a credential that came along; empty for an unknown one."""
        if not key:
            return ""
        return "any" if self.keys is None else self._key_names.get(key, "")

    def to_stored(self, request: Request, body: bytes) -> Request:
        """Return *request* as the spool keeps it: with its body, and the headers that matter.

        Those with credentials matter only where a destination sends the client's own on.
        """
        sent = request.headers
        return Request(
            method=request.method,
            url=request.url,
            headers={name: header_text(sent[name]) for name in self._kept if name in sent},
            body=body,
            id=request.id,
            received_at=request.received_at,
            client=request.client,
        )


class SourceMatch(NamedTuple):
    """The source that a request is for."""

    source: Source
    """Any of them, where the credential decides between several."""
    path: str
    """The path as the vendor knows it."""
    by_key: Mapping[str, Source] = NO_RIVALS
    """Sources of one vendor at one address, by the credentials that tell them apart."""

    def for_key(self, key: str | None) -> Source:
        """Return the source that accepts a credential.

        Raises:
            Rejected: none does.
        """
        source = self.by_key.get(key or "", self.source)
        source.check_key(key)
        return source

    @property
    def can_relay(self) -> bool:
        """Tell whether a request that is no event may have somewhere to go."""
        sources = self.by_key.values() or (self.source,)
        return any(source.relay is not None for source in sources)

    @property
    def relays_with_own_key(self) -> bool:
        """Tell whether it may go there with the gateway's own credential."""
        sources = self.by_key.values() or (self.source,)
        return any(source.relay is not None and source.relay.uses_own_key for source in sources)


class _Endpoint:
    """The sources at one path: per host name, and for all others."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._hosts: dict[str, SourceMatch] = {}
        self._other: SourceMatch | None = None

    def add(self, source: Source) -> None:
        """Let *source* answer here, beside those of its vendor that do."""
        for host in source.hosts:
            self._hosts[host] = _joined(self._hosts.get(host), source, self._path)
        if not source.hosts:
            self._other = _joined(self._other, source, self._path)

    def at(self, headers: Mapping[str, str]) -> SourceMatch | None:
        """Return who answers to the host that *headers* name."""
        if not self._hosts:
            return self._other
        return self._hosts.get(_host(headers), self._other)


def _joined(found: SourceMatch | None, source: Source, path: str) -> SourceMatch:
    """Return *found* with one more source, which comes second where keys do not decide."""
    if found is None:
        return SourceMatch(source, path)
    rivals = dict(found.by_key) or dict.fromkeys(found.source.keys or (), found.source)
    return SourceMatch(found.source, path, dict.fromkeys(source.keys or (), source) | rivals)


class _Mount:
    """The sources under one mount, for paths that none of their documents names."""

    def __init__(self, mount: str) -> None:
        self._mount = mount
        self._vendors: dict[str, _Endpoint] = {}

    def add(self, source: Source) -> None:
        """Let *source* stand here."""
        self._vendors.setdefault(source.input.name, _Endpoint("")).add(source)

    def at(self, path: str, headers: Mapping[str, str]) -> SourceMatch | None:
        """Return whose *path* is: by its beginning, else by who alone passes on what it can."""
        here = [found for door in self._vendors.values() if (found := door.at(headers))]
        path = path.removeprefix(self._mount)
        for some in ([found for found in here if found.source.hosts], here):
            begun = {len(p): f for f in some for p in f.source.input.prefixes if path.startswith(p)}
            relaying = [found for found in some if found.can_relay]
            if begun or len(relaying) == 1:
                return (begun[max(begun)] if begun else relaying[0])._replace(path=path)
        return here[0]._replace(path=path) if here and self._mount else None


class SourceIndex:
    """The endpoints of all sources.

    Native paths of all vendors differ, so sources share a port; a source with a mount or with
    hosts stands apart, so that one vendor can have several. A source with hosts is preferred
    to one without. Several of one vendor may also stand at the same place, each with its own keys.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._exact: dict[str, _Endpoint] = {}
        places: dict[str, _Mount] = {}
        for source in sources:
            for path in source.methods:
                self._exact.setdefault(source.mount + path, _Endpoint(path)).add(source)
            places.setdefault(source.mount, _Mount(source.mount)).add(source)
        self._places = sorted(places.items(), key=lambda place: -len(place[0]))

    def find(self, path: str, headers: Mapping[str, str], method: str = "") -> SourceMatch | None:
        """Return the source that answers for *path*, if any does.

        A path with a slash too many, as concatenation makes them, is that of the endpoint without
        it, if events are sent there with *method*. Whatever else has one stays as it was written:
        what it means is the vendor's to say.
        """
        found = self._at(path, headers)
        if not ("//" in path or path.endswith("/")):
            return found
        if method == "OPTIONS":
            method = headers.get("access-control-request-method", "")
        if found is not None and found.source.translates(method, found.path):
            return found
        tidy = self._at(_SLASHES.sub("/", path).removesuffix("/"), headers)
        if tidy is not None and tidy.source.translates(method, tidy.path):
            return tidy
        return found

    def _at(self, path: str, headers: Mapping[str, str]) -> SourceMatch | None:
        door = self._exact.get(path)
        if door is not None and (found := door.at(headers)):
            return found
        for mount, place in self._places:
            if path.startswith(f"{mount}/") and (found := place.at(path, headers)):
                return found
        return None


def _host(headers: Mapping[str, str]) -> str:
    """Return the name in a ``host`` header, without its port (RFC 9110, section 7.2)."""
    host = headers.get("host", "").lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
