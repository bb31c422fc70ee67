"""Where the sources' endpoints stand: which source a request is for."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from gateway.clients import Clients
from gateway.cors import Cors, Origins
from gateway.errors import Fault, Rejected
from gateway.exchange import REQUEST_ID, Request
from gateway.plugin import Input


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
        clients: Clients | None = None,
    ) -> None:
        self.name = name
        self.reads = reads
        self.keys = None if keys is None else frozenset(keys)
        self.mount = mount
        self.hosts = frozenset(hosts)
        self.dedup = dedup
        usual: Origins = "*" if reads.in_browsers else ()
        exposed = {REQUEST_ID, "retry-after", reads.elapsed_header} - {""}
        self.cors = Cors(usual if origins is None else origins, reads.browser_headers, exposed)
        self.clients = clients or Clients()
        self._kept = reads.kept_headers | {"user-agent"}
        self.methods: dict[str, set[str]] = {}
        for endpoint in (*reads.endpoints, *reads.unsupported):
            method, _, path = endpoint.partition(" ")
            self.methods.setdefault(path, set()).add(method)

    def check_endpoint(self, method: str, path: str) -> None:
        """Pass what the gateway translates.

        Raises:
            Rejected: it does not, with the fault that says why.
        """
        endpoint = f"{method} {path}"
        if endpoint in self.reads.endpoints:
            return
        if endpoint in self.reads.unsupported:
            reason = f"{endpoint} is not served by this gateway"
            raise Rejected("$", reason, Fault.UNSUPPORTED)
        if path in self.methods:
            raise Rejected("$", f"{method} is not allowed here", Fault.METHOD)
        raise Rejected("$", "no such endpoint", Fault.NOT_FOUND)

    def check_key(self, key: str | None) -> None:
        """Pass a credential that this source accepts.

        Raises:
            Rejected: there is none, or it is another's.
        """
        if not key:
            raise Rejected("$", "no credential came along", Fault.UNAUTHENTICATED)
        if self.keys is not None and key not in self.keys:
            raise Rejected("$", "the credential is not known here", Fault.FORBIDDEN)

    def stored(self, request: Request, body: bytes) -> Request:
        """Return *request* as the spool keeps it: with its body, without its credentials."""
        sent = request.headers
        return Request(
            method=request.method,
            url=request.url,
            headers={name: sent[name] for name in self._kept if name in sent},
            body=body,
            id=request.id,
            received_at=request.received_at,
            client=request.client,
        )


class Found(NamedTuple):
    """The source that a request is for."""

    source: Source
    path: str
    """The path as the vendor knows it."""


class Doors:
    """The endpoints of all sources.

    Native paths of all vendors differ, so sources share a port; a source with a mount or with
    hosts stands apart, so that one vendor can have several. A source with hosts is preferred
    to one without.
    """

    def __init__(self, sources: Iterable[Source]) -> None:
        self._exact: dict[str, list[Found]] = {}
        self._mounted: list[Source] = []
        for source in sorted(sources, key=lambda s: not s.hosts):
            for path in source.methods:
                found = Found(source, path)
                self._exact.setdefault(source.mount + path, []).append(found)
            if source.mount:
                self._mounted.append(source)

    def find(self, path: str, headers: Mapping[str, str]) -> Found | None:
        """Return the source that answers for *path*, if any does."""
        doors = self._exact.get(path)
        if doors is not None:
            if len(doors) == 1 and not doors[0].source.hosts:
                return doors[0]
            host = _host(headers)
            for door in doors:
                if not door.source.hosts or host in door.source.hosts:
                    return door
            return None
        for source in self._mounted:
            if path.startswith(f"{source.mount}/") and (
                not source.hosts or _host(headers) in source.hosts
            ):
                return Found(source, path.removeprefix(source.mount))
        return None


def _host(headers: Mapping[str, str]) -> str:
    """Return the name in a ``host`` header, without its port (RFC 9110, section 7.2)."""
    host = headers.get("host", "").lower()
    if host.startswith("["):
        return host.partition("]")[0] + "]"
    return host.partition(":")[0]
