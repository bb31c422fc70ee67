"""The OpenTelemetry collector in the configuration file."""

from pathlib import Path

import pytest

from gateway.config.loader.load import load_trace
from tests.gateway.config_loading import FINE, problems, read

CANARY = "canary-7c41aa"
URL = "http://127.0.0.1:4318/v1/traces"


def trace(*lines: str) -> str:
    """Return a configuration with *lines* in ``[trace]``."""
    return "\n".join(("[trace]", *lines)) + FINE


def test_a_collector_and_its_headers_are_read(tmp_path: Path) -> None:
    """The URL may have any path; headers are secrets from the environment or a file."""
    (tmp_path / "key").write_text(f"{CANARY}\n")
    headers = f'{{ authorization = "Bearer ${{KEY}}", x-key = "file:{tmp_path}/key" }}'
    text = trace(f'otlp_url = "{URL}"', f"otlp_headers = {headers}")
    found = read(tmp_path, text, {"KEY": CANARY}).trace
    assert found.otlp_url == URL
    values = {name: value.get_secret_value() for name, value in found.otlp_headers.items()}
    assert values == {"authorization": f"Bearer {CANARY}", "x-key": CANARY}
    assert CANARY not in repr(found)


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['otlp_url = "127.0.0.1:4318"'], f'otlp_url: is not a URL; write one like "{URL}"'),
        (['otlp_url = "http://127.0.0.1:4318/"'], f'otlp_url: has no path; write "{URL}"'),
        (
            [f'otlp_url = "http://me:{CANARY}@host/v1/traces"'],
            "otlp_url: contains a user name or password; put it into otlp_headers",
        ),
        ([f'otlp_url = "{URL}?key=a"'], f'otlp_url: is not a URL; write one like "{URL}"'),
        (["otlp_url = 4318"], "otlp_url: must be text; put it in quotes"),
        (
            [f'otlp_url = "{URL}"', f'otlp_headers = {{ "a b" = "{CANARY}" }}'],
            "otlp_headers: 'a b' is not a header name; write authorization = \"...\"",
        ),
        (
            [f'otlp_url = "{URL}"', f'otlp_headers = {{ key = "{CANARY}\\n" }}'],
            "otlp_headers: key: the header's value must be printable ASCII on one line",
        ),
        (
            [f'otlp_url = "{URL}"', 'otlp_headers = { key = "file:nowhere" }'],
            (
                "otlp_headers: cannot read the secret in nowhere: No such file or directory; "
                "correct the path or the file"
            ),
        ),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, lines: list[str], problem: str) -> None:
    """A mistake is one sentence with its place and correction, without credentials."""
    said = problems(tmp_path, trace(*lines))
    assert len(said) == 1
    assert said[0].endswith(f"[trace] {problem}")
    assert CANARY not in said[0]


@pytest.mark.parametrize(
    ("lines", "warning"),
    [
        (
            ["enabled = false", f'otlp_url = "{URL}"'],
            "otlp_url: has no effect with enabled = false",
        ),
        (['otlp_headers = { key = "a-key" }'], "otlp_headers: has no effect without otlp_url"),
    ],
)
def test_keys_without_effect_are_warnings(tmp_path: Path, lines: list[str], warning: str) -> None:
    """Keys without an effect draw a warning."""
    (said,) = read(tmp_path, trace(*lines)).warnings
    assert f"[trace] {warning}" in said


def test_reading_traces_needs_no_collector(tmp_path: Path) -> None:
    """``gateway trace`` works without the variables of the collector's headers."""
    path = tmp_path / "gateway.toml"
    path.write_text(trace('path = "a.db"', 'otlp_headers = { key = "${NOT_SET}" }'))
    assert load_trace(path, {}) == Path("a.db")
