"""Checks that need the whole configuration."""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from gateway.config.loader.references import is_secret
from gateway.config.loader.report import ConfigReport
from gateway.config.models import (
    ConsentConfig,
    Delivery,
    DestinationConfig,
    RouteConfig,
    ServerConfig,
    SourceConfig,
    destinations_of,
)
from gateway.config.operations import AdminConfig, AlertsConfig, TraceConfig
from gateway.config.steps import Consent
from gateway.config.types import address_problem
from gateway.plugin.quantities import shown
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Output
from gateway.suggestions import did_you_mean

EVERYBODY = (
    '"any" would let everybody who reaches {} send events; list the credentials, listen on a '
    "loopback address, or set allow_any_key = true"
)


def check_trace(trace: TraceConfig, report: ConfigReport) -> None:
    """Report what says how to send traces, while none are sent."""
    if trace.otlp_url and not trace.enabled:
        report.warning(
            "trace", "otlp_url", "does nothing beside enabled = false; nothing is traced then"
        )
    if trace.otlp_headers and not trace.otlp_url:
        report.warning(
            "trace", "otlp_headers", "does nothing without otlp_url; say where traces go"
        )


def check_sources(
    sources: Mapping[str, SourceConfig],
    server: ServerConfig | None,
    registry: PluginRegistry,
    report: ConfigReport,
) -> None:
    """Report open doors and doors that stand in each other's way."""
    for name, source in sources.items():
        table = f"sources.{name}"
        if source.keys == "any":
            if server and not server.address.loopback and not source.allow_any_key:
                report.problem(table, "keys", EVERYBODY.format(server.listen))
        elif source.allow_any_key:
            report.warning(
                table, "allow_any_key", 'does nothing beside listed keys; it is for keys = "any"'
            )
        check_browsers(table, source, report)
    for (one, first), (other, second) in itertools.combinations(sources.items(), 2):
        if not _same_hosts(first, second):
            continue
        shared = _paths(first, registry) & _paths(second, registry)
        why = _indistinct(first, second)
        if shared and why is not None:
            what = (
                f"stands in the way of [sources.{one}]: both serve {min(shared)}{why}; give one of "
                f"them a mount or hosts"
            )
            places = ("mount", "hosts") if first.vendor != second.vendor else ()
            own = "vendor" if first.vendor != second.vendor else "keys"
            key = next((k for k in places if getattr(second, k)), own)
            report.problem(f"sources.{other}", key, what)
        elif first.url and second.url and _ambiguous(first, second):
            what = (
                f"[sources.{one}] has one too at the same address: what is in the document of "
                f"neither vendor goes to neither; give one of them a mount or hosts"
            )
            report.warning(f"sources.{other}", "url", what)


def _indistinct(one: SourceConfig, other: SourceConfig) -> str | None:
    """Return why a request for both could not be told apart; None where its credential does."""
    if one.vendor != other.vendor:
        return ""
    if one.keys == "any" or other.keys == "any":
        return ', and "any" leaves no credential to tell them apart: list the keys of both'
    known = {key.get_secret_value() for key in one.keys if not isinstance(key, str)}
    for number, key in enumerate(other.keys, start=1):
        if not isinstance(key, str) and key.get_secret_value() in known:
            return f", and the credential number {number} of keys is in both"
    return None


def _ambiguous(one: SourceConfig, other: SourceConfig) -> bool:
    return one.vendor != other.vendor and one.mount == other.mount


def check_browsers(table: str, source: SourceConfig, report: ConfigReport) -> None:
    """Report what a source says of cookies that no browser would follow."""
    if not source.cookie:
        if source.cookie_domain:
            report.warning(table, "cookie_domain", "does nothing without a cookie; name one")
        return
    if source.client == "server":
        what = 'does nothing with client = "server", for a backend gets no cookie; leave one out'
        report.warning(table, "cookie", what)
    if source.cookie.startswith("__Host-") and source.cookie_domain:
        what = "cannot be: browsers take a __Host- cookie without a domain only; rename the cookie"
        report.problem(table, "cookie_domain", what)
    if source.origins == "*":
        what = (
            "comes only with credentials, which browsers send to named origins alone; name them "
            "in origins, unless all pages are of the gateway's own origin"
        )
        report.warning(table, "cookie", what)


