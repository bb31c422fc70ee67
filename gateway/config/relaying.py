"""What is wrong with sources that lead on to their vendor, and with credentials that are lent."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from gateway.config.environment import is_secret
from gateway.config.models import DestinationConfig, ServerConfig, SourceConfig
from gateway.config.problems import Report
from gateway.config.routing import RouteConfig
from gateway.plugin import Output
from gateway.plugins import Registry
from gateway.words import nearest

STAND_IN = "-"
"""Takes the place of settings that each client brings along; it never goes out."""
DEFAULT_PORTS = {"http": 80, "https": 443}


def stand_ins(output: type[Output], own: Mapping[str, Any], table: str, report: Report) -> Any:
    """Return the settings *own* of a destination that sends each client's own credential.

    What says whose account it is gets a stand-in, and a problem where it is given.
    """
    model: type[BaseModel] = output.Config
    filled = dict(own)
    for name, field in model.model_fields.items():
        if not (is_secret(field.annotation) or name in output.account):
            continue
        key = field.alias or name
        if key in own:
            what = 'never goes out with credentials = "client"; leave one of the two out'
            report.problem(table, key, what, only=True)
        elif field.is_required():
            filled[key] = STAND_IN
    return filled


def spared(output: type[Output], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings *own* of a destination that sends nothing.

    What says whose account it is gets a stand-in where it is left out.
    """
    filled = dict(own)
    for name, field in output.Config.model_fields.items():
        says_whose = is_secret(field.annotation) or name in output.account
        if says_whose and field.is_required():
            filled.setdefault(field.alias or name, STAND_IN)
    return filled


def served(source: SourceConfig, registry: Registry) -> tuple[str, ...]:
    """Return the endpoints that a source relays with a destination's credential."""
    if source.relay_endpoints is not None:
        return source.relay_endpoints
    return registry.inputs[source.vendor].lent_to()


def leads(routes: Sequence[RouteConfig], source: str) -> set[str]:
    """Return the destinations that some route leads to from *source*."""
    taken = (r for r in routes if r.sources is None or source in r.sources)
    return {to for route in taken for to in route.to}


class Relaying:
    """Looks at sources beside the destinations that they lead to.

    Args:
        sources: those that are fine by themselves.
        destinations: likewise.
        routes: likewise.
        known: the names of all destinations in the file.
        report: takes the problems.
    """

    def __init__(
        self,
        sources: Mapping[str, SourceConfig],
        destinations: Mapping[str, DestinationConfig],
        routes: Sequence[RouteConfig],
        known: Collection[str],
        report: Report,
    ) -> None:
        self._sources = sources
        self._destinations = destinations
        self._routes = routes
        self._known = known
        self._report = report

    def check(self, server: ServerConfig | None, registry: Registry) -> None:
        """Report what contradicts itself, and what does nothing."""
        for name, source in self._sources.items():
            table = f"sources.{name}"
            if source.url:
                self._check_upstream(table, source, server)
            else:
                self._check_idle(table, source, ("relay_as", "relay_timeout"), "a url")
            self._check_lent(table, source, registry)
            if source.respond == "upstream":
                self._check_respond(name, source)
            else:
                self._check_idle(table, source, ("respond_timeout",), 'respond = "upstream"')
        for name, destination in self._destinations.items():
            if destination.credentials == "client":
                self._check_lending(name, destination, registry)

    def _check_idle(
        self, table: str, source: SourceConfig, keys: Sequence[str], needed: str
    ) -> None:
        for key in keys:
            if key in source.model_fields_set:
                what = f"does nothing without {needed}; add that, or leave {key} out"
                self._report.warning(table, key, what)

    def _check_upstream(
        self, table: str, source: SourceConfig, server: ServerConfig | None
    ) -> None:
        if server is not None and _is_here(source.url, server):
            what = "is this gateway's own address, so that a call would go round; name the vendor's"
            self._report.problem(table, "url", what)
        name = source.relay_as
        if not name:
            return
        lender = self._destinations.get(name)
        wrong: str | None = None
        if name not in self._known:
            wrong = f"there is no destination {name!r}; {nearest(name, self._known)}"
        elif source.keys == "any":
            wrong = 'would lend its credential to everybody; list the keys instead of "any"'
        elif lender is not None and lender.vendor != source.vendor:
            wrong = f"[destinations.{name}] is {lender.vendor}'s; name one of {source.vendor}'s"
        elif lender is not None and lender.shadow:
            wrong = f"[destinations.{name}] is a shadow; name one that delivers"
        elif lender is not None and lender.credentials == "client":
            wrong = f"[destinations.{name}] has no credential of its own; leave relay_as out"
        if wrong is not None:
            self._report.problem(table, "relay_as", wrong)

    def _check_lent(self, table: str, source: SourceConfig, registry: Registry) -> None:
        """Report what is lent to nobody, and second credentials of a vendor that has none."""
        if not source.relay_as:
            self._check_idle(table, source, ("relay_endpoints",), "relay_as")
        elif source.url and source.vendor in registry.inputs and not served(source, registry):
            what = (
                f"serves nothing: {source.vendor}'s documents have no reads; name what to serve in "
                f'relay_endpoints, such as ["GET /search"], or leave relay_as out'
            )
            self._report.warning(table, "relay_as", what)
        reads = registry.inputs.get(source.vendor)
        if source.secrets and reads is not None and not reads.secret_keys:
            what = f"does nothing: {source.vendor} has no second credential; leave it out"
            self._report.warning(table, "secrets", what)

    def _check_respond(self, name: str, source: SourceConfig) -> None:
        led = leads(self._routes, name)
        if not led <= set(self._destinations):
            return
        if not any(
            (to := self._destinations[one]).vendor == source.vendor
            and to.passthrough
            and not to.shadow
            for one in led
        ):
            what = (
                f"no route leads to a destination of {source.vendor}'s with passthrough, which "
                f"could answer; add one, or leave respond out"
            )
            self._report.problem(f"sources.{name}", "respond", what)

    def _check_lending(self, name: str, destination: DestinationConfig, registry: Registry) -> None:
        table = f"destinations.{name}"
        what: str | None = None
        if destination.vendor not in registry.inputs:
            what = f"{destination.vendor} has no input whose clients could send one; leave it out"
        elif not destination.passthrough:
            what = '"client" needs passthrough; leave passthrough = false out'
        for other, source in self._sources.items():
            if source.vendor != destination.vendor and name in leads(self._routes, other):
                what = (
                    f'"client" takes {destination.vendor}\'s own requests only, and a route leads '
                    f"here from [sources.{other}], which is {source.vendor}'s; name the sources "
                    f"in the route's from"
                )
                break
        if what is not None:
            self._report.problem(table, "credentials", what)


def _is_here(url: str, server: ServerConfig) -> bool:
    """Tell whether *url* is, as far as its text tells, where the gateway listens."""
    parts, here = urlsplit(url), server.address
    if here.port != (parts.port or DEFAULT_PORTS.get(parts.scheme)):
        return False
    local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    return parts.hostname == here.host or (local and (here.loopback or here.host is None))
