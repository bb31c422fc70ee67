"""The commands of a page are run in one session, in order, as a reader runs them."""

import asyncio
import re
import shlex
from pathlib import Path

import orjson
import pytest

from gateway.plugin.registry import load_plugins
from tests.docs.pages import PAGES, Snippet, name, place, snippets
from tests.docs.session import Session, commands, is_run_elsewhere, premise, server, session

pytestmark = pytest.mark.xdist_group("shell")
ELSEWHERE = ("docs/deploy/", "docs/cluster.md")
"""Pages about machines of their own; tests/deploy and test_cluster_page.py run their commands."""
WITH_COMMANDS = [
    page
    for page in PAGES
    if any(s.page == page for s in snippets("sh", "console"))
    and not name(page).startswith(ELSEWHERE)
]
PROMPT = "$ "
SAVED = re.compile(r"[Ss]ave this as\s`([\w./-]+)`")
"""Text above a block that names the file in which the reader saves it."""
STOP = "with Ctrl-C"
"""Text above a block that tells the reader to stop the servers."""
SETTLING = ("gateway dead-letters list", "gateway trace")
"""Commands that are repeated until they print the page's output, because it comes later."""
PATIENCE = 60.0
"""Seconds for which they are repeated."""
ANY = "…"
"""In a page's output, stands for any text, and alone on a line for any lines."""


def _run(snippet: Snippet) -> list[tuple[str, str]]:
    """Return the commands of a block that this module runs, each with its output on the page."""
    return [(one, said) for one, said in _commands(snippet) if not is_run_elsewhere(one)]


def _commands(snippet: Snippet) -> list[tuple[str, str]]:
    if snippet.kind == "sh":
        return [(command, "") for command in commands(snippet.text)]
    if snippet.kind != "console":
        return []
    found = re.split(rf"^{re.escape(PROMPT)}", snippet.text, flags=re.MULTILINE)
    assert not found[0], "begins with a prompt"
    parts = ((next(commands(text)), text) for text in found[1:])
    return [(command, text.removeprefix(command)) for command, text in parts]


def _is_said(said: str, printed: str) -> bool:
    """Tell whether *printed* matches the page's output; the width of table columns may differ."""
    pattern = "".join(
        "(?:.*\n)*" if line == ANY else re.escape(line).replace(ANY, ".*") + "\n"
        for line in _even(said)
    )
    return re.fullmatch(pattern, "\n".join([*_even(printed), ""])) is not None


def _even(text: str) -> list[str]:
    """Return the lines of *text* with one space between the columns of tables."""
    return [re.sub(r"(?<=\S) +", " ", line.rstrip()) for line in text.strip("\n").splitlines()]


async def _read(reader: Session, snippet: Snippet) -> None:
    """Do what a block tells the reader to do."""
    if STOP in snippet.above:
        await reader.interrupt()
    if saved := SAVED.search(snippet.above):
        (reader.folder / saved[1]).write_text(snippet.text)
    for command, said in _run(snippet):
        if server(command):
            await reader.serve(command)
            continue
        printed = await _printed(reader, command, said)
        assert not said or _is_said(said, printed), f"{place(snippet)}:\n{printed}"


async def _printed(reader: Session, command: str, said: str) -> str:
    """Return the output of *command*; repeat a slow command until it matches the page."""
    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        late = asyncio.get_running_loop().time() > deadline or not command.startswith(SETTLING)
        try:
            printed = await reader.run(command)
        except AssertionError:
            if late:
                raise
        else:
            if late or not said or _is_said(said, printed):
                return printed


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=name)
async def test_commands_run(page: Path, tmp_path: Path) -> None:
    """Each command of a page succeeds in order, and prints what the page shows.

    A page that starts a gateway or a sandbox begins in a fresh clone; any other page begins with a
    running gateway.
    """
    blocks = [snippet for snippet in snippets() if snippet.page == page]
    run = [one for block in blocks for one, _ in _run(block)]
    begins = {server(command) for command in run} & {"demo", "run", "sandbox"}
    async with session(tmp_path, installed="make run\n" not in run) as reader:
        if not begins:
            await premise(reader)
        for snippet in blocks:
            await _read(reader, snippet)


def test_the_quick_starts_event_is_the_vendors_example() -> None:
    """The request that the quick start saves is the one that `gateway demo` prints."""
    (shown,) = (s.text for s in snippets("json") if s.page.name == "quickstart.md")
    assert orjson.loads(shown) == orjson.loads(load_plugins().inputs["personaclick"].example.body)


def test_the_curl_of_the_readme_is_the_vendors_example() -> None:
    """The first request in the README is one that `gateway demo` prints."""
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
