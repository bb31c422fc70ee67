"""Load a configuration; report all of its problems at once."""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal, NamedTuple, TypeVar

from pydantic import ValidationError

from gateway.config.docstrings import documented_keys
from gateway.config.inputs import make_input
from gateway.config.loader.admin_checks import check_admin
from gateway.config.loader.checks import (
    RelayChecks,
    check_alerts,
    check_consent,
    check_delivery,
    check_reach,
    check_server,
    check_sources,
    check_trace,
    client_key_settings,
    shadow_settings,
)
from gateway.config.loader.egress import EgressReader, check_headers, check_upload
from gateway.config.loader.event_names import check as check_event_names
from gateway.config.loader.files import FileMerger, Raw
from gateway.config.loader.presets import with_preset
from gateway.config.loader.references import ReferenceResolver
from gateway.config.loader.report import ConfigReport
from gateway.config.loader.route_tests import RouteTestReader
from gateway.config.loader.routes import RouteReader
from gateway.config.loader.spool import check_spool
from gateway.config.loader.suppression import read_suppressions
from gateway.config.loader.tracking_plans import PlanReader
from gateway.config.models import (
    Config,
    ConsentConfig,
    Delivery,
    DestinationConfig,
    ReadFiles,
    ServerConfig,
    SourceConfig,
    SuppressionConfig,
    keys_of,
    redactor_of,
)
from gateway.config.operations import AdminConfig, AlertsConfig, LogConfig, TraceConfig
from gateway.config.spool import SpoolConfig
from gateway.config.types import NAME, address_problem
from gateway.errors import ConfigError, PluginError
from gateway.plugin.config_table import ConfigTable
from gateway.plugin.registry import PluginRegistry
from gateway.redact import Redactor
from gateway.suggestions import did_you_mean

T = TypeVar("T", bound=ConfigTable)


def load(
    path: Path,
    registry: PluginRegistry,
    environ: Mapping[str, str] = os.environ,
    *,
    listen: str | None = None,
    stand_ins: bool = False,
) -> Config:
    """Load the configuration in *path*.

    Args:
        path: a TOML file.
        registry: the vendors that it may name.
        environ: the variables for ``${NAME}``.
        listen: replaces the address in the file.
        stand_ins: use placeholders for missing variables and secret files; nothing may be sent
            then.

    Raises:
        ConfigError: the configuration is invalid; every problem is listed.
        PluginError: an output's setting has the name of a key that every destination has.
    """
    report = ConfigReport()
    return read(
        path, registry, ReferenceResolver(environ, report, stand_ins=stand_ins), report, listen
    )


def read(
    path: Path,
    registry: PluginRegistry,
    references: ReferenceResolver,
    report: ConfigReport,
    listen: str | None = None,
) -> Config:
    """Load the configuration in *path* as `load` does, with a *report* of the caller's."""
    gathered = FileMerger(references, report)
    gathered.read(path)
    if listen is None:
        return _Reading(gathered, registry, references, report).config(path)
    server = gathered.raw.setdefault("server", {})
    written = server.get("listen", ServerConfig.model_fields["listen"].default)
    server["listen"] = listen
    found = _Reading(gathered, registry, references, report).config(path)
    # It is not used, so its variables may be missing.
    unused = ReferenceResolver(references.environ, ConfigReport(), stand_ins=True)
    return replace(found, listen_in_file=str(unused.expanded(written, "server", "listen")))


def load_spool(
    path: Path, environ: Mapping[str, str] = os.environ, *, secrets: bool = False
) -> SpoolConfig:
    """Return the ``[spool]`` table of *path*, for commands that need no other table.

    The rest of the file may have mistakes, or variables that are not set.

    Args:
        path: a TOML file.
        environ: the variables for ``${NAME}``.
        secrets: read the credentials for NATS, whose files and variables must be within reach.

    Raises:
        ConfigError: the file cannot be read, or its ``[spool]`` is invalid.
    """
    without = () if secrets else ("password", "nkey_seed")
    return _load_one(path, "spool", SpoolConfig, environ, without=without)


def load_names(
    path: Path, table: Literal["sources", "destinations"], environ: Mapping[str, str] = os.environ
) -> set[str]:
    """Return the names of sources or destinations; the file may have mistakes otherwise."""
    report = ConfigReport()
    gathered = FileMerger(ReferenceResolver(environ, report), report)
    gathered.read(path)
    found = gathered.raw.get(table)
    return set(found) if isinstance(found, dict) else set()


