"""The kit names the plugin's line if a plugin raises or hangs, and stops soon."""

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli.vendors import new_vendor

SECONDS = 120
"""Seconds in which a suite with a hanging call must end; it takes about 20 if idle."""
RAISES = 'raise KeyError("who")'
LIMIT = 2.0
"""Seconds that a call may take in most of these tests; a real one takes less than a millisecond."""
HANGS = "while True:\n        pass"
PLACES = {
    "parse": ("input", "BrokenInput", "read"),
    "answer": ("input", "BrokenInput", "accept"),
    "render": ("output", "BrokenOutput", "select"),
    "request": ("output", "BrokenOutput", "request"),
    "verdict": ("output", "BrokenOutput", "verdict"),
    "sandbox": ("sandbox", "BrokenSandbox", "respond"),
}
"""Each kind of mistake, with the module, class and method that gets it."""


def broken(folder: Path, place: str, fault: str) -> Path:
    """Return a new plugin with a method that starts with *fault*."""
    plugin = folder / "broken"
    made = CliRunner().invoke(new_vendor, ["broken", "--into", str(plugin)])
    assert made.exit_code == 0, made.output
    module, kind, method = PLACES[place]
    source = plugin / f"broken/{module}.py"
    source.write_text(
        f"{source.read_text()}\n\ndef at_fault(*_, **__):\n    {fault}\n\n\n"
        f"{kind}.{method} = at_fault\n"
    )
    return plugin


def impatient(plugin: Path) -> None:
    """Let the kit end a call of *plugin* sooner; what it then does is the same."""
    (plugin / "conftest.py").write_text(
        f"from gateway.testing import plugin_watch\n\nplugin_watch.LIMIT = {LIMIT}\n"
    )


def kit_output(plugin: Path, *options: str) -> str:
    """Return the test output of *plugin*; at least one test must fail, and none may hang."""
    began = time.monotonic()
    # Python 3.11 miscounts its recursion after many interrupted calls. Then it may not compile
    # what schemathesis imports for the first time at the end of a session.
    alone = ("-p", "no:cacheprovider", "-p", "no:schemathesis")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", *alone, *options],
        cwd=plugin, capture_output=True, text=True, timeout=2 * SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert time.monotonic() - began < SECONDS
    return done.stdout


def reports(said: str) -> dict[str, str]:
    """Return the report of each failed test by its name."""
    _, *found = re.split(r"^_+ (Test\w+\.test_.*|test_.*?) _+\n", said, flags=re.MULTILINE)
    assert found, said
    texts = (text.partition("\n=====")[0] for text in found[1::2])
    return dict(zip(found[::2], texts, strict=True))


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("fault", "what"),
    [(RAISES, "KeyError: 'who'"), (HANGS, f"no end after {LIMIT:g} s")],
    ids=["raises", "hangs"],
)
def test_the_first_line_is_the_plugins(place: str, fault: str, what: str, tmp_path: Path) -> None:
    """The report of the first failure starts with the plugin's line, and is short."""
    module, kind, _ = PLACES[place]
    plugin = broken(tmp_path, place, fault)
    impatient(plugin)
    (report,) = reports(kit_output(plugin, "-x")).values()
    first, *others = report.splitlines()
    assert re.fullmatch(rf"broken/{module}\.py:\d+ in at_fault: {what}", first), report
    assert len(others) < 10, report
    assert any(line.startswith(f"in {kind}.") for line in others), report


@pytest.mark.parametrize(("place", "fault"), [("parse", HANGS), ("verdict", RAISES)])
def test_a_whole_suite_ends_soon(place: str, fault: str, tmp_path: Path) -> None:
    """Each failed test, also of the running gateway, names the plugin's line."""
    module, _, _ = PLACES[place]
    found = reports(kit_output(broken(tmp_path, place, fault)))
    assert {n: t for n, t in found.items() if not t.startswith(f"broken/{module}.py:")} == {}
    assert any(name.startswith("TestBrokenDelivery.") for name in found)
    assert fault != HANGS or any("no end after 5 s" in text for text in found.values())
