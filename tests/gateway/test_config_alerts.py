"""Alerts in the configuration file."""

from pathlib import Path

import pytest

from tests.gateway.config_loading import FINE, problems, read

HOOK = "https://hooks.example/services/T0/B0/secret"


def test_without_its_table_no_alerts_are_sent(tmp_path: Path) -> None:
    """Without [alerts], no alerts are sent."""
    assert read(tmp_path, FINE).alerts is None


def test_only_the_url_is_required(tmp_path: Path) -> None:
    """Only the URL is required; neither the URL nor a header is shown."""
    lines = f'[alerts]\nurl = "${{HOOK}}"\nheaders = {{ x-key = "file:{tmp_path}/key" }}\n'
    (tmp_path / "key").write_text("secret-of-a-header\n")
    found = read(tmp_path, FINE + lines, {"HOOK": HOOK}).alerts
    assert found is not None
    assert found.url.get_secret_value() == HOOK
    assert found.headers["x-key"].get_secret_value() == "secret-of-a-header"
    assert (found.paused_for, found.backlog_age, found.dead_letters) == (60, 900, 1)
    assert "secret" not in repr(found).replace("SecretStr", "")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("", "[alerts] url: missing; add it: The URL to which alerts are posted as JSON"),
        ('url = "hooks.example/secret"', "url: is not an http or https URL; write one like"),
        ('url = "https://hooks.example:99999/secret"', "url: has a port that is not a number from"),
        (f'url = "{HOOK}"\ndead_letters = 0', "dead_letters"),
        (f'url = "{HOOK}"\nbacklog = "5m"', "backlog: unknown key; did you mean backlog_age?"),
        (f'url = "{HOOK}"\npaused_for = "soon"', "paused_for: is not a duration"),
    ],
)
def test_mistakes_are_reported(tmp_path: Path, lines: str, said: str) -> None:
    """Each mistake in [alerts] is reported with its key, without the URL."""
    (found,) = problems(tmp_path, f"{FINE}[alerts]\n{lines}\n")
    assert said in found
    assert "hooks.example/se" not in found
