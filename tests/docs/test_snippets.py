"""Every block of code on a page is tested, by its kind.

Shell blocks are in test_shell.py, Prometheus' YAML is in test_monitoring.py.
"""

import re
import shlex
import shutil
import subprocess
import tomllib
from configparser import ConfigParser
from pathlib import Path

import orjson
import pytest

from gateway.conditions.analysis import ConditionAnalysis
from gateway.conditions.template import ValueAnalysis
from gateway.config.loader.load import load as load_config
from gateway.config.steps import STEPS
from gateway.plugin.registry import load_plugins
from tests.docs.pages import ROOT, Snippet, place, snippets
from tests.docs.session import parsed
from tests.docs.snippet_config import environment, written
from tests.e2e.running import PATIENCE

KINDS = frozenset({
    "cel", "console", "http", "ini", "javascript", "js", "json", "python", "sh", "text", "toml",
    "yaml",
})  # fmt: skip
PRELUDES = {
    "docs/add-a-vendor.md": """
from typing import Any

from gateway.plugin import Event, Request, merge_lists
from tests.example_plugins.acme.acme.mapping import THING as PERSON, THING
""",
    "docs/mapping.md": "from gateway.mapping import *\nfrom plugins.personaclick.mapping import *",
    "docs/sandbox.md": "from plugins.chrts.sandbox import ChrtsSandbox",
}
"""Code that a page's snippets need first."""
CLIENTS = ROOT / "docs/vendors/segment.md"
"""Its Python and js use vendors' libraries, so tests/clients/test_client_snippets.py runs them."""
VALUES = ROOT / "docs/vendors/http.md"
"""Its expressions give values."""
LISTINGS = "tests/example_plugins"
"""Its files are shown whole, and tested by their own tests."""
REQUEST = re.compile(r"(?:GET|POST|PUT|DELETE) /\S* HTTP/1\.1\n(?:[\w-]+: .*\n)*")
STEPS_SHOWN = re.compile(r"^\| `(\{ .*? \})` \|", re.MULTILINE)


def _toml(*, packages: bool) -> list[Snippet]:
    return [s for s in snippets("toml") if ("project" in tomllib.loads(s.text)) == packages]


def test_every_block_has_a_tested_kind() -> None:
    """Each block of code has a kind that one of the tests covers."""
    assert [place(snippet) for snippet in snippets() if snippet.kind not in KINDS] == []


@pytest.mark.parametrize("snippet", _toml(packages=False), ids=place)
def test_configurations_load(snippet: Snippet, tmp_path: Path) -> None:
    """Each configuration loads without a warning, completed with what it leaves out."""
    path = written(snippet.text, tmp_path)
    config = load_config(path, load_plugins(), environment(snippet.text))
    assert config.routes
    assert config.warnings == ()


@pytest.mark.parametrize("snippet", _toml(packages=False), ids=place)
def test_settings_in_comments_exist(snippet: Snippet) -> None:
    """Each setting in a comment of a configuration is one of its vendor's settings."""
    outputs = load_plugins().outputs
    for table in re.split(r"^(?=\[)", snippet.text, flags=re.MULTILINE):
        vendor = re.search(r'^vendor = "(\w+)"', table, re.MULTILINE)
        if vendor and table.startswith("[destinations."):
            for key in re.findall(r"^# (\w+) = ", table, re.MULTILINE):
                assert key in outputs[vendor[1]].Config.model_fields, key


@pytest.mark.parametrize("snippet", _toml(packages=True), ids=place)
def test_packages_are_found(snippet: Snippet) -> None:
    """A package description on a page registers under the gateway's entry points."""
    assert tomllib.loads(snippet.text)["project"]["entry-points"]["gateway"]


@pytest.mark.parametrize("snippet", list(snippets("python")), ids=place)
def test_python_runs(snippet: Snippet) -> None:
    """Each Python block runs after its prelude, or is a file with its own tests."""
    files = (ROOT / LISTINGS).rglob("*.py")
    if snippet.text.rstrip() in {path.read_text().rstrip() for path in files}:
        return
    prelude = PRELUDES.get(str(snippet.page.relative_to(ROOT)), "")
    names: dict[str, object] = {"__name__": "snippet"}
    exec(compile(prelude, "prelude", "exec"), names)  # noqa: S102 - our own pages
    compiled = compile(snippet.text, place(snippet), "exec")
    if snippet.page != CLIENTS:
        exec(compiled, names)  # noqa: S102 - likewise


@pytest.mark.parametrize("snippet", list(snippets("js", "javascript")), ids=place)
def test_javascript_parses(snippet: Snippet, tmp_path: Path) -> None:
    """JavaScript parses as a module of Node.js; only the clients' page has blocks of kind js."""
    assert snippet.kind == "javascript" or snippet.page == CLIENTS
    module = tmp_path / "snippet.mjs"
    module.write_text(snippet.text)
    node = shutil.which("node")
    assert node, "Node.js is missing; `make clients` installs it"
    subprocess.run([node, "--check", module], check=True, timeout=PATIENCE)


@pytest.mark.parametrize("snippet", list(snippets("json")), ids=place)
def test_json_parses(snippet: Snippet) -> None:
    """Each JSON block parses."""
    orjson.loads(snippet.text)


@pytest.mark.parametrize("snippet", list(snippets("ini")), ids=place)
def test_units_start_a_gateway(snippet: Snippet) -> None:
    """Each systemd unit parses, and starts an existing command with existing options."""
    unit = ConfigParser(interpolation=None)
    unit.optionxform = str  # type: ignore[assignment, method-assign]  # as its documentation shows
    unit.read_string(snippet.text)
    program, *words = shlex.split(unit["Service"]["ExecStart"])
    assert Path(program).name == "gateway"
    parsed(words)


@pytest.mark.parametrize("snippet", list(snippets("http")), ids=place)
def test_requests_are_requests(snippet: Snippet) -> None:
    """Each HTTP request has a request line and headers, and JSON where its header says so."""
    head, _, body = snippet.text.partition("\n\n")
    assert REQUEST.fullmatch(f"{head}\n"), head
    if body and "content-type: application/json" in head:
        orjson.loads(body)


@pytest.mark.parametrize(
    ("page", "text"),
    [(block.page, line) for block in snippets("cel") for line in block.text.splitlines()],
)
def test_expressions_are_valid(page: Path, text: str) -> None:
    """Each condition, and each expression of a value, has no problems and no doubts."""
    study = ValueAnalysis(text) if page == VALUES else ConditionAnalysis(text)
    assert not study.problems
    assert not study.doubts


def test_every_step_is_on_the_page(tmp_path: Path) -> None:
    """The table in docs/routing.md shows each step once, in a valid form."""
    (tmp_path / "countries.csv").write_text("DE,Germany\n")
    shown = STEPS_SHOWN.findall((ROOT / "docs/routing.md").read_text())
    assert len(shown) == len(STEPS)
    for text in shown:
        step = tomllib.loads(f"step = {text}")["step"]
        (word,) = (key for key in step if key in STEPS)
        assert STEPS[word].model_validate(step)
