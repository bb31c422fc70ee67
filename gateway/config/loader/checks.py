"""Check the configuration as a whole: contradictions, conflicts, and settings without effect.

A setting that cannot work is a problem; one that has no effect is a warning.
"""

import itertools
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from pydantic import BaseModel

from gateway.config.inputs import make_input
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
from gateway.config.operations import AlertsConfig, TraceConfig
from gateway.config.steps import Consent
from gateway.config.types import address_problem
from gateway.plugin.config_table import ConfigTable
from gateway.plugin.quantities import shown
from gateway.plugin.registry import PluginRegistry
from gateway.plugin.vendor import Output
from gateway.suggestions import did_you_mean

EVERYBODY = (
    '"any" would let everybody who can reach {} send events; list the keys, listen on a loopback '
    "address, or set allow_any_key = true"
)


def check_trace(trace: TraceConfig, report: ConfigReport) -> None:
    """Warn about settings of the export if nothing is exported."""
    if trace.otlp_url and not trace.enabled:
        report.warning("trace", "otlp_url", "has no effect with enabled = false; remove one")
    if trace.otlp_headers and not trace.otlp_url:
        report.warning("trace", "otlp_headers", "has no effect without otlp_url; add it")


def check_sources(
    sources: Mapping[str, SourceConfig],
    settings: Mapping[str, ConfigTable],
    server: ServerConfig | None,
    registry: PluginRegistry,
    report: ConfigReport,
) -> None:
    """Report sources that accept any key on a public address, and sources that conflict."""
    for name, source in sources.items():
        table = f"sources.{name}"
        if source.keys == "any":
            if server and not server.address.loopback and not source.allow_any_key:
                report.problem(table, "keys", EVERYBODY.format(server.listen))
        elif source.allow_any_key:
            what = 'has no effect with a list of keys, only with keys = "any"; remove it'
            report.warning(table, "allow_any_key", what)
        check_browsers(table, source, report)
    for (one, first), (other, second) in itertools.combinations(sources.items(), 2):
        if not _same_hosts(first, second):
            continue
        shared = _paths(first, registry, settings.get(one)) & _paths(
            second, registry, settings.get(other)
        )
        why = _indistinct(first, second)
        if shared and why is not None:
            what = (
                f"conflicts with [sources.{one}]: both serve {min(shared)}{why}; set mount or "
                f"hosts in one of them"
            )
            places = ("mount", "hosts") if first.vendor != second.vendor else ()
            own = "vendor" if first.vendor != second.vendor else "keys"
            key = next((k for k in places if getattr(second, k)), own)
            report.problem(f"sources.{other}", key, what)
        elif first.url and second.url and _ambiguous(first, second):
            what = (
                f"[sources.{one}] has a url too, at the same mount and hosts: requests that are in "
                f"neither vendor's documentation are not relayed; set mount or hosts in one of them"
            )
            report.warning(f"sources.{other}", "url", what)


def _indistinct(one: SourceConfig, other: SourceConfig) -> str | None:
    """Return why requests for the two sources cannot be told apart; None if their keys do it."""
    if one.vendor != other.vendor:
        return ""
    if one.keys == "any" or other.keys == "any":
        return ', and keys = "any" does not distinguish them: list the keys of both'
    known = {key.get_secret_value() for key in one.keys if not isinstance(key, str)}
    for number, key in enumerate(other.keys, start=1):
        if not isinstance(key, str) and key.get_secret_value() in known:
            return f", and item {number} of keys is in both"
    return None


def _ambiguous(one: SourceConfig, other: SourceConfig) -> bool:
    return one.vendor != other.vendor and one.mount == other.mount