def load_trace(path: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the path of the traces' file; other tables may have mistakes.

    Raises:
        ConfigError: the file cannot be read, or its ``[trace]`` or ``[spool]`` is invalid.
    """
    trace = _load_one(path, "trace", TraceConfig, environ, without=("otlp_url", "otlp_headers"))
    return trace.file(load_spool(path, environ).path)


def load_admin(
    path: Path, environ: Mapping[str, str] = os.environ, *, secrets: bool = True
) -> AdminConfig | None:
    """Return the ``[admin]`` table of *path*, for commands that call the running gateway.

    The rest of the file may have mistakes, or variables that are not set. None stands for a file
    without the table.

    Args:
        path: a TOML file.
        environ: the variables for ``${NAME}``.
        secrets: read the tokens; without it, their files and variables may be out of reach.

    Raises:
        ConfigError: the file cannot be read, or its ``[admin]`` is invalid.
    """
    report = ConfigReport()
    references = ReferenceResolver(environ, report, stand_ins=not secrets)
    gathered = FileMerger(references, report)
    gathered.read(path)
    report.narrow("admin")
    written = gathered.raw.get("admin")
    if written is None:
        report.stop()
        return None
    raw = references.table(written, "admin")
    references.secrets(raw, AdminConfig, "admin")
    found = _valid(AdminConfig, raw, "admin", report)
    report.stop()
    return found


def load_audit_retention(path: Path, environ: Mapping[str, str] = os.environ) -> float:
    """Return the seconds for which actions are kept; other keys and tables may have mistakes.

    Raises:
        ConfigError: the file cannot be read, or ``audit_retention`` is invalid.
    """
    without = keys_of(AdminConfig).keys() - {"audit_retention"}
    return _load_one(path, "admin", AdminConfig, environ, without=without).audit_retention


def _load_one(
    path: Path,
    table: str,
    model: type[T],
    environ: Mapping[str, str],
    without: Collection[str] = (),
) -> T:
    report = ConfigReport()
    references = ReferenceResolver(environ, report)
    gathered = FileMerger(references, report)
    gathered.read(path)
    report.narrow(table)
    written = gathered.raw.get(table, {})
    raw = references.table({k: v for k, v in written.items() if k not in without}, table)
    references.secrets(raw, model, table)
    found = _valid(model, raw, table, report)
    report.stop()
    return found or model()


def _valid(model: type[T], raw: Raw, table: str, report: ConfigReport) -> T | None:
    try:
        return model.model_validate(raw)
    except ValidationError as error:
        report.findings(table, documented_keys(model), error)
        return None


class _Reading:
    """Validates the merged tables of one configuration."""

    def __init__(
        self,
        gathered: FileMerger,
        registry: PluginRegistry,
        references: ReferenceResolver,
        report: ConfigReport,
    ) -> None:
        self._gathered = gathered
        self._raw = gathered.raw
        self._registry = registry
        self._references = references
        self._report = report
        self._plans = PlanReader(report)
        self._egress = EgressReader(references, report)
        self._settings: dict[str, ConfigTable] = {}
        """Settings of sources, by name."""

    def config(self, path: Path) -> Config:
        """Return the configuration.

        Raises:
            ConfigError: it is invalid; every problem is listed.
        """
        server, spool = self._single("server", ServerConfig), self._spool()
        admin = self._optional("admin", AdminConfig, check_admin)
        alerts = self._optional("alerts", AlertsConfig, check_alerts)
        if alerts is not None:
            alerts = self._egress.with_proxy(alerts, alerts.url.get_secret_value(), "alerts")
        raw_sources, raw_destinations = self._named("sources"), self._named("destinations")
        sources = {name: s for name, raw in raw_sources.items() if (s := self._source(name, raw))}
        destinations = {
            name: d
            for name, raw in raw_destinations.items()
            if (d := self._destination(name, raw, spool))
        }
        consent = self._single("consent", ConsentConfig)
        suppression = self._optional("suppression", SuppressionConfig)
        listing = [] if suppression is None else [self._beside("suppression", suppression.file)]
        suppressed = read_suppressions(listing[0], self._report) if listing else None
        trace, log = self._trace(), self._single("log", LogConfig)
        names = {"from": raw_sources, "to": raw_destinations}
        route_reader = RouteReader(self._gathered, self._references, self._report)
        routes = route_reader.routes(names)
        remembers = consent is not None and consent.retention is not None
        test_reader = RouteTestReader(self._gathered, self._references, self._report, names)
        tests = tuple(test_reader.cases(remembers=remembers))
        if server:
            check_server(server, self._report)
        check_sources(sources, self._settings, server, self._registry, self._report)
        relay_checks = RelayChecks(sources, destinations, routes, raw_destinations, self._report)
        relay_checks.check(server, self._registry, self._settings)
        self._report.stop()
        check_reach(routes, sources, destinations, self._report)
        check_event_names(routes, self._registry, self._report)
        check_consent(routes, consent, self._report)
        named = (*route_reader.files, *self._plans.files, *self._egress.files, *listing)
        files = ReadFiles((*self._gathered.files, *named), tuple(self._gathered.patterns))
        return Config(
            path, server or ServerConfig(), spool or SpoolConfig(), sources, destinations,
            tuple(routes), consent or ConsentConfig(), trace or TraceConfig(), log or LogConfig(),
            files, admin, alerts, self._plans.plans, self._settings, tests, suppression, suppressed,
            self._report.warnings,
        )  # fmt: skip

    def _single(self, table: str, model: type[T]) -> T | None:
        raw = self._references.table(self._raw.get(table, {}), table)
        return _valid(model, raw, table, self._report)

    def _spool(self) -> SpoolConfig | None:
        raw = self._references.table(self._raw.get("spool", {}), "spool")
        self._references.secrets(raw, SpoolConfig, "spool")
        spool = _valid(SpoolConfig, raw, "spool", self._report)
        if spool:
            check_spool(spool, self._report, stand_ins=self._references.stand_ins)
        return spool

    def _paths(self, own: Raw, keys: Sequence[str], table: str) -> dict[str, str]:
        """Return the settings that are paths, made absolute."""
        return {
            key: str(self._gathered.owner(table, key).parent.absolute() / own[key])
            for key in keys
            if isinstance(own.get(key), str) and own[key]
        }

    def _beside(self, table: str, file: Path) -> Path:
        """Return the path of a *file* that the ``file`` key of a table names."""
        return self._gathered.owner(table, "file").parent / file

    def _optional(
        self, table: str, model: type[T], check: Callable[[T, ConfigReport], None] | None = None
    ) -> T | None:
        """Return a table whose presence turns something on; None if it is absent or invalid."""
        if self._raw.get(table) is None:
            return None
        raw = self._references.table(self._raw[table], table)
        self._references.secrets(raw, model, table)
        found = _valid(model, raw, table, self._report)
        if found and check:
            check(found, self._report)
        return found

    def _trace(self) -> TraceConfig | None:
        raw = self._references.table(self._raw.get("trace", {}), "trace")
        if isinstance(headers := raw.get("otlp_headers"), dict):
            raw["otlp_headers"] = {
                name: self._references.secret(value, "trace", "otlp_headers")
                for name, value in headers.items()
            }
        trace = _valid(TraceConfig, raw, "trace", self._report)
        if trace:
            check_trace(trace, self._report)
        return trace

    def _named(self, kind: str) -> dict[str, Raw]:
        """Return the tables of one kind by name; report and leave out what is not a table."""
        found: dict[str, Raw] = {}
        for name, raw in self._raw.get(kind, {}).items():
            if not isinstance(raw, dict):
                self._report.problem(kind, name, f"must be a table; write [{kind}.{name}]")
                continue
            if not NAME.fullmatch(name):
                what = "is not a name; use a-z, 0-9, '_' and '-', and begin with a letter or digit"
                self._report.problem(f"{kind}.{name}", "", what)
            found[name] = with_preset(raw, kind, name, self._report)
        if not self._raw.get(kind):
            self._report.problem(kind, "", f"there is none; add [{kind}.NAME]")
        return found

    def _vendor(self, raw: Raw, table: str, known: Mapping[str, object], half: str) -> str | None:
        """Return the vendor of a table; report an unknown one and return None."""
        vendor = raw.get("vendor")
        if not isinstance(vendor, str) or vendor in known:
            return vendor if isinstance(vendor, str) else None
        what = f"there is no vendor {vendor!r}"
        if vendor in self._registry.vendors:
            what = f"{vendor} has no {half}"
        self._report.problem(table, "vendor", f"{what}; {did_you_mean(vendor, known)}")
        return None

    def _source(self, name: str, raw: Raw) -> SourceConfig | None:
        table = f"sources.{name}"
        raw = self._references.table(raw, table)
        self._vendor(raw, table, self._registry.inputs, "input")
        keys = raw.get("keys")
        if isinstance(keys, list):
            raw["keys"] = [self._references.secret(key, table, "keys") for key in keys]
        if "proxy" in raw:
            raw["proxy"] = self._references.secret(raw["proxy"], table, "proxy")
        own = self._source_settings(name, raw, table)
        source = _valid(
            SourceConfig, {k: v for k, v in raw.items() if k not in own}, table, self._report
        )
        if source:
            settings, files_url = self._settings.get(name), ""
            if settings is not None:
                reads = make_input(self._registry, source, settings)
                files_url = reads.files_url
                if wrong := reads.keys_problem():
                    self._report.problem(table, "keys", wrong)
            source = self._egress.relay(source, source.url or files_url, table)
            self._plans.read(name, source, self._gathered.owner("sources", name))
        return source

    def _source_settings(self, name: str, raw: Raw, table: str) -> Collection[str]:
        """Read the settings of a source whose vendor has any; return their keys."""
        reads = self._registry.inputs.get(str(raw.get("vendor")))
        if reads is None or reads.Config is None:
            return ()
        model = reads.Config
        keys = {*keys_of(model)}
        own = {key: value for key, value in raw.items() if key in keys}
        self._references.secrets(own, model, table)
        settings = _valid(model, own, table, self._report)
        if settings is not None:
            self._settings[name] = settings
            self._warn(settings, table)
        return keys

    def _destination(
        self, name: str, raw: Raw, spool: SpoolConfig | None
    ) -> DestinationConfig | None:
        table = f"destinations.{name}"
        written, raw = raw, self._references.table(raw, table)
        raw |= self._egress.credentials(written, raw, table)
        vendor = self._vendor(raw, table, self._registry.outputs, "output")
        common = {key: value for key, value in raw.items() if key in keys_of(Delivery)}
        filled = {"on_full": spool.on_full} | common if spool else common
        delivery = _valid(Delivery, filled, table, self._report)
        if delivery:
            check_delivery(delivery, table, self._report)
        if vendor is None:
            return None
        model = self._registry.outputs[vendor].Config
        collision = sorted(set(keys_of(model)) & set(keys_of(Delivery)))
        if collision:
            raise PluginError(
                f"{model.__module__}: its Config has a setting {collision[0]!r}, but every "
                f"destination has a key of that name; rename the setting"
            )
        own = {key: value for key, value in raw.items() if key not in common}
        own |= self._paths(own, self._registry.outputs[vendor].paths, table)
        self._references.secrets(own, model, table)
        if delivery and delivery.credentials == "client":
            own = client_key_settings(self._registry.outputs[vendor], own, table, self._report)
        elif delivery and delivery.shadow is True:
            own = shadow_settings(self._registry.outputs[vendor], own)
        if isinstance(own.get("url"), str) and (wrong := address_problem(own["url"])):
            self._report.problem(table, "url", wrong, only=True)
        try:
            settings = model.model_validate(own)
        except ValidationError as error:
            self._report.findings(table, documented_keys(model) | documented_keys(Delivery), error)
            return None
        self._warn(settings, table)
        if delivery is None:
            return None
        told = {key: getattr(delivery, key) for key in delivery.model_fields_set}
        destination = DestinationConfig(**told, settings=settings)
        check_headers(destination, table, self._registry, self._report)
        check_upload(destination, table, self._registry, self._report)
        return self._egress.apply(destination, table)

    def _warn(self, settings: ConfigTable, table: str) -> None:
        """Report what is probably a mistake in the vendor's settings."""
        for path, what in settings.remarks():
            *above, key = (str(one + 1) if isinstance(one, int) else one for one in path)
            self._report.warning(".".join((table, *above)), key, what)


class LoadedRedactor(NamedTuple):
    """The redactor of a file's credentials, and how complete it is."""

    redactor: Redactor
    missing: Sequence[str]
    """Variables that are not set, and secret files that cannot be read."""
    wrong: bool
    """The file is invalid, so some credentials may be missing."""


def load_redactor(
    path: Path, registry: PluginRegistry, environ: Mapping[str, str] = os.environ
) -> LoadedRedactor:
    """Return the redactor of the credentials in *path*.

    If the file is invalid, the redactor hides the values of all variables that it names.

    Args:
        path: a TOML file.
        registry: the vendors that it may name.
        environ: the variables for ``${NAME}``; some may be unset.
    """
    report = ConfigReport()
    references = ReferenceResolver(environ, report, stand_ins=True)
    try:
        redactor, wrong = redactor_of(read(path, registry, references, report)), False
    except ConfigError:
        redactor, wrong = Redactor(None, report.secrets), True
    return LoadedRedactor(redactor, sorted(set(references.missing)), wrong)
