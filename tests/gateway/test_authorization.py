"""Credentials in ``authorization`` headers."""

import base64

import pytest

from gateway.http import Basic, Request, as_basic, basic, bearer


def asked(header: str | None) -> Request:
    """Return a request with an ``authorization`` header."""
    headers = {} if header is None else {"authorization": header}
    return Request(method="POST", url="/", headers=headers)


@pytest.mark.parametrize(
    ("user", "password"), [("site", "key"), ("write-key", ""), ("ü", "a:b:c"), ("", "key")]
)
def test_a_basic_header_is_read_back(user: str, password: str) -> None:
    """A Basic header is read back: the password may contain colons, both parts any text."""
    header = as_basic(user, password)
    assert basic(asked(header)) == Basic(user, password)
    assert basic(asked(header.replace("Basic", "bAsIc  "))) == Basic(user, password)
    assert bearer(asked(header)) is None


def test_a_user_may_come_without_a_colon() -> None:
    """A Basic header without a colon has an empty password, as some clients send it."""
    assert basic(asked("Basic " + base64.b64encode(b"key").decode())) == Basic("key", "")


@pytest.mark.parametrize(
    "header", [None, "", "Basic", "Bearer dTpw", "Basic no base64!", "Basic /w==", "Basic dTp"]
)
def test_an_invalid_basic_header_gives_no_user(header: str | None) -> None:
    """A missing header, another scheme, bad base64 and bad UTF-8 give no user."""
    assert basic(asked(header)) is None


def test_a_bearer_token_is_read() -> None:
    """The Bearer scheme ignores case, and an empty token counts as none."""
    assert bearer(asked("bearer  t ")) == "t"
    assert bearer(asked("Bearer ")) is None
