# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""The packages that the gateway needs to run, and their licences, as their makers state them."""

import tomllib
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, metadata, requires

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from docs.markdown import ROOT, table

EXTRAS = ("cluster", "otel", "s3")
"""The extras that a running gateway uses."""
CLASSIFIER = "License :: OSI Approved :: "


def licences() -> str:
    """Return the packages and their licences, in Markdown."""
    return table(
        ("package", "licence", "needed for"),
        [(name, licence(name), why) for name, why in sorted(packages().items())],
    )


def packages() -> dict[str, str]:
    """Return the packages that running needs, direct and indirect, with what needs them.

    Those for other systems, which are not installed here, are left out.
    """
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    found: dict[str, str] = {}
    _add(found, project["dependencies"], "running")
    for extra in EXTRAS:
        _add(found, project["optional-dependencies"][extra], f"the extra `{extra}`")
    return found


def _add(found: dict[str, str], wanted: Iterable[str], why: str) -> None:
    for requirement in map(Requirement, wanted):
        name = canonicalize_name(requirement.name)
        if name not in found and _installed(name):
            found[name] = why
            _add(found, _needed(requirement), why)


def _installed(name: str) -> bool:
    try:
        metadata(name)
    except PackageNotFoundError:
        return False
    return True


def _needed(by: Requirement) -> Iterator[str]:
    for text in requires(by.name) or []:
        marker = Requirement(text).marker
        extras = by.extras or {""}
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
            yield text


def licence(name: str) -> str:
    """Return the licence of an installed package: its SPDX expression, or its maker's words."""
    found = metadata(name)
    said = [each.removeprefix(CLASSIFIER) for each in found.get_all("Classifier") or []]
    spoken = [each for each in said if each.endswith("License") or "License 2.0" in each]
    expression, *_ = found.get_all("License-Expression") or [""]
    words, *_ = found.get_all("License") or [""]
    short = words if "\n" not in words else ""
    return expression or short or " or ".join(spoken)