def check_browsers(table: str, source: SourceConfig, report: ConfigReport) -> None:
    """Report cookie settings that browsers ignore or reject."""
    if not source.cookie:
        if source.cookie_domain:
            report.warning(table, "cookie_domain", "has no effect without cookie; add it")
        return
    if source.client == "server":
        what = 'has no effect with client = "server": servers get no cookie; remove one of the two'
        report.warning(table, "cookie", what)
    if source.cookie.startswith("__Host-") and source.cookie_domain:
        what = "is not allowed: browsers reject a __Host- cookie with a domain; rename the cookie"
        report.problem(table, "cookie_domain", what)
    if source.origins == "*":
        what = (
            'has no effect with origins = "*": browsers send cookies only to listed origins; list '
            "them in origins, unless all pages have the gateway's own origin"
        )
        report.warning(table, "cookie", what)


def check_server(server: ServerConfig, report: ConfigReport) -> None:
    """Warn about proxies that include everybody, and limits that have no effect."""
    most, each = server.max_connections, server.max_connections_per_client
    if each is not None and each > most:
        what = f"is more than max_connections ({most}), so one address can use all; lower it"
        report.warning("server", "max_connections_per_client", what)
    if server.max_bodies < server.max_body:
        what = "is less than max_body, which is used instead; raise it"
        report.warning("server", "max_bodies", what)
    if any(network.endswith("/0") for network in server.trusted_proxies):
        what = "trusts everybody, so any client can fake its address; list the proxies' networks"
        report.warning("server", "trusted_proxies", what)
    if server.proxy_header != "x-forwarded-for" and not server.trusted_proxies:
        what = "has no effect without trusted_proxies; list them"
        report.warning("server", "proxy_header", what)


def _paths(
    source: SourceConfig, registry: PluginRegistry, settings: ConfigTable | None
) -> set[str]:
    if source.vendor not in registry.inputs:
        return set()
    reads = make_input(registry, source, settings)
    endpoints = {*reads.endpoints, *reads.unsupported, *reads.public_files}
    return {source.mount + endpoint.partition(" ")[2] for endpoint in endpoints}


def _files_url(source: SourceConfig, registry: PluginRegistry, settings: ConfigTable | None) -> str:
    """Return the URL below which a source's files for pages are fetched; empty if none are."""
    if source.vendor not in registry.inputs:
        return ""
    return make_input(registry, source, settings).files_url


def _same_hosts(one: SourceConfig, other: SourceConfig) -> bool:
    """Return whether a request may be for both; a source with hosts is tried before one without."""
    return bool(set(one.hosts) & set(other.hosts)) or one.hosts == other.hosts


def check_delivery(delivery: Delivery, table: str, report: ConfigReport) -> None:
    """Report delivery settings that contradict each other."""
    if delivery.retry_min > delivery.retry_max:
        longest = shown(delivery.retry_max, "duration")
        report.problem(table, "retry_min", f"is longer than retry_max, {longest}; swap them")
    if delivery.shadow and delivery.credentials == "client":
        what = 'is not possible with credentials = "client"; remove one of the two'
        report.problem(table, "shadow", what)
    if delivery.burst > 1 and delivery.rate is None:
        what = "has no effect without rate; add rate, or remove burst"
        report.warning(table, "burst", what)


