"""Values under names that only credentials have are redacted."""

import json
import time

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.redact import HIDDEN, Redactor, hides, is_secret, text_without_secrets, without_secrets

SECRET = [
    "token", "TOKEN", "access_token", "accessToken", "AccessToken", "X-Access-Token", "id_token2",
    "sessionToken", "session_token", "refreshToken", "csrf-token", "xsrfToken", "token_value",
    "tokens", "secret", "shop_secret", "clientSecret", "SECRET", "secrets", "password", "passwd",
    "user[password]", "user%5Bpassword%5D", "newPassword", "password_confirmation", "passwordHash",
    "passphrase", "user_pwd", "pwd", "api_key", "apiKey", "X-API-Key", "api%5Fkey", "apikeys",
    "writeKey", "private_key", "aws_secret_access_key", "signingKey", "sessionKey",
    "authorization", "Proxy-Authorization", "authorizationHeader", "Cookie", "set-cookie",
    "Set-Cookie2", "cookies", "jwt", "userJwt", "cvv", "otp",
]  # fmt: skip
PLAIN = [
    "secretary", "secretariat", "tokenised", "tokenized", "token_count", "token_type", "tokenId",
    "secret_santa", "key", "keyboard", "keyword", "monkey", "order_key", "public_key",
    "idempotency_key", "access_key_id", "cookie_consent", "cookies_accepted", "authorized",
    "author", "authority", "authentication_method", "pass", "passport", "passenger", "compass",
    "pin", "laptop", "credential", "credentials",
    "session_id", "sid", "name", "", "42", "%", "\u00fc",
]  # fmt: skip


@pytest.mark.parametrize("name", SECRET)
def test_a_name_of_credentials(name: str) -> None:
    """A credential's name is recognised in every spelling, and its value redacted at any depth."""
    assert is_secret(name)
    assert hides(f"properties.{name}")
    held = {"a": [{"b": {name: "canary"}}], name: ["canary"], "kept": "plain"}
    clean = without_secrets(held)
    assert "canary" not in repr(clean)
    assert clean["kept"] == "plain"
    for said in (
        json.dumps(held), json.dumps(held, indent=2), json.dumps({"x": json.dumps(held)}),
        json.dumps(json.dumps({"x": json.dumps(held)})), json.dumps(held)[: -len('y", "kept')],
        f"?q=1&{name}=canary&z=2", f"{name}: canary", f"{name}: Bearer canary", repr(held),
        f"failed with {name}=canary, {name} = 'canary one'",
    ):  # fmt: skip
        shown = text_without_secrets(said)
        assert "canary" not in shown, shown
        assert HIDDEN in shown


@pytest.mark.parametrize("name", PLAIN)
def test_a_name_of_anything_else(name: str) -> None:
    """A harmless name that contains a credential's name is not redacted."""
    assert not is_secret(name)
    held = {"a": [{name: "plain"}], name: {"x": "plain"}}
    assert without_secrets(held) == held
    for said in (json.dumps(held), f"?{name}=plain&b=1", f"{name}: plain", repr(held)):
        assert text_without_secrets(said) == said


