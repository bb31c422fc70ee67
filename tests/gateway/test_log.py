"""No log line contains a vendor's credential, in any field and at any depth."""

import base64
import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from urllib.parse import quote

import pytest
import structlog

from gateway.observability.log import RedactionProcessor
from gateway.plugin.registry import load_plugins
from gateway.redact import HIDDEN, Redactor
from tests.e2e.configs import SETTINGS

PLUGINS = load_plugins()
CANARY = "canary +/&= one"
LIBRARY = """
import logging
from gateway.observability import log
log.configure()
log.redaction.redactor = log.Redactor(None, ["canary-secret"])
try:
    raise ValueError("canary-secret in a traceback")
except ValueError:
    logging.getLogger("aiohttp.server").exception("Error handling %s", "canary-secret")
"""


def spellings(secret: str) -> Iterator[str]:
    """Yield *secret* in the encodings of clients and vendors."""
    yield secret
    yield f"Bearer {secret}"
    yield "Basic " + base64.b64encode(f"{secret}:".encode()).decode()
    yield f"https://v.example/?key={quote(secret, safe='')}"
    yield json.dumps({"anything": secret})


def redaction(vendor: str) -> tuple[RedactionProcessor, list[str]]:
    """Return a processor that knows a vendor's settings, and the secrets in them."""
    cls = PLUGINS.outputs[vendor].Config
    written = tomllib.loads(SETTINGS[vendor])
    secret = {k: f"{CANARY} {k}" for k in written if k != "customer"}
    made = RedactionProcessor()
    made.redactor = Redactor(cls(url="https://name:canary-pass@v.example", **(written | secret)))
    return made, [*secret.values(), "canary-pass"]


@pytest.mark.parametrize("vendor", PLUGINS.formats)
def test_no_line_has_a_credential_of_a_vendor(vendor: str) -> None:
    """Credentials are redacted in every encoding and type of value; other values stay."""
    process, secrets = redaction(vendor)
    for secret in secrets:
        for said in spellings(secret):
            line = {"event": said, "deep": [{"x": (said, 5)}], "error": ValueError(said), "n": 5}
            cleaned = process(None, "info", line)
            text = repr(cleaned)
            assert secret not in text
            assert quote(secret, safe="") not in text
            assert base64.b64encode(f"{secret}:".encode()).decode()[:-4] not in text
            assert HIDDEN in str(cleaned["event"])
            assert cleaned["n"] == 5


@pytest.mark.parametrize("name", ["api_key", "authorization", "shop_secret", "Cookie", "writeKey"])
def test_values_under_credential_names_are_redacted(name: str) -> None:
    """A value under a credential's name is redacted even if it is not configured."""
    process = RedactionProcessor()
    assert process(None, "info", {name: "anything"}) == {name: HIDDEN}
    said = process(None, "info", {"event": 'with {"api_key": "anything", "x": 1}'})["event"]
    assert said == 'with {"api_key": "***", "x": 1}'
    assert process(None, "info", {"url": "redis://u:p@host/1"}) == {"url": "redis://***@host/1"}


def test_the_beginning_of_a_credential_at_a_cut_is_hidden() -> None:
    """The start of a credential at the end of a truncated text is redacted."""
    redactor = Redactor(None, ["canary-secret"])
    assert redactor.text_short("it said: canary-se") == f"it said: {HIDDEN}"
    assert redactor.text_short("it said: canary-secret and more") == f"it said: {HIDDEN} and more"
    assert redactor.text_short("it said: can") == "it said: can"
    process = RedactionProcessor()
    process.redactor = redactor
    line = process(None, "info", {"reason": "it said: canary-se", "removed": ["canary"]})
    assert line == {"reason": f"it said: {HIDDEN}", "removed": ["canary"]}


@pytest.mark.parametrize("value", [3, None, "x", {"x": 1}, ["api_key: cannot read the file"]])
def test_problems_may_be_anything(value: object) -> None:
    """A plugin may log any value as ``problems``; a list of findings stays as it is."""
    assert RedactionProcessor()(None, "info", {"problems": value}) == {"problems": value}


def test_a_text_can_be_stored() -> None:
    """A lone surrogate in a plugin's reason is replaced, since no file takes it."""
    assert Redactor(None, []).text_short("it said: \ud800") == "it said: \ufffd"


def test_lines_of_libraries_are_redacted_json() -> None:
    """A traceback logged by aiohttp is one redacted JSON line."""
    found = subprocess.run(
        [sys.executable, "-c", LIBRARY], capture_output=True, text=True, check=True, timeout=60
    )
    (line,) = found.stderr.splitlines()
    read = json.loads(line)
    assert (read["event"], read["logger"], read["level"]) == ("library", "aiohttp.server", "error")
    assert read["message"] == f"Error handling {HIDDEN}"
    assert f"ValueError: {HIDDEN} in a traceback" in read["exception"]
    assert "canary" not in line


def test_a_terminal_gets_lines_for_people() -> None:
    """Redaction runs before every renderer, so the console renderer shows no credential."""
    process = RedactionProcessor()
    process.redactor = Redactor(None, ["canary-secret"])
    line = process(None, "info", {"event": "x", "reason": "canary-secret"})
    shown = structlog.dev.ConsoleRenderer(colors=False)(None, "info", dict(line))
    assert "canary" not in str(shown)