def check_server(server: ServerConfig, report: ConfigReport) -> None:
    """Report proxies that are anybody, and limits that others make void."""
    most, each = server.max_connections, server.max_connections_per_client
    if each is not None and each > most:
        what = f"is more than max_connections, {most}, so that one address may take all; lower it"
        report.warning("server", "max_connections_per_client", what)
    if server.max_bodies < server.max_body:
        what = "is less than max_body, which holds then; write a larger one"
        report.warning("server", "max_bodies", what)
    if any(network.endswith("/0") for network in server.trusted_proxies):
        what = "trusts everybody, so that whoever calls can name any address; name the proxies"
        report.warning("server", "trusted_proxies", what)
    if server.proxy_header != "x-forwarded-for" and not server.trusted_proxies:
        what = "does nothing without trusted_proxies; name them"
        report.warning("server", "proxy_header", what)


def _paths(source: SourceConfig, registry: PluginRegistry) -> set[str]:
    reads = registry.inputs.get(source.vendor)
    if reads is None:
        return set()
    endpoints = {*reads.endpoints, *reads.unsupported}
    return {source.mount + endpoint.partition(" ")[2] for endpoint in endpoints}


def _same_hosts(one: SourceConfig, other: SourceConfig) -> bool:
    """Tell whether a request may be for both; a source with hosts goes before one without."""
    return bool(set(one.hosts) & set(other.hosts)) or one.hosts == other.hosts


def check_delivery(delivery: Delivery, table: str, report: ConfigReport) -> None:
    """Report delivery settings that contradict each other."""
    if delivery.retry_min > delivery.retry_max:
        longest = shown(delivery.retry_max, "duration")
        report.problem(table, "retry_min", f"is longer than retry_max, {longest}; swap them")
    if delivery.shadow and delivery.credentials == "client":
        what = 'has no client whose account it could use; leave credentials = "client" out'
        report.problem(table, "shadow", what)
    if delivery.burst > 1 and delivery.rate is None:
        what = "does nothing without a rate; add one, or leave burst out"
        report.warning(table, "burst", what)


def check_names(
    route: Mapping[str, Any],
    table: str,
    known: Mapping[str, Collection[str]],
    report: ConfigReport,
) -> None:
    """Report names in a route that are no source's and no destination's.

    Args:
        route: the route's table, not yet validated.
        table: its place in the file.
        known: what may stand under ``from`` and under ``to``.
        report: takes the problems.
    """
    for key, kind in (("from", "source"), ("to", "destination")):
        names = route.get(key)
        for name in names if isinstance(names, list) else ():
            if isinstance(name, str) and name not in known[key]:
                what = f"there is no {kind} {name!r}; {did_you_mean(name, known[key])}"
                report.problem(table, key, what)


Numbered = tuple[int, RouteConfig]


def check_reach(
    routes: Sequence[RouteConfig],
    sources: Collection[str],
    destinations: Collection[str],
    report: ConfigReport,
) -> None:
    """Warn of dead routes, and of sources and destinations that no living route touches."""
    living: list[Numbered] = []
    numbered = list(enumerate(routes, start=1))
    for number, route in numbered:
        why = next(_deaths(route, living, numbered), "")
        if why:
            report.warning(f"routes.{number}", "", f"is never taken: {why}")
        else:
            living.append((number, route))
    every = any(route.sources is None for _, route in living)
    left = {name for _, route in living for name in route.sources or ()}
    reached = {name for _, route in living for name in route.to}
    for name in sources:
        if not every and name not in left:
            what = "no route leaves it, so that its events are accepted and go nowhere; add one"
            report.warning(f"sources.{name}", "", what)
    for name in destinations:
        if name not in reached:
            what = "no route leads to it, so that it gets no events; add one"
            report.warning(f"destinations.{name}", "", what)


def _deaths(
    route: RouteConfig, earlier: Sequence[Numbered], every: Sequence[Numbered]
) -> Iterator[str]:
    """Yield why *route* gets no event; *earlier* are the living routes before it."""
    if route.fallback:
        for number, other in every:
            if not other.fallback and _covers(other, route):
                yield f"it takes what no other route takes, and #{number} takes all of that"
        earlier = [(number, other) for number, other in earlier if other.fallback]
    else:
        earlier = [(number, other) for number, other in earlier if not other.fallback]
    covering = [(number, other) for number, other in earlier if _covers(other, route)]
    for number, other in covering:
        if other.stop:
            yield f"#{number} takes all of its events and stops there"
    won = {to for _, other in covering if not other.additional for to in other.to}
    if not route.additional and not route.stop and set(route.to) <= won:
        numbers = ", ".join(f"#{number}" for number, other in covering if not other.additional)
        yield (
            f"{numbers} gives all of its events to the same destinations before; write "
            f"additional = true to deliver both"
        )