@pytest.mark.parametrize(
    ("value", "stays"),
    [("x", False), (5, False), (1.5, False), (["x"], False), ({"a": "x"}, False), (True, True),
     (False, True), (None, True), ("", True), ([], True), ({}, True)],
)  # fmt: skip
def test_booleans_and_empty_values_stay(value: object, stays: bool) -> None:  # noqa: FBT001 - a case
    """Booleans, null, empty values and counts stay; a number may be a credential."""
    assert without_secrets({"password": value}) == {"password": value if stays else HIDDEN}
    said = json.dumps({"password": value, "z": 1})
    assert orjson.loads(text_without_secrets(said)) == without_secrets({"password": value, "z": 1})
    assert without_secrets({"tokens": 5}) == {"tokens": 5}
    assert text_without_secrets('{"tokens": 5}') == '{"tokens": 5}'


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ('{"password": "a\\"b", "c": "d"}', '{"password": "***", "c": "d"}'),
        ('{"password": "a\\\\", "c": "d"}', '{"password": "***", "c": "d"}'),
        ('{"tok\\u0065n": "x", "a": "\\u00e9"}', '{"token": "***", "a": "\\u00e9"}'),
        ('{"token": "cut o', '{"token": "***'),
        ('{"token": ["a", {"b": "c"}], "d": 1}', '{"token": "***", "d": 1}'),
        ('{"token": {"a": {"b": "c"}, "d": "e"}, "f": 1}', '{"token": "***", "f": 1}'),
        ('{"token": {"a": {"b": "c"}, "d', '{"token": "***"'),
        ("cookie: a=b; c=d; e=f\nhost: x", "cookie: ***\nhost: x"),
        ("cookie: abc\nhost: x", "cookie: ***\nhost: x"),
        ('{"cookie": "8sjfe8fh", "a": 1}', '{"cookie": "8sjfe8fh", "a": 1}'),
        ('{"cookie": "sid=8sjfe8fh", "a": 1}', '{"cookie": "***", "a": 1}'),
        ('{"cookie": ["8sjfe8fh"], "a": 1}', '{"cookie": "***", "a": 1}'),
        ('{"session_cookie": "8sjfe8fh"}', '{"session_cookie": "***"}'),
        ("authorization: Basic dXNlcjpwdw==, next", "authorization: ***, next"),
        ("%7B%22api_key%22%3A%22a%20b%22%2C%22c%22", "%7B%22api_key%22%3A%22***%22%2C%22c%22"),
        ('{"m": "line\\ntoken: abc"}', '{"m": "line\\ntoken: ***"}'),
        ("no token here, nor a password", "no token here, nor a password"),
    ],
)  # fmt: skip
def test_texts(said: str, shown: str) -> None:
    """In text, exactly the value is redacted, in any format and also if truncated."""
    assert text_without_secrets(said) == shown
    assert Redactor().text(said) == shown


def test_a_visitors_id_is_shown_as_other_ids_are() -> None:
    """A ``cookie`` field with a plain id stays; one with a browser's cookie is redacted."""
    held = {"cookie": "8sjfe8fh", "in": {"cookie": "sid=1"}, "Cookie": "x", "cookies": "x"}
    clean = {"cookie": "8sjfe8fh", "in": {"cookie": "***"}, "Cookie": "***", "cookies": "***"}
    assert without_secrets(held) == clean


WORDS = st.text(st.characters(exclude_characters="'\"[]{}\\", exclude_categories=["Cs"]))


@given(st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | WORDS,
    lambda inner: st.lists(inner) | st.dictionaries(WORDS | st.sampled_from(SECRET), inner),
))  # fmt: skip
def test_json_stays_json(value: object) -> None:
    """Redacted JSON is valid JSON."""
    for said in (json.dumps(value), orjson.dumps(value).decode()):
        json.loads(text_without_secrets(said))


@pytest.mark.parametrize(
    "said",
    ["a" * 50_000 + "token", "token" * 40_000, '{"token": "' + "a" * 50_000, "token:" * 30_000,
     '"' * 50_000 + "token", "\\" * 50_000 + '"token', "token=[" * 30_000, 'token="\\"' * 20_000,
     "token=a;b=c;" * 20_000, "%5c" * 20_000 + "token", "[" * 50_000 + "token=1",
     "a token " * 20_000, "token =" + " " * 50_000],
    ids=lambda said: said[:12],
)  # fmt: skip
def test_no_text_takes_long(said: str) -> None:
    """The search for names takes time in proportion to the text."""
    began = time.process_time()
    text_without_secrets(said)
    assert time.process_time() - began < 3


def test_endlessly_nested_values_are_redacted() -> None:
    """A value nested too deeply for recursion is redacted as a whole."""
    deep: object = "x"
    for _ in range(100_000):
        deep = [deep]
    assert without_secrets(deep) == HIDDEN
