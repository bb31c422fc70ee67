"""The version, the changelog and the files of a release agree with each other."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from docs.licence_tables import licence, packages
from tests.docs.pages import ROOT
from tests.release.project import VERSION

CHANGELOG = (ROOT / "CHANGELOG.md").read_text()
HEADING = re.compile(r"^## \[([^\]]+)\](?: - (\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)
KINDS = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security", "Upgrading"}
"""Those of https://keepachangelog.com/en/1.1.0/, and what the reader must do."""
PERMISSIVE = re.compile(
    r"(MIT|MIT-0|ISC|BSD|BSD-2-Clause|BSD-3-Clause|3-Clause BSD|Apache[- ]2(\.0)?|PSF-2\.0|MPL-2\.0"
    r"|any-OSI)( License)?"
)
"""Licences under which a package may be used beside the gateway without conditions for it."""
WORKFLOW = yaml.safe_load((ROOT / ".github/workflows/release.yml").read_text())


def steps(job: str) -> list[dict[str, Any]]:
    """Return the steps of a job of the workflow."""
    found: list[dict[str, Any]] = WORKFLOW["jobs"][job]["steps"]
    return found


def sections() -> dict[str, str]:
    """Return the changelog's text by version, the newest first."""
    parts = HEADING.split(CHANGELOG)
    return dict(zip(parts[1::3], parts[3::3], strict=True))


def test_the_changelog_is_headed_by_versions() -> None:
    """Each version has its date and descends; what is unreleased stands above them all."""
    (first, no_date), *released = HEADING.findall(CHANGELOG)
    assert (first, no_date) == ("Unreleased", "")
    assert CHANGELOG.count("\n## ") == len(released) + 1
    numbers = [tuple(map(int, version.split("."))) for version, _ in released]
    assert numbers == sorted(set(numbers), reverse=True)
    assert all(date for _, date in released)
    assert released[0][0] == VERSION


@pytest.mark.parametrize("version", sections())
def test_a_version_says_how_to_upgrade(version: str) -> None:
    """Each version's changes stand under known headings, and the last one says what to do."""
    kinds = re.findall(r"^### (.+)$", sections()[version], re.MULTILINE)
    assert set(kinds) <= KINDS
    assert kinds[-1] == "Upgrading"


def test_the_image_has_the_projects_version() -> None:
    """The tag of the image for Kubernetes is the project's version."""
    kustomization = yaml.safe_load((ROOT / "config/deploy/kustomization.yaml").read_text())
    assert [image["newTag"] for image in kustomization["images"]] == [VERSION]


@pytest.mark.parametrize("package", packages())
def test_a_package_may_be_used(package: str) -> None:
    """Each package that runs has a licence without conditions for the gateway."""
    parts = re.split(r" AND | OR |[()]", licence(package))
    assert all(PERMISSIVE.fullmatch(each) for each in parts if each), licence(package)


@pytest.mark.parametrize("job", WORKFLOW["jobs"])
def test_actions_are_pinned(job: str) -> None:
    """The workflow uses actions by commit."""
    for step in steps(job):
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", step.get("uses", f"a/b@{'0' * 40}"))


@pytest.mark.parametrize("job", WORKFLOW["jobs"])
def test_the_workflow_calls_targets_that_exist(job: str) -> None:
    """Each `make` of the workflow names a target of the Makefile."""
    makefile = (ROOT / "Makefile").read_text()
    commands = "\n".join(step.get("run", "") for step in steps(job))
    for target in re.findall(r"\bmake (\w+)", commands):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


@pytest.mark.parametrize(("tag", "passes"), [(f"v{VERSION}", True), ("v9.9.9", False)])
def test_the_workflow_compares_the_tag_and_takes_the_notes(
    tmp_path: Path,
    tag: str,
    *,
    passes: bool,
) -> None:
    """Its own commands accept the project's tag, refuse another, and write the version's notes."""
    for name in ("pyproject.toml", "CHANGELOG.md"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    for step in steps("build"):
        if "GITHUB_REF_NAME" in step.get("run", ""):
            done = subprocess.run(
                ["/bin/bash", "-e", "-c", step["run"]], cwd=tmp_path, check=False,
                env={**os.environ, "GITHUB_REF_NAME": tag}, capture_output=True, text=True,
            )  # fmt: skip
            assert (done.returncode == 0) == passes, done.stderr
    if passes:
        assert (tmp_path / "build/notes.md").read_text().strip() == sections()[VERSION].strip()