def check_names(
    route: Mapping[str, Any],
    table: str,
    known: Mapping[str, Collection[str]],
    report: ConfigReport,
) -> None:
    """Report unknown sources and destinations in a route.

    Args:
        route: the route's table, not yet validated.
        table: its place in the file.
        known: the names that are allowed under ``from`` and under ``to``.
        report: gets the problems.
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
    """Warn about routes that never match, and about sources and destinations without a route."""
    living: list[Numbered] = []
    numbered = list(enumerate(routes, start=1))
    for number, route in numbered:
        why = next(_deaths(route, living, numbered), "")
        if why:
            report.warning(f"routes.{number}", "", f"never matches: {why}")
        else:
            living.append((number, route))
    every = any(route.sources is None for _, route in living)
    left = {name for _, route in living for name in route.sources or ()}
    reached = {name for _, route in living for name in route.to}
    for name in sources:
        if not every and name not in left:
            what = "no route takes its events: they are accepted and not delivered; add a route"
            report.warning(f"sources.{name}", "", what)
    for name in destinations:
        if name not in reached:
            what = "no route leads to it, so it gets no events; add a route"
            report.warning(f"destinations.{name}", "", what)


def _deaths(
    route: RouteConfig, earlier: Sequence[Numbered], every: Sequence[Numbered]
) -> Iterator[str]:
    """Yield why *route* never matches; *earlier* are the routes before it that can match."""
    if route.fallback:
        for number, other in every:
            if not other.fallback and _covers(other, route):
                yield f"it is a fallback, and #{number} already takes all of its events"
        earlier = [(number, other) for number, other in earlier if other.fallback]
    else:
        earlier = [(number, other) for number, other in earlier if not other.fallback]
    covering = [(number, other) for number, other in earlier if _covers(other, route)]
    for number, other in covering:
        if other.stop:
            yield f"#{number} takes all of its events, and has stop = true"
    won = {to for _, other in covering if not other.additional for to in other.to}
    if not route.additional and not route.stop and set(route.to) <= won:
        numbers = ", ".join(f"#{number}" for number, other in covering if not other.additional)
        yield (
            f"{numbers} already sends all of its events to the same destinations; set "
            f"additional = true to deliver both"
        )


def _covers(one: RouteConfig, other: RouteConfig) -> bool:
    """Return whether *one* takes every event that *other* could take."""
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
    """Warn about stored consent that no route uses."""
    asked = any(isinstance(step, Consent) for route in routes for step in route.steps)
    if consent is not None and consent.retention is not None and not asked:
        what = "has no effect: no route has a consent step; add one, or remove it"
        report.warning("consent", "retention", what)


STAND_IN = "-"
"""Replaces settings that each client sends itself; it is never sent."""
DEFAULT_PORTS = {"http": 80, "https": 443}


def client_key_settings(
    output: type[Output], own: Mapping[str, Any], table: str, report: ConfigReport
) -> Any:
    """Return a destination's settings for ``credentials = "client"``.

    Keys and account settings get a placeholder; it is a problem if the file sets one.
    """
    model: type[BaseModel] = output.Config
    filled = dict(own)
    for name, field in model.model_fields.items():
        if not (is_secret(field.annotation) or name in output.account):
            continue
        key = field.alias or name
        if key in own:
            what = 'is never sent with credentials = "client"; remove one of the two'
            report.problem(table, key, what, only=True)
        elif field.is_required():
            filled[key] = STAND_IN
    return filled


def shadow_settings(output: type[Output], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a destination's settings for ``shadow = true``: missing keys get a placeholder."""
    filled = dict(own)
    for name, field in output.Config.model_fields.items():
        says_whose = is_secret(field.annotation) or name in output.account
        if says_whose and field.is_required():
            filled.setdefault(field.alias or name, STAND_IN)
    return filled


def served(source: SourceConfig, registry: PluginRegistry) -> tuple[str, ...]:
    """Return the endpoints that a source relays with a destination's key."""
    if source.relay_endpoints is not None:
        return source.relay_endpoints
    return registry.inputs[source.vendor].documented_reads()


