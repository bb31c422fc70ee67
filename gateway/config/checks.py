"""What is wrong with tables that are each fine by themselves."""

import itertools
from collections.abc import Collection, Mapping
from typing import Any

from gateway.config.models import Delivery, ServerConfig, SourceConfig
from gateway.config.problems import Report
from gateway.config.quantities import shown
from gateway.config.watching import TraceConfig
from gateway.plugins import Registry
from gateway.words import nearest

EVERYBODY = (
    '"any" would let everybody who reaches {} send events; list the credentials, listen on a '
    "loopback address, or set open = true"
)


def check_trace(trace: TraceConfig, report: Report) -> None:
    """Report what says how to send traces, while none are sent."""
    if trace.otlp and not trace.on:
        report.warning("trace", "otlp", "does nothing beside on = false; nothing is traced then")
    if trace.otlp_headers and not trace.otlp:
        report.warning("trace", "otlp_headers", "does nothing without otlp; say where traces go")


def check_sources(
    sources: Mapping[str, SourceConfig],
    server: ServerConfig | None,
    registry: Registry,
    report: Report,
) -> None:
    """Report open doors and doors that stand in each other's way."""
    for name, source in sources.items():
        table = f"sources.{name}"
        if source.keys == "any":
            if server and not server.address.loopback and not source.open:
                report.problem(table, "keys", EVERYBODY.format(server.listen))
        elif source.open:
            report.warning(table, "open", 'does nothing beside listed keys; it is for keys = "any"')
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


def check_browsers(table: str, source: SourceConfig, report: Report) -> None:
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


def check_server(server: ServerConfig, report: Report) -> None:
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


def _paths(source: SourceConfig, registry: Registry) -> set[str]:
    reads = registry.inputs.get(source.vendor)
    if reads is None:
        return set()
    endpoints = {*reads.endpoints, *reads.unsupported}
    return {source.mount + endpoint.partition(" ")[2] for endpoint in endpoints}


def _same_hosts(one: SourceConfig, other: SourceConfig) -> bool:
    """Tell whether a request may be for both; a source with hosts goes before one without."""
    return bool(set(one.hosts) & set(other.hosts)) or one.hosts == other.hosts


def check_delivery(delivery: Delivery, table: str, report: Report) -> None:
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
    report: Report,
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
                what = f"there is no {kind} {name!r}; {nearest(name, known[key])}"
                report.problem(table, key, what)
