"""Credentials are redacted in every encoding."""

import base64
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from gateway.http import Request
from gateway.redact import HIDDEN, Redactor


class Settings(BaseModel):
    """A destination's settings."""

    key: SecretStr


def redactor(secret: str) -> Redactor:
    """Return a redactor of one secret."""
    return Redactor(Settings(key=SecretStr(secret)))


@given(
    secret=st.text("abcXYZ019+/?&= ", min_size=8, max_size=24),
    before=st.binary(max_size=5),
    after=st.binary(max_size=5),
)
def test_a_secret_is_hidden_within_base64(secret: str, before: bytes, after: bytes) -> None:
    """A secret inside a longer base64 text cannot be decoded from the redacted text."""
    text = before + secret.encode() + after
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        shown = redactor(secret).text(encode(text).decode())
        assert HIDDEN in shown
        whole = encode(text).decode()
        start, _, end = shown.partition(HIDDEN)
        assert whole.startswith(start)
        known = base64.urlsafe_b64decode(
            start[: len(start) // 4 * 4].replace("+", "-").replace("/", "_")
        )
        assert len(known) <= len(before) + 2
        assert len(end) <= (len(after) + 4) * 4 / 3 + 4


@pytest.mark.parametrize("secret", ["a+b/c d&e=f", "plain-secret"])
def test_a_secret_is_hidden_in_every_part_of_a_request(secret: str) -> None:
    """URL, headers and body show a secret neither plain, nor quoted, nor as Basic."""
    basic = "Basic " + base64.b64encode(f"{secret}:".encode()).decode()
    request = Request(
        method="GET",
        url=f"https://v.example/?key={quote(secret, safe='')}&x=1",
        headers={"authorization": basic, "x-key": secret},
        body=f'{{"key": "{secret}"}}'.encode(),
    )
    shown = redactor(secret).request(request)
    assert shown["url"] == f"https://v.example/?key={HIDDEN}&x=1"
    assert shown["headers"]["x-key"] == HIDDEN
    assert shown["headers"]["authorization"].startswith(f"Basic {HIDDEN}")
    assert len(shown["headers"]["authorization"]) <= len(f"Basic {HIDDEN}") + 4
    assert shown["body"] == f'{{"key": "{HIDDEN}"}}'


def test_text_without_the_secret_stays() -> None:
    """Text without the secret stays, and a very short secret is not searched for."""
    assert redactor("a-long-secret").text("nothing of it") == "nothing of it"
    assert redactor("abc").text("abcabc") == "abcabc"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a my-secret-key1234567 b", f"a {HIDDEN} b"),
        ("a old_my-secret-key b", f"a {HIDDEN} b"),
        ("my-secret-key, my-secret-key2", f"{HIDDEN}, {HIDDEN}"),
        (r'{"a": "x\nmy-secret-key"}', rf'{{"a": "x\n{HIDDEN}"}}'),
        (r'{"a": "\u00e9my-secret-key"}', rf'{{"a": "\u00e9{HIDDEN}"}}'),
        ("https://v.example/a%20my-secret-key/b", f"https://v.example/a%20{HIDDEN}/b"),
        ("?t=" + base64.b64encode(b"my-secret-key:").decode() + "&u=1", f"?t={HIDDEN}&u=1"),
    ],
)
def test_the_whole_token_is_hidden(text: str, shown: str) -> None:
    """A token that contains a secret is hidden whole; escapes and the text around it stay."""
    assert redactor("my-secret-key").text(text) == shown
