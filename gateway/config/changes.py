"""Compare two configurations."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from pydantic import BaseModel

from gateway.config.models import TABLES, Config, DestinationConfig
from gateway.config.operations import AdminConfig


class ConfigChanges(NamedTuple):
    """What a reload adds, changes and removes, by name; values are never told.

    Names are those of the file: ``destinations.crm``, ``routes.orders``,
    ``admin.operators.alice``, ``consent.retention``.
    """

    added: list[str]
    changed: list[str]
    removed: list[str]
    restart_required: list[str]
    """Keys that differ from those at the start and take effect at the next start only.
    ``server.listen`` is not among them if the command line replaced it."""


def delivery_digest(config: Config, plugins: Iterable[str]) -> str:
    """Return a digest of what decides how stored events are delivered; secrets do not count.

    Args:
        config: the configuration.
        plugins: the names of all vendors.
    """
    parts = (sorted(plugins), config.routes, config.destinations, config.source_settings)
    return blake2b(repr(_plain(parts)).encode(), digest_size=8).hexdigest()


def _plain(value: object) -> object:
    """Return a value whose ``repr`` is the same in every process; secrets hide themselves."""
    if isinstance(value, BaseModel):
        return _plain(dict(value))
    if isinstance(value, Mapping):
        return sorted((repr(key), _plain(one)) for key, one in value.items())
    if isinstance(value, set | frozenset):
        return sorted(repr(_plain(one)) for one in value)
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(one) for one in value]
    return repr(value)


def diff_configs(
    old: Config,
    new: Config,
    started: Config,
    running: Mapping[str, DestinationConfig] | None = None,
) -> ConfigChanges:
    """Compare two configurations.

    Args:
        old: the configuration in effect.
        new: the one that takes its place.
        started: the one at the start.
        running: the destinations as they run, if they may differ from those of *old*.
    """
    before, after = _parts(old), _parts(new)
    if running is not None:
        before = {name: one for name, one in before.items() if not name.startswith(DESTINATIONS)}
        before |= {f"{DESTINATIONS}{name}": one for name, one in running.items()}
    added = [name for name in after if name not in before]
    removed = [name for name in before if name not in after]
    changed = [name for name in after if name in before and after[name] != before[name]]
    if (old.admin is None) != (new.admin is None):
        added, removed = (
            [n for n in names if not n.startswith("admin.")] for names in (added, removed)
        )
    routes = [[one.name for one in config.routes] for config in (old, new)]
    if [n for n in routes[0] if n in routes[1]] != [n for n in routes[1] if n in routes[0]]:
        changed.append("routes (their order)")
    return ConfigChanges(
        added,
        [name for name in changed if name not in _AT_THE_START],
        removed,
        restart_required(started, new),
    )


def restart_required(started: Config, new: Config) -> list[str]:
    """Return the keys of *new* that take effect at the next start only, as ``[spool] max_age``.

    Args:
        started: the configuration at the start, whose values of these keys are in effect.
        new: the configuration that was read last.
    """
    before, after = _parts(started), _parts(new)
    before["server.listen"] = started.server.listen
    after["server.listen"] = (
        started.server.listen  # the command line's, also at the next start
        if started.listen_in_file is not None
        else new.listen_in_file or new.server.listen
    )
    keys = [key for key in after if key in _AT_THE_START and key in before]
    found = [key for key in keys if before[key] != after[key]]
    if (started.admin is None) != (new.admin is None):
        found.append("admin.listen")
    return ["[{}] {}".format(*key.split(".")) for key in found]


DESTINATIONS = "destinations."
ACCESS = ("token", "operators", "viewers", "proxy_secret")
"""Keys of ``[admin]`` that are added and removed, and not only changed."""
_AT_THE_START = {"server.listen", "server.max_body", "server.metrics", "admin.listen"} | {
    f"{name}.{key}" for name in ("spool", "trace", "log") for key in TABLES[name].model_fields
}
"""What takes effect at the next start only."""


def destinations_in(names: Iterable[str]) -> list[str]:
    """Return the names of the destinations among the names of parts."""
    return [one.removeprefix(DESTINATIONS) for one in names if one.startswith(DESTINATIONS)]


def _parts(config: Config) -> dict[str, object]:
    """Return what can be told apart in a configuration, by its name in the file."""
    parts: dict[str, object] = {}
    for name, source in config.sources.items():
        parts[f"sources.{name}"] = (source, config.source_settings.get(name))
    parts |= {f"{DESTINATIONS}{name}": one for name, one in config.destinations.items()}
    for route in config.routes:  # names may be given twice
        parts[f"routes.{route.name}"] = (parts.get(f"routes.{route.name}"), route)
    parts |= {f"plans.{name}": plan for name, plan in config.plans.items()}
    for test in config.tests:
        parts[f"tests.{test.config.name}"] = (parts.get(f"tests.{test.config.name}"), test.config)
    for name in ("server", "spool", "consent", "trace", "log"):
        table: BaseModel = getattr(config, name)
        parts |= {f"{name}.{key}": getattr(table, key) for key in type(table).model_fields}
    if config.suppression is not None:
        parts["suppression"] = (config.suppression, config.suppressed)
    if config.alerts is not None:
        parts["alerts"] = config.alerts
    if config.admin is not None:
        parts |= {"admin": None, **dict(_access(config.admin))}
    return parts


def _access(admin: AdminConfig) -> Iterator[tuple[str, object]]:
    """Yield the parts of ``[admin]``; tokens are those that are set, by the names of callers."""
    for key in type(admin).model_fields:
        held = getattr(admin, key)
        if isinstance(held, Mapping):
            yield from ((f"admin.{key}.{name}", one) for name, one in held.items())
        elif key not in ACCESS or held is not None:
            yield f"admin.{key}", held
