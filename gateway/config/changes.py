"""What differs between two configurations."""

from collections.abc import Mapping
from typing import NamedTuple

from gateway.config.models import Config, DestinationConfig


class ConfigChanges(NamedTuple):
    """What a new configuration means for the destinations."""

    added: list[str]
    changed: list[str]
    removed: list[str]
    unheeded: list[str]
    """Keys that take effect at the next start only. ``listen`` is one too, and is not looked at:
    the command line may have overruled it."""


def diff_configs(
    old: Config, new: Config, running: Mapping[str, DestinationConfig]
) -> ConfigChanges:
    """Return what differs between two configurations, and from the destinations that run."""
    before, after = running, new.destinations
    unheeded = [
        f"[server] {k}" for k in ("max_body", "metrics") if _differ(old.server, new.server, k)
    ]
    if (old.admin and old.admin.listen) != (new.admin and new.admin.listen):
        unheeded.append("[admin] listen")
    for table in ("spool", "trace", "log"):
        one, other = getattr(old, table), getattr(new, table)
        unheeded += [f"[{table}] {k}" for k in type(one).model_fields if _differ(one, other, k)]
    return ConfigChanges(
        added=[name for name in after if name not in before],
        changed=[name for name in after if name in before and after[name] != before[name]],
        removed=[name for name in before if name not in after],
        unheeded=unheeded,
    )


def _differ(old: object, new: object, key: str) -> bool:
    return bool(getattr(old, key) != getattr(new, key))
