"""``gateway check`` and ``gateway schema``: validate a configuration, print its JSON Schema."""

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import click
import orjson
from rich.console import Console
from rich.text import Text

from gateway.cli.errors import InvalidConfig
from gateway.cli.options import config_option, json_option
from gateway.cli.output import console, table, title
from gateway.config import Config, DestinationConfig, RouteConfig, SourceConfig
from gateway.config.loader.checks import served
from gateway.config.loader.load import load
from gateway.config.models import destinations_of
from gateway.config.operations import TraceConfig
from gateway.config.proxy import proxy_of
from gateway.config.schema import editor_schema
from gateway.delivery.line_files import write_problem
from gateway.delivery.s3_bucket import S3Bucket
from gateway.errors import ConfigError, UploadFailed
from gateway.explain.static_losses import StaticLosses, static_losses
from gateway.plugin.file_rules import FileRules
from gateway.plugin.quantities import shown
from gateway.plugin.registry import PluginRegistry, load_plugins
from gateway.redact import without_password

MAX_FIELDS = 16
"""Lost fields that are listed for one route and destination."""


@click.command("check")
@config_option
@json_option("problems and warnings")
@click.option(
    "--connect",
    is_flag=True,
    help="Also connect to NATS, if `url` in `[spool]` names servers, and to the buckets of "
    "`upload`, and try what a gateway does.",
)
@click.pass_context
def check(ctx: click.Context, path: Path, *, as_json: bool, connect: bool) -> None:
    """Validate a configuration and print the result.

    Exits with 1 if something is wrong. Credentials are counted, never shown. Without --connect
    nothing is sent.
    """
    registry = load_plugins()
    try:
        config = load(path, registry)
    except ConfigError as error:
        if as_json:
            click.echo(_json(error.problems))
        else:
            InvalidConfig(error.problems).show()
        ctx.exit(1)
    servers, problems, remarks = _look_at_nats(config) if connect else ([], [], [])
    buckets, refused, left = _look_at_buckets(config, registry) if connect else ([], [], [])
    warnings = [*config.warnings, *remarks, *left, *_unwritable_folders(config, registry)]
    if as_json:
        click.echo(_json([*problems, *refused], warnings))
        ctx.exit(1 if problems or refused else 0)
    out = console()
    _print(config, registry, out)
    _print_losses(tuple(static_losses(config, registry)), out)
    for heading, lines, style in (
        ("NATS servers", servers, ""),
        ("Buckets", buckets, ""),
        ("Warnings", warnings, "yellow"),
        ("Problems with NATS", problems, "red"),
        ("Problems with uploads", refused, "red"),
    ):
        if lines:
            out.print(title(f"\n{heading}"))
        for line in lines:
            out.print(Text(f"  {line}", style=style), soft_wrap=not out.is_terminal)
    ctx.exit(1 if problems or refused else 0)


def _look_at_nats(config: Config) -> tuple[list[str], list[str], list[str]]:
    """Return the servers that let the gateway in, problems, and remarks."""
    if not config.spool.url:
        return [], [], []
    from gateway.spool.jetstream.diagnosis import diagnose  # noqa: PLC0415 - NATS is an extra

    return asyncio.run(diagnose(config.spool, config.server.max_body))


def _look_at_buckets(
    config: Config, registry: PluginRegistry
) -> tuple[list[str], list[str], list[str]]:
    """Return the buckets that take files, problems, and remarks."""
    found: tuple[list[str], list[str], list[str]] = ([], [], [])

    async def look() -> None:
        for name, rules in _file_rules(config, registry):
            if rules.upload is None or config.destinations[name].shadow is True:
                continue
            place = f"[destinations.{name}] upload"
            try:
                left = await S3Bucket(rules.upload, config.destinations[name]).try_out()
            except UploadFailed as error:
                found[1].append(f"{place}: {error}")
                continue
            found[0].append(f"{rules.upload.bucket} at {rules.upload.endpoint}")
            if left:
                found[2].append(f"{place}: {left}")

    asyncio.run(look())
    return found


def _file_rules(config: Config, registry: PluginRegistry) -> Iterator[tuple[str, FileRules]]:
    """Yield the destinations that write files, by name."""
    for name, destination in config.destinations.items():
        files = registry.outputs[destination.vendor](destination.settings).files
        if files is not None:
            yield name, files


