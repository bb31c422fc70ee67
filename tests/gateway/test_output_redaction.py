"""Redaction of a configuration's credentials if parts of it cannot be read."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from pydantic import SecretStr

from gateway.config.loader.load import LoadedRedactor, load_redactor
from gateway.plugin.registry import load_plugins
from gateway.redact import HIDDEN, Redactor

SETUP = """
[server]
listen = "127.0.0.1:0"
[spool]
path = "{folder}/spool"
[admin]
token = "${{TOKEN}}"
[sources.shop]
vendor = "chrts"
keys = ["key-of-the-shop", "${{SHOP_KEY}}"]
[destinations.crm]
vendor = "chrts"
url = "https://name:pass-of-crm@crm.example"
api_key = "file:{folder}/key"
[[routes]]
to = ["crm"]
"""
KNOWN = ("key-of-the-shop", "pass-of-crm")


def hiding(folder: Path, environ: dict[str, str], more: str = "") -> LoadedRedactor:
    """Return the redactor of the configuration, with *more* lines in its file."""
    path = folder / "gateway.toml"
    path.write_text(SETUP.format(folder=folder) + more)
    return load_redactor(path, load_plugins(), environ)


def shown(found: LoadedRedactor, credentials: Sequence[str]) -> list[str]:
    """Return those of *credentials* that are not redacted."""
    return [one for one in credentials if found.redactor.text(f"<{one}>") != f"<{HIDDEN}>"]


def test_all_credentials_are_hidden_where_all_can_be_read(tmp_path: Path) -> None:
    """Credentials in the file, in variables and in secret files are redacted."""
    (tmp_path / "key").write_text("key-of-crm\n")
    found = hiding(tmp_path, {"TOKEN": "token-of-the-console", "SHOP_KEY": "second-key"})
    assert not shown(found, (*KNOWN, "key-of-crm", "token-of-the-console", "second-key"))
    assert not found.missing
    assert not found.wrong


def test_missing_variables_and_files_are_named(tmp_path: Path) -> None:
    """Missing variables and files are named; the other credentials are redacted."""
    found = hiding(tmp_path, {"TOKEN": "token-of-the-console"})
    assert not shown(found, (*KNOWN, "token-of-the-console"))
    assert found.missing == sorted([f"{tmp_path}/key", "SHOP_KEY"])
    assert not found.wrong


@pytest.mark.parametrize("more", ["[destinations.new]\nvendor = 'nobody'\n", "[server]\n", "}\n"])
def test_a_file_with_mistakes_hides_what_it_can(tmp_path: Path, more: str) -> None:
    """A mistake elsewhere in the file does not stop redaction; invalid TOML is reported."""
    (tmp_path / "key").write_text("key-of-crm\n")
    found = hiding(tmp_path, {"TOKEN": "token-of-the-console", "SHOP_KEY": "second-key"}, more)
    assert found.wrong
    if "vendor" in more:
        assert not shown(found, ("key-of-the-shop", "token-of-the-console", "second-key"))


@pytest.mark.parametrize(
    ("address", "hidden", "plain"),
    [
        ("https://chat.example/services/T01/B02/abcdefghijklmnop", "abcdefghijklmnop", "services"),
        ("https://chat.example/alerts?key=abcdefghijkl", "abcdefghijkl", "alerts"),
        ("https://name:pass-word@chat.example/alerts", "pass-word", "chat.example"),
        ("https://[broken/abcdefghijklmnop", "https://[broken/abcdefghijklmnop", "broken"),
    ],
)
def test_the_credential_within_a_secret_address_is_hidden(
    address: str, hidden: str, plain: str
) -> None:
    """A secret URL is redacted as a whole, and its credential also by itself."""
    redactor = Redactor([SecretStr(address)])
    assert redactor.text(f"{address} {hidden}") == f"{HIDDEN} {HIDDEN}"
    assert redactor.text(f"the {plain} page") == f"the {plain} page"
