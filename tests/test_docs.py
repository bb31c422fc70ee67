"""What the documentation says is checked against what there is."""

import importlib
import inspect
import pkgutil
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import click
import orjson
import pytest
from cogapp import Cog  # type: ignore[import-untyped]  # it has no annotations
from pluggy import PluginManager

from gateway import hookspecs
from gateway.cli import COMMANDS
from gateway.config import load as load_config
from gateway.plugins import load

ROOT = Path(__file__).parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
CODE = re.compile(r"`([^`\n]+)`")
OURS = re.compile(r"(?:gateway|plugins|tests|docs|config)/[\w./-]*")
DOTTED = re.compile(r"(?:gateway|plugins)(?:\.[A-Za-z_]\w*)+")
FILE = re.compile(r"\.(?:toml|md|py)$")
HEADING = re.compile(r"^#{1,6} +(.+?) *$", re.MULTILINE)
HALVES = {
    "sources": '[sources.any]\nvendor = "chrts"\nkeys = ["key"]\n',
    "destinations": '[destinations.any]\nvendor = "chrts"\napi_key = "key"\n',
}
"""What completes a snippet that shows only the other half."""


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _prose(page: Path) -> str:
    return FENCE.sub("", page.read_text())


class Snippet(NamedTuple):
    """A block of code on a page."""

    page: Path
    language: str
    text: str


def _snippets(language: str) -> Iterator[Snippet]:
    for page in PAGES:
        for found in FENCE.finditer(page.read_text()):
            if found[1] == language:
                yield Snippet(page, language, found[2])


def _anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives the headings of *page*."""
    found: set[str] = set()
    seen: Counter[str] = Counter()
    for heading in HEADING.findall(_prose(page)):
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        found.add(f"{slug}-{seen[slug]}" if seen[slug] else slug)
        seen[slug] += 1
    return found


def test_generated_parts_are_current(capsys: pytest.CaptureFixture[str]) -> None:
    """What is generated into the pages is what would be generated now; else run `make docs`."""
    assert Cog().main(["cog", "--check", *map(str, PAGES)]) == 0, capsys.readouterr().out


def _hooks() -> list[str]:
    manager = PluginManager("gateway")
    manager.add_hookspecs(hookspecs)
    calls = manager.hook.__dict__
    return sorted(name for name in calls if not name.startswith("_"))


@pytest.mark.parametrize("hook", _hooks())
def test_every_hook_has_a_heading(hook: str) -> None:
    """docs/hooks.md heads each hook with its name and exactly its arguments."""
    arguments = ", ".join(inspect.signature(getattr(hookspecs, hook)).parameters)
    assert f"## {hook}({arguments})\n" in (ROOT / "docs/hooks.md").read_text()


def test_no_heading_names_a_hook_that_is_none() -> None:
    """Every hook that docs/hooks.md heads exists."""
    headed = re.findall(r"^## (\w+)\(", (ROOT / "docs/hooks.md").read_text(), re.MULTILINE)
    assert sorted(headed) == _hooks()


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_links_lead_somewhere(page: Path) -> None:
    """Every relative link leads to a file that exists, and to a heading in it."""
    for link in LINK.findall(_prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        assert ROOT in target.parents, f"{link}: outside of the repository"
        assert not anchor or anchor in _anchors(target), f"{link}: no such heading"


def _commands() -> Iterator[str]:
    for name in COMMANDS:
        command = importlib.import_module(f"gateway.cli.{name.replace('-', '_')}").command
        below = command.commands if isinstance(command, click.Group) else ()
        yield from (f"gateway {name} {inner}" for inner in below)
        yield f"gateway {name}"


@pytest.mark.parametrize("command", list(_commands()))
def test_every_command_is_mentioned(command: str) -> None:
    """Every command, and every command below one, is on some page."""
    pattern = re.compile(rf"\b{command}\b(?!-)")
    assert any(pattern.search(page.read_text()) for page in PAGES), command


def _configurations() -> Iterator[Snippet]:
    for snippet in _snippets("toml"):
        if re.search(r"^\[(?:sources|destinations)\.", snippet.text, re.MULTILINE):
            yield snippet


@pytest.mark.parametrize("snippet", list(_configurations()), ids=lambda s: _name(s.page))
def test_configurations_load(snippet: Snippet, tmp_path: Path) -> None:
    """A configuration on a page loads as it stands; one half of one loads beside another half."""
    secret = tmp_path / "secret"
    secret.write_text("a-secret\n")
    text = re.sub(r'"file:[^"]*"', lambda _: f'"file:{secret}"', snippet.text)
    shown = tomllib.loads(text)
    missing = [half for table, half in HALVES.items() if table not in shown]
    if "routes" not in shown:
        names = ", ".join(f'"{name}"' for name in shown.get("destinations", {"any": {}}))
        missing.append(f"[[routes]]\nto = [{names}]\n")
    path = tmp_path / "gateway.toml"
    path.write_text("\n".join([text, *missing]))
    environ = dict.fromkeys(re.findall(r"\$\{(\w+)", text), "a-value")
    assert load_config(path, load(), environ).destinations


@pytest.mark.parametrize("snippet", list(_configurations()), ids=lambda s: _name(s.page))
def test_settings_in_comments_exist(snippet: Snippet) -> None:
    """A setting that a configuration shows in a comment is one that its vendor has."""
    outputs = load().outputs
    for table in re.split(r"^(?=\[)", snippet.text, flags=re.MULTILINE):
        vendor = re.search(r'^vendor = "(\w+)"', table, re.MULTILINE)
        if vendor and table.startswith("[destinations."):
            for key in re.findall(r"^# (\w+) = ", table, re.MULTILINE):
                assert key in outputs[vendor[1]].Config.model_fields, key


def test_the_curl_of_the_readme_is_the_vendors_example() -> None:
    """The first thing that a newcomer sends is the request that `gateway demo` prints."""
    found = re.search(r"^```sh\n(curl .*?)^```$", PAGES[0].read_text(), re.MULTILINE | re.DOTALL)
    assert PAGES[0].name == "README.md"
    assert found
    words = shlex.split(found[1])
    url = next(word for word in words if word.startswith("http://"))
    body = orjson.loads(words[words.index("-d") + 1])
    path = "/" + url.split("/", 3)[3]
    examples = [reads.example for reads in load().inputs.values() if reads.example.url == path]
    assert body in [orjson.loads(example.body) for example in examples]


def test_every_decision_is_listed() -> None:
    """docs/decisions/README.md lists every decision under the title that its page has."""
    folder = ROOT / "docs/decisions"
    listed = (folder / "README.md").read_text()
    for page in folder.glob("[0-9]*.md"):
        number, _, title = page.read_text().partition("\n")[0].partition(". ")
        assert int(number.removeprefix("# ")) == int(page.name[:4])
        assert f"| [{page.name[:4]}]({page.name}) | {title} |" in listed


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_paths_and_names_exist(page: Path) -> None:
    """What stands as code and looks like a path or a dotted name of this repository exists."""
    for text in CODE.findall(_prose(page)):
        if OURS.fullmatch(text):
            assert (ROOT / text).exists(), text
        elif DOTTED.fullmatch(text) and not FILE.search(text):
            assert pkgutil.resolve_name(text) is not None, text