def _unwritable_folders(config: Config, registry: PluginRegistry) -> Iterator[str]:
    """Yield the folders of destinations in which this user cannot write now."""
    for name, files in _file_rules(config, registry):
        if problem := write_problem(Path(files.folder)):
            yield f"[destinations.{name}] path: {problem} now, for the user of this command"


def _json(problems: Sequence[str], warnings: Sequence[str] = ()) -> bytes:
    found = {"valid": not problems, "problems": [*problems], "warnings": [*warnings]}
    return orjson.dumps(found, option=orjson.OPT_INDENT_2)


def _print(config: Config, registry: PluginRegistry, out: Console) -> None:
    spool = config.spool
    size, age = shown(spool.max_bytes, "size"), shown(spool.max_age, "duration")
    out.print(title(f"{config.path} is valid"))
    for file in config.files.read[1:]:
        out.print(f"  reads      {file}")
    out.print(f"  listens on {config.server.listen}")
    out.print(f"  spool      {spool.place}, at most {size}, for at most {age}")
    for place, line in enumerate(_traces(config.trace, spool.path)):
        out.print(f"  {'' if place else 'traces':<11}{line}")
    if config.admin is not None:
        access = "with a token" if config.admin.guarded else "without a token, on this machine only"
        out.print(f"  admin API  {config.admin.listen}, {access}")
    if config.alerts is not None:
        host = urlsplit(config.alerts.url.get_secret_value()).hostname
        proxy = proxy_of(config.alerts.proxy)
        through = f" through proxy {proxy.address}" if proxy else ""
        out.print(f"  alerts     to {host}{through}")
    if config.consent.retention is not None:
        out.print(f"  consent    remembered for {shown(config.consent.retention, 'duration')}")
    out.print(title("\nSources"))
    rows = [_source(name, source) for name, source in config.sources.items()]
    out.print(table(("name", "vendor", "mount", "hosts", "keys", "upstream"), rows))
    relays = [_relay(name, source, registry) for name, source in config.sources.items()]
    if any(relays):
        out.print(title("\nRelayed with the gateway's own key"))
        out.print(table(("source", "as", "endpoints"), filter(None, relays)))
    out.print(title("\nRoutes"))
    routes = [_route(route, config) for route in config.routes]
    out.print(table(("name", "from", "when", "steps", "to"), routes))
    out.print(title("\nDestinations"))
    destinations = [_destination(name, config, registry) for name in config.destinations]
    out.print(table(("name", "vendor", "url", "delivery"), destinations))


def _traces(trace: TraceConfig, spool: Path) -> Iterator[str]:
    """Yield where traces go, and their limits."""
    if not trace.enabled:
        yield "none"
        return
    size, age = shown(trace.max_bytes, "size"), shown(trace.retention, "duration")
    yield f"{trace.file(spool)}, at most {size}, for at most {age}"
    most, share = trace.success_rate_limit, trace.cpu_share
    yield f"of successes at most {most} events a second; above that rate, {share:g} of a core"
    if trace.otlp_url:
        yield f"also as spans to {trace.otlp_url}"


def _print_losses(found: Sequence[StaticLosses], out: Console) -> None:
    """Print which fields and events never arrive, by route and destination."""
    lost = [(one.route, one.destination, _fields(one.fields)) for one in found if one.fields]
    if lost:
        out.print(title("\nFields that never arrive"))
        out.print(table(("route", "to", "fields"), lost))
    never = [(one.route, one.destination, one.nothing) for one in found if one.nothing]
    if never:
        out.print(title("\nDestinations that get no events"))
        out.print(table(("route", "to", "reason"), never))
    failed = [(one.route, one.destination, one.failed) for one in found if one.failed]
    if failed:
        out.print(title("\nA plugin fails; these events become dead letters"))
        out.print(table(("route", "to", "reason"), failed))


def _fields(fields: Sequence[str]) -> str:
    more = len(fields) - MAX_FIELDS
    return ", ".join(fields[:MAX_FIELDS]) + (f" and {more} more" if more > 0 else "")


