"""The real command as a process: start, printed address, and exit."""

import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

import gateway

PATIENCE = 60.0
QUICK = 0.15
"""Maximum CPU seconds of ``gateway --help``."""
ENVIRON = {**os.environ, "PYTHONPATH": str(Path(gateway.__file__).parents[1]), "NO_COLOR": "1"}
COMMAND = [sys.executable, "-m", "gateway"]
HEAVY = ("aiohttp", "apsw", "msgspec", "orjson", "pydantic", "rich", "structlog", "uvloop")
UNUSED_BY_RUN = frozenset({
    "anyio", "cel.cli", "gateway.cli.output", "gateway.config.schema",
    "gateway.spool.jetstream", "gateway.testing", "hypothesis", "nats", "nkeys", "opentelemetry",
    "prometheus_client", "prompt_toolkit", "pygments", "pytest", "requests", "rich", "typer",
    "watchfiles",
})  # fmt: skip
"""What `gateway run` needs for one of its options, for the first request of a kind, or never."""
EXAMPLE = Path(gateway.__file__).parents[1] / "config/gateway.toml"


@contextmanager
def process(*args: str) -> Iterator[subprocess.Popen[str]]:
    """Yield the running command; kill it at the end if it still runs."""
    running = subprocess.Popen(
        [*COMMAND, *args], env=ENVIRON, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    with running:
        try:
            yield running
        finally:
            running.kill()


def line_with(stream: IO[str] | None, part: str) -> str:
    """Return the first line that contains *part*; fail at the end of the stream."""
    assert stream is not None
    seen = []
    for line in stream:
        seen.append(line)
        if part in line:
            return line
    raise AssertionError(f"{part!r} is not in {seen}")


def get(url: str) -> bytes:
    """Return the response body of a loopback address."""
    with urllib.request.urlopen(url, timeout=PATIENCE) as answer:  # noqa: S310 - loopback
        return bytes(answer.read())


def test_help_needs_nothing_heavy() -> None:
    """``gateway --help`` imports none of the gateway's heavy libraries."""
    code = (
        "import sys; from click.testing import CliRunner; from gateway.cli import main\n"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0\n"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], env=ENVIRON, capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_help_is_quick() -> None:
    """``gateway --help`` takes at most 150 ms of CPU more than Python alone, best of five runs."""

    def best(command: list[str]) -> float:
        times = []
        for _ in range(5):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            subprocess.run(command, env=ENVIRON, capture_output=True, check=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            times.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        return min(times)

    assert best([*COMMAND, "--help"]) - best([sys.executable, "-c", ""]) < QUICK


def test_run_imports_only_what_it_uses(tmp_path: Path) -> None:
    """``gateway run``, with all vendors and the console, is ready without the modules listed."""
    path = tmp_path / "gateway.toml"
    path.write_text(re.sub(r"127\.0\.0\.1:808\d", "127.0.0.1:0", EXAMPLE.read_text()))
    command = [sys.executable, "-X", "importtime", "-m", "gateway", "run", "-c", str(path)]
    imported = set()
    with subprocess.Popen(command, env=ENVIRON, text=True, stderr=subprocess.PIPE) as running:
        try:
            for line in running.stderr or ():
                if line.startswith("import time:"):
                    imported.add(line.rpartition("|")[2].strip())
                elif '"listening"' in line:
                    break
        finally:
            running.kill()
    assert {"gateway.server", "plugins.chrts.input", "aiohttp", "cel.stdlib"} <= imported
    assert sorted(imported & UNUSED_BY_RUN) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_sandbox_says_where_it_is_and_ends_cleanly(number: signal.Signals) -> None:
    """The sandbox prints its address; Ctrl-C and SIGTERM end it with 0 and no traceback."""
    with process("sandbox", "--listen", "127.0.0.1:0", "--key", "chrts=key-1") as sandbox:
        line = line_with(sandbox.stdout, "is the sandbox of")
        url = line.split()[0]
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", url)
        assert json.loads(get(f"{url}_sandbox/requests")) == []
        sandbox.send_signal(number)
        _, errors = sandbox.communicate(timeout=PATIENCE)
        assert (sandbox.returncode, errors) == (0, "")


def test_a_port_in_use_is_one_sentence() -> None:
    """A port in use prints one sentence, and the sandbox exits with 1."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with process("sandbox", "--listen", f"127.0.0.1:{port}") as sandbox:
            output, errors = sandbox.communicate(timeout=PATIENCE)
    assert (sandbox.returncode, output) == (1, "")
    assert errors == (
        f"Error: cannot listen on 127.0.0.1:{port}: the port is in use; choose another address "
        f"with --listen\n"
    )


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--key", "chrts"], "write VENDOR=KEY"),
        (["--key", "chrst=1"], "chrst"),
        (["--listen", "9100"], "is not an address to listen on"),
    ],
)
def test_wrong_options_are_one_sentence(args: list[str], said: str) -> None:
    """Wrong options print a sentence without a traceback, and exit with 2."""
    with process("sandbox", *args) as sandbox:
        _, errors = sandbox.communicate(timeout=PATIENCE)
    assert sandbox.returncode == 2
    assert said in errors
    assert "Traceback" not in errors


CONFIG = """
[spool]
path = "{folder}/spool"
[sources.shop]
vendor = "chrts"
keys = ["shop-key"]
[sources.lonely]
vendor = "chrts"
keys = ["other-key"]
mount = "/lonely"
[destinations.crm]
vendor = "chrts"
url = "{sandbox}/chrts"
api_key = "crm-key"
[[routes]]
from = ["shop"]
to = ["crm"]
"""


def test_an_event_goes_from_run_to_the_sandbox(tmp_path: Path) -> None:
    """An event that ``gateway run`` accepts arrives at ``gateway sandbox``."""
    config = tmp_path / "gateway.toml"
    with process("sandbox", "--listen", "127.0.0.1:0") as sandbox:
        there = line_with(sandbox.stdout, "is the sandbox of").split()[0].rstrip("/")
        config.write_text(CONFIG.format(folder=tmp_path, sandbox=there))
        with socket.create_server(("127.0.0.1", 0)) as free:
            here = f"127.0.0.1:{free.getsockname()[1]}"
        with process("run", "--config", str(config), "--listen", here) as running:
            warning = json.loads(line_with(running.stderr, "suspicious_configuration"))
            assert "[sources.lonely]: no route takes its events" in warning["where"]
            line_with(running.stderr, "listening")
            follow = urllib.request.urlopen(f"{there}/_sandbox/events", timeout=PATIENCE)  # noqa: S310 - loopback
            with follow:
                sent = urllib.request.Request(
                    f"http://{here}/event/track",
                    data=b'{"uid": "u1", "name": "ping"}',
                    headers={"authorization": "Bearer shop-key"},
                )
                sent.add_header("content-type", "application/json")
                with urllib.request.urlopen(sent, timeout=PATIENCE) as answer:  # noqa: S310 - loopback
                    assert json.load(answer)["message"] == "Event tracked successfully"
                assert any(b"/event/track" in line for line in follow)
            running.send_signal(signal.SIGTERM)
            running.communicate(timeout=PATIENCE)
            assert running.returncode == 0