class RelayChecks:
    """Checks sources together with the destinations that their routes lead to.

    Args:
        sources: the valid sources.
        destinations: the valid destinations.
        routes: the valid routes.
        known: the names of all destinations in the file.
        report: gets the problems.
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

    def check(
        self,
        server: ServerConfig | None,
        registry: PluginRegistry,
        settings: Mapping[str, ConfigTable],
    ) -> None:
        """Report contradictions, and settings without effect."""
        for name, source in self._sources.items():
            table = f"sources.{name}"
            if source.url:
                self._check_upstream(table, source, server)
            else:
                fetched = _files_url(source, registry, settings.get(name))
                idle = ("relay_as",) if fetched else ("relay_as", "relay_timeout", "proxy")
                self._check_idle(table, source, idle, "a url")
            self._check_lent(table, source, registry)
            if source.respond == "upstream":
                self._check_respond(name, source, registry)
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
                what = f"has no effect without {needed}; add that, or remove {key}"
                self._report.warning(table, key, what)

    def _check_upstream(
        self, table: str, source: SourceConfig, server: ServerConfig | None
    ) -> None:
        if server is not None and _is_here(source.url, server):
            what = "is this gateway's own address, which would be a loop; write the vendor's URL"
            self._report.problem(table, "url", what)
        name = source.relay_as
        if not name:
            return
        named = self._destinations.get(name)
        wrong: str | None = None
        if name not in self._known:
            wrong = f"there is no destination {name!r}; {did_you_mean(name, self._known)}"
        elif source.keys == "any":
            wrong = 'would let everybody use its key; list the keys instead of keys = "any"'
        elif named is not None and named.vendor != source.vendor:
            wrong = (
                f"[destinations.{name}] has vendor {named.vendor}; name one with vendor "
                f"{source.vendor}"
            )
        elif named is not None and named.shadow:
            wrong = f"[destinations.{name}] is a shadow; name another destination"
        elif named is not None and named.credentials == "client":
            wrong = f"[destinations.{name}] has no key of its own; remove relay_as"
        if wrong is not None:
            self._report.problem(table, "relay_as", wrong)

    def _check_lent(self, table: str, source: SourceConfig, registry: PluginRegistry) -> None:
        """Warn about ``relay_as`` without endpoints, and ``secrets`` for a vendor that has none."""
        if not source.relay_as:
            self._check_idle(table, source, ("relay_endpoints",), "relay_as")
        elif source.url and source.vendor in registry.inputs and not served(source, registry):
            what = (
                f"has no effect: {source.vendor}'s documentation has no reads; list endpoints in "
                f'relay_endpoints, such as ["GET /search"], or remove relay_as'
            )
            self._report.warning(table, "relay_as", what)
        reads = registry.inputs.get(source.vendor)
        if source.secrets and reads is not None and not reads.secret_keys:
            what = f"has no effect: {source.vendor} has no second key; remove it"
            self._report.warning(table, "secrets", what)

    def _check_respond(self, name: str, source: SourceConfig, registry: PluginRegistry) -> None:
        output = registry.outputs.get(source.vendor)
        if output is not None and not output.forwards:
            what = (
                f"needs requests that are forwarded as they came, which those of "
                f"{source.vendor} never are; remove respond"
            )
            self._report.problem(f"sources.{name}", "respond", what)
            return
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
                f"needs a route to a destination of {source.vendor} with passthrough, which can "
                f"respond; add one, or remove respond"
            )
            self._report.problem(f"sources.{name}", "respond", what)

    def _check_lending(
        self, name: str, destination: DestinationConfig, registry: PluginRegistry
    ) -> None:
        table = f"destinations.{name}"
        what: str | None = None
        if destination.vendor not in registry.inputs:
            what = f'"client" needs a vendor with an input, which {destination.vendor} lacks'
        elif not registry.forwards(destination.vendor, destination.vendor):
            what = (
                f'"client" needs requests that are forwarded as they came, which those of '
                f"{destination.vendor} never are"
            )
        elif not destination.passthrough:
            what = '"client" needs passthrough; remove passthrough = false'
        for other, source in self._sources.items():
            if source.vendor != destination.vendor and name in destinations_of(self._routes, other):
                what = (
                    f'"client" accepts requests in the format of {destination.vendor} only, but a '
                    f"route leads here from [sources.{other}] of {source.vendor}; list the sources "
                    f"in the route's from"
                )
                break
        if what is not None:
            self._report.problem(table, "credentials", what)


def _is_here(url: str, server: ServerConfig) -> bool:
    """Return whether *url* is the gateway's own address, as far as its text shows."""
    parts, here = urlsplit(url), server.address
    if here.port != (parts.port or DEFAULT_PORTS.get(parts.scheme)):
        return False
    local = parts.hostname in {"localhost", "127.0.0.1", "::1"}
    return parts.hostname == here.host or (local and (here.loopback or here.host is None))


def check_alerts(alerts: AlertsConfig, report: ConfigReport) -> None:
    """Report an invalid URL, without showing it, since it may contain a credential."""
    url = alerts.url.get_secret_value().partition("?")[0]
    if wrong := address_problem(url):
        report.problem("alerts", "url", wrong)
