"""The commands on a page are run, in the page's order, on a gateway with dead letters."""

import asyncio
import re
import shlex
from pathlib import Path

import orjson
import pytest

from gateway.plugin.registry import load_plugins
from tests.docs.pages import PAGES, Snippet, name, place, snippets
from tests.docs.stage import LONGEST, Stage, commands, runs, staged

WITH_COMMANDS = [page for page in PAGES if any(s.page == page for s in snippets("sh", "console"))]
PROMPT = "$ "
SETTLING = "gateway dead-letters list"
"""A command that is asked again until it prints what the page shows: deliveries take a moment."""
ANY = "…"
"""Stands in what a command prints for any text, and alone on a line for any lines."""


def _parts(snippet: Snippet) -> list[tuple[str, str]]:
    """Return the scripts of a block, each with what it is said to print, if it is."""
    if snippet.kind == "toml":
        return []
    if snippet.kind == "sh":
        return [("".join(filter(runs, commands(snippet.text))), "")]
    found = re.split(rf"^{re.escape(PROMPT)}", snippet.text, flags=re.MULTILINE)
    assert not found[0], "begins with a prompt"
    parts = ((next(commands(text)), text) for text in found[1:])
    return [(command, text.removeprefix(command)) for command, text in parts]


def _is_said(said: str, printed: str) -> bool:
    """Tell whether *printed* is what a page shows, however wide the columns of tables are."""
    pattern = "".join(
        "(?:.*\n)*" if line == ANY else re.escape(line).replace(ANY, ".*") + "\n"
        for line in _even(said)
    )
    return re.fullmatch(pattern, "\n".join([*_even(printed), ""])) is not None


def _even(text: str) -> list[str]:
    """Return the lines of *text* with the gaps of tables closed."""
    return [re.sub(r"(?<=\S) +", " ", line.rstrip()) for line in text.strip("\n").splitlines()]


async def _printed(stage: Stage, script: str, said: str) -> str:
    """Return what *script* prints; where the page shows what comes in time, once it came."""
    async with asyncio.timeout(LONGEST):
        while True:
            printed = await stage.run(script)
            if not said or not script.startswith(SETTLING) or _is_said(said, printed):
                return printed


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
async def test_commands_run(page: Path, tmp_path: Path) -> None:
    """Every command on a page succeeds, in the page's order, and prints what the page shows."""
    async with staged(tmp_path) as stage:
        for snippet in snippets("sh", "console", "toml"):
            if snippet.page != page:
                continue
            stage.write(snippet)
            for script, said in _parts(snippet):
                printed = await _printed(stage, script, said)
                assert not said or _is_said(said, printed), f"{place(snippet)}:\n{printed}"


def test_the_quick_starts_event_is_the_vendors_example() -> None:
    """What the quick start has one save is the request that `gateway demo` prints."""
    (shown,) = (s.text for s in snippets("json") if s.page.name == "quickstart.md")
    assert orjson.loads(shown) == orjson.loads(load_plugins().inputs["personaclick"].example.body)


def test_the_curl_of_the_readme_is_the_vendors_example() -> None:
    """The first thing that a newcomer sends is the request that `gateway demo` prints."""
    first = next(s for s in snippets("sh") if "curl" in s.text)
    (command,) = commands(first.text)
    words = shlex.split(command)
    url = next(word for word in words if word.startswith("http://"))
    body = orjson.loads(words[words.index("-d") + 1])
    path = "/" + url.split("/", 3)[3]
    examples = [
        reads.example for reads in load_plugins().inputs.values() if reads.example.url == path
    ]
    assert first.page.name == "README.md"
    assert body in [orjson.loads(example.body) for example in examples]
