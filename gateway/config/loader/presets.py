"""Fill tables of the configuration from presets: files whose keys a table can override."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from gateway.config.loader.report import ConfigReport
from gateway.suggestions import did_you_mean

ROOT = Path(__file__).parents[2]
PLACES = (ROOT / "presets", ROOT.parent / "config/presets")
"""Where the presets are: in an installed package, in a clone."""
KINDS = {"sources": "source", "destinations": "destination"}


def preset_folder() -> Path:
    """Return the folder of the presets."""
    return next((place for place in PLACES if place.is_dir()), PLACES[0])


def presets(kind: str) -> dict[str, Path]:
    """Return the files of the presets for a ``source`` or a ``destination``, by name."""
    found = {path.stem: path for path in sorted(preset_folder().glob("*.toml"))}
    return {name: path for name, path in found.items() if kind in _read(path)}


def _read(path: Path) -> dict[str, Any]:
    return tomllib.loads(path.read_text("utf-8"))


def with_preset(
    raw: Mapping[str, Any], kind: str, name: str, report: ConfigReport
) -> dict[str, Any]:
    """Return a table of the configuration with what its ``preset`` says and it does not.

    Args:
        raw: the table as in the file.
        kind: ``sources`` or ``destinations``.
        name: of the source or destination.
        report: gets an unknown preset, and keys that the preset needs and the table lacks.
    """
    own = {key: value for key, value in raw.items() if key != "preset"}
    if "preset" not in raw:
        return own
    wanted, known, table = raw["preset"], presets(KINDS[kind]), f"{kind}.{name}"
    if not isinstance(wanted, str) or wanted not in known:
        what = f"there is no preset {wanted!r} for a {KINDS[kind]}"
        report.problem(table, "preset", f"{what}; {did_you_mean(str(wanted), known)}")
        return {"vendor": "http", **own}
    preset = _read(known[wanted])
    merged = {**merge_tables(preset[KINDS[kind]], own), "preset": wanted}
    for path in preset.get("needs", ()):
        if not _has(merged, path.split(".")):
            what = f"missing; the preset {wanted} needs it: see {preset['docs']}"
            report.problem(table, path, what, only=True)
    return merged


def merge_tables(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Return *base* with the values of *over*; tables are merged key by key."""
    found = dict(base)
    for key, value in over.items():
        held = found.get(key)
        both = isinstance(held, dict) and isinstance(value, dict)
        found[key] = merge_tables(held or {}, value) if both else value
    return found


def _has(table: Any, path: list[str]) -> bool:
    for step in path:
        if not isinstance(table, dict) or step not in table:
            return False
        table = table[step]
    return True