def _source(name: str, source: SourceConfig) -> tuple[str, ...]:
    keys = "any" if source.keys == "any" else str(len(source.keys))
    facts = [without_password(source.url)] if source.url else []
    if source.url and source.relay_as:
        facts.append(f"as {source.relay_as}")
    if source.respond == "upstream":
        facts.append("responds to events")
    if proxy := proxy_of(source.proxy):
        facts.append(f"through proxy {proxy.address}")
    hosts = " ".join(source.hosts) or "every"
    return name, _vendor(source), source.mount or "/", hosts, keys, ", ".join(facts)


def _relay(name: str, source: SourceConfig, registry: PluginRegistry) -> tuple[str, ...] | None:
    if not (source.url and source.relay_as):
        return None
    return name, source.relay_as, ", ".join(served(source, registry)) or "none"


def _route(route: RouteConfig, config: Config) -> tuple[str, ...]:
    sources = "every source" if route.sources is None else " ".join(route.sources)
    every = len(config.destinations) > 1 and set(route.to) >= set(config.destinations)
    to = "every destination" if every else " ".join(route.to)
    also = [word for word in ("additional", "stop", "fallback") if getattr(route, word)]
    when = ", and ".join(_conditions(route)) or "always"
    steps = ", ".join(step.word for step in route.steps)
    return " ".join((route.name, *(f"({word})" for word in also))), sources, when, steps, to


def _conditions(route: RouteConfig) -> Iterator[str]:
    if route.types is not None:
        yield " or ".join(route.types)
    if route.names is not None:
        yield " or ".join(f'"{name}"' for name in route.names)
    if route.when is not None:
        yield " ".join(route.when.split())


def _destination(name: str, config: Config, registry: PluginRegistry) -> tuple[str, ...]:
    destination = config.destinations[name]
    if destination.shadow is True:
        address = without_password(destination.settings.url)
        return name, _vendor(destination), address, "shadow: compared, never sent"
    facts = [f"{destination.concurrency} at once", f"{shown(destination.timeout, 'duration')} each"]
    if destination.rate is not None:
        facts.append(f"at most {shown(destination.rate, 'rate')}")
    if destination.max_attempts:
        facts.append(f"{destination.max_attempts} attempts")
    if destination.max_backlog:
        facts.append(f"backlog of {destination.max_backlog}, then {destination.on_full}")
    if _passes_through(name, config, registry):
        facts.append("passthrough")
    if destination.shadow:
        facts.append("shadow: its responses are counted separately")
    if destination.credentials == "client":
        facts.append("with each client's own key")
    files = registry.outputs[destination.vendor](destination.settings).files
    if files is not None and files.upload is not None:
        facts.append(f"uploads to {files.upload.bucket} at {files.upload.endpoint}")
    facts += _egress(destination)
    address = without_password(destination.settings.url)
    return name, _vendor(destination), address, ", ".join(facts)


def _vendor(part: SourceConfig | DestinationConfig) -> str:
    return f"{part.preset} ({part.vendor})" if part.preset else part.vendor


def _passes_through(name: str, config: Config, registry: PluginRegistry) -> bool:
    """Return whether requests of any source reach the destination as they came."""
    destination = config.destinations[name]
    plain = [route for route in config.routes if name in route.to and not route.steps]
    return (
        destination.passthrough
        and not destination.shadow
        and any(
            registry.forwards(source.vendor, destination.vendor)
            and name in destinations_of(plain, other)
            for other, source in config.sources.items()
        )
    )


def _egress(destination: DestinationConfig) -> Iterator[str]:
    """Yield how the vendor is reached: the names of headers, and no value."""
    if proxy := proxy_of(destination.proxy):
        yield f"through proxy {proxy.address}"
    if destination.headers:
        yield f"adds {' '.join(destination.headers)}"
    if destination.ca is not None:
        yield f"trusts {destination.ca} only"
    if destination.cert is not None:
        yield f"shows the certificate {destination.cert}"


@click.command("schema")
def schema() -> None:
    """Print the JSON Schema of configuration files, for editors.

    It covers the settings of all installed vendors. Save it beside your file and name it in the
    file's first line; Even Better TOML and Taplo then complete and explain keys:

    \b
        gateway schema > gateway.schema.json
        #:schema ./gateway.schema.json
    """  # noqa: D301 - click takes the escape for "leave these lines as they are"
    schema = editor_schema(load_plugins())
    click.echo(orjson.dumps(schema, option=orjson.OPT_INDENT_2).decode())
