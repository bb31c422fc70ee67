"""Compare two configurations."""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import NamedTuple

from pydantic import BaseModel

from gateway.config.models import Config, DestinationConfig


class ConfigChanges(NamedTuple):
    """The destinations that a reload adds, changes and removes."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    restart_required: list[str]
    """Changed keys that take effect at the next start only. ``listen`` is such a key but is not
    compared, since the command line may have replaced it."""


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
    old: Config, new: Config, running: Mapping[str, DestinationConfig]
) -> ConfigChanges:
    """Compare two configurations, and the new one with the running destinations."""
    before, after = running, new.destinations
    restart_required = [
        f"[server] {k}" for k in ("max_body", "metrics") if _differ(old.server, new.server, k)
    ]
    if (old.admin and old.admin.listen) != (new.admin and new.admin.listen):
        restart_required.append("[admin] listen")
    for table in ("spool", "trace", "log"):
        one, other = getattr(old, table), getattr(new, table)
        restart_required += [
            f"[{table}] {k}" for k in type(one).model_fields if _differ(one, other, k)
        ]
    return ConfigChanges(
        added=[name for name in after if name not in before],
        changed=[name for name in after if name in before and after[name] != before[name]],
        removed=[name for name in before if name not in after],
        restart_required=restart_required,
    )


def _differ(old: object, new: object, key: str) -> bool:
    return bool(getattr(old, key) != getattr(new, key))