def _covers(one: RouteConfig, other: RouteConfig) -> bool:
    """Tell whether *one* takes every event that *other* could take."""
    return (
        one.when is None
        and _holds(one.sources, other.sources)
        and _holds(one.types, other.types)
        and (one.names == ("*",) or _holds(one.names, other.names))
    )


def _holds(one: Collection[str] | None, other: Collection[str] | None) -> bool:
    return one is None or (other is not None and set(one) >= set(other))


def check_consent(
    routes: Sequence[RouteConfig], consent: ConsentConfig | None, report: ConfigReport
) -> None:
    """Warn of consent that is remembered and never asked for."""
    asked = any(isinstance(step, Consent) for route in routes for step in route.steps)
    if consent is not None and consent.retention is not None and not asked:
        report.warning("consent", "retention", "no route has a consent step that would ask for it")


STAND_IN = "-"
"""Takes the place of settings that each client brings along; it never goes out."""
DEFAULT_PORTS = {"http": 80, "https": 443}


def client_key_settings(
    output: type[Output], own: Mapping[str, Any], table: str, report: ConfigReport
) -> Any:
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


def shadow_settings(output: type[Output], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings *own* of a destination that sends nothing.

    What says whose account it is gets a stand-in where it is left out.
    """
    filled = dict(own)
    for name, field in output.Config.model_fields.items():
        says_whose = is_secret(field.annotation) or name in output.account
        if says_whose and field.is_required():
            filled.setdefault(field.alias or name, STAND_IN)
    return filled


def served(source: SourceConfig, registry: PluginRegistry) -> tuple[str, ...]:
    """Return the endpoints that a source relays with a destination's credential."""
    if source.relay_endpoints is not None:
        return source.relay_endpoints
    return registry.inputs[source.vendor].lent_to()


class RelayChecks:
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
        report: ConfigReport,
    ) -> None:
        self._sources = sources
        self._destinations = destinations
        self._routes = routes
        self._known = known
        self._report = report

    def check(self, server: ServerConfig | None, registry: PluginRegistry) -> None:
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
            wrong = f"there is no destination {name!r}; {did_you_mean(name, self._known)}"
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

    def _check_lent(self, table: str, source: SourceConfig, registry: PluginRegistry) -> None:
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
        led = destinations_of(self._routes, name)
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

    def _check_lending(
        self, name: str, destination: DestinationConfig, registry: PluginRegistry
    ) -> None:
        table = f"destinations.{name}"
        what: str | None = None
        if destination.vendor not in registry.inputs:
            what = f"{destination.vendor} has no input whose clients could send one; leave it out"
        elif not destination.passthrough:
            what = '"client" needs passthrough; leave passthrough = false out'
        for other, source in self._sources.items():
            if source.vendor != destination.vendor and name in destinations_of(self._routes, other):
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


def check_alerts(alerts: AlertsConfig, report: ConfigReport) -> None:
    """Report an address that is none; it is not repeated, since it may be a credential."""
    url = alerts.url.get_secret_value().partition("?")[0]
    if address_problem(url):
        what = "is no http or https address; write one like https://hooks.example/alerts"
        report.problem("alerts", "url", what)


SHORTEST_TOKEN = 16
"""Characters; `openssl rand -hex 16` gives twice as many."""


def check_admin(admin: AdminConfig, report: ConfigReport) -> None:
    """Report an admin API that others could use, or that cannot listen."""
    token = admin.token.get_secret_value() if admin.token else None
    if token is None and not admin.address.loopback:
        what = (
            f"is needed on {admin.listen}, which other machines reach; add one, or listen on a "
            f"loopback address"
        )
        report.problem("admin", "token", what)
    if token is not None and len(token) < SHORTEST_TOKEN:
        what = f"is too short to be safe; use at least {SHORTEST_TOKEN} characters"
        report.problem("admin", "token", what)
