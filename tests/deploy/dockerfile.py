"""Carry out the instructions of a Dockerfile in Debian roots, without a container runtime.

It knows the instructions and options that config/deploy/Dockerfile uses, and refuses others.
"""

import fnmatch
import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tests.deploy.debian import copy_root, run_in

BASE = "debian:12-slim"
"""The only image that stages may begin with."""


class Image(NamedTuple):
    """What the last stage says about itself."""

    root: Path
    variables: dict[str, str]
    user: str
    folder: str
    volumes: list[str]
    command: list[str]
    health: list[str]
    stop_signal: str


def instructions(text: str) -> list[tuple[str, str]]:
    """Return the instructions of a Dockerfile, each with its argument on one line."""
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    whole = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [
        (name, rest.strip()) for name, _, rest in (one.partition(" ") for one in whole.splitlines())
    ]


def left_out(path: Path, ignore: str) -> bool:
    """Return whether the lines of a .dockerignore leave out *path*; the last that fits decides."""
    out = False
    for line in ignore.splitlines():
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        if pattern.startswith("**/"):
            fits = pattern[3:] in path.parts
        else:
            fits = any(fnmatch.fnmatchcase(str(each), pattern) for each in (path, *path.parents))
        if fits:
            out = not line.startswith("!")
    return out


def build(
    dockerfile: Path, context: Path, base: Path, work: Path, arguments: Mapping[str, str]
) -> Image:
    """Build the image of *dockerfile*.

    Args:
        dockerfile: the file.
        context: the folder that it is built from, with its .dockerignore.
        base: a Debian root.
        work: an empty folder.
        arguments: those of ``--build-arg``; each must be declared.
    """
    ignore = (context / ".dockerignore").read_text()
    declared = set[str]()
    stages: dict[str, Path] = {}
    root, variables, folder = work, dict[str, str](), "/"
    said = dict[str, str]()
    volumes = list[str]()
    for name, rest in instructions(dockerfile.read_text()):
        if name == "FROM":
            image, _, stage = rest.partition(" AS ")
            assert image == BASE
            root = stages[stage] = copy_root(base, work / f"stage{len(stages)}")
            variables, folder, said, volumes = {}, "/", {}, []
        elif name == "RUN":
            ended = run_in(root, rest, variables, folder)
            assert ended.returncode == 0, f"{rest}\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}"
        elif name == "COPY" and rest.startswith("--from="):
            stage, source, target = rest.removeprefix("--from=").split()
            shutil.copytree(f"{stages[stage]}{source}", f"{root}{target}", symlinks=True)
        elif name == "COPY":
            *sources, target = rest.split()
            _copy(context, sources, root / folder.lstrip("/") / target, ignore)
        elif name == "WORKDIR":
            folder = rest
        elif name == "ARG":
            argument, _, default = rest.partition("=")
            declared.add(argument)
            variables[argument] = arguments.get(argument, default)
        elif name == "ENV":
            pairs = dict(pair.split("=", 1) for pair in rest.split())
            path = variables.get(
                "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
            )
            variables |= {key: value.replace("$PATH", path) for key, value in pairs.items()}
        elif name == "VOLUME":
            volumes.append(rest)
        else:
            assert name in {"USER", "EXPOSE", "STOPSIGNAL", "HEALTHCHECK", "ENTRYPOINT", "CMD"}, (
                name
            )
            said[name] = rest
    assert declared >= arguments.keys()
    return Image(
        root, variables, said["USER"], folder, volumes,
        json.loads(said["ENTRYPOINT"]) + json.loads(said["CMD"]),
        json.loads(said["HEALTHCHECK"].partition("CMD ")[2]), said["STOPSIGNAL"],
    )  # fmt: skip


def _copy(context: Path, sources: list[str], target: Path, ignore: str) -> None:
    """Copy files of the context, without those that the .dockerignore leaves out."""
    for source in sources:
        whole = context / source
        files = (
            [whole]
            if whole.is_file()
            else sorted(each for each in whole.rglob("*") if each.is_file())
        )
        for each in files:
            place = each.relative_to(context)
            if left_out(place, ignore):
                continue
            to = target / (each.name if whole.is_file() else each.relative_to(whole))
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(each, to)
