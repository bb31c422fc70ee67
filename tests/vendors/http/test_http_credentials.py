"""Signatures and token requests of the http output, against published examples."""

import base64
import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import pytest

from gateway.http import Request, Response
from gateway.plugin import AccessToken, Authorization
from plugins.http.output import HttpOutput

NOW = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)
SECRET = "It's a Secret to Everybody"  # noqa: S105 - from GitHub's documentation
HELLO = Request(method="POST", url="https://api.example/hook?a=1", body=b"Hello, World!")


def authorization(**auth: Any) -> Authorization:
    """Return the authorization of a destination with this `auth`."""
    config = HttpOutput.Config.model_validate({"url": "https://api.example", "auth": auth})
    found = HttpOutput(config).authorization
    assert found is not None
    return found


def signed(**hmac_: Any) -> dict[str, str]:
    """Return the headers of a signed request."""
    made = authorization(hmac={"secret": SECRET, "header": "X-Signature", **hmac_})
    assert made.token_request() is None
    return dict(made.headers(HELLO, NOW, ""))


def test_a_signature_is_that_of_githubs_document() -> None:
    """HMAC-SHA256 of the body, as in GitHub's "Validating webhook deliveries"."""
    found = signed(header="X-Hub-Signature-256", value="='sha256=' + signature")
    digest = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"
    assert found == {"x-hub-signature-256": f"sha256={digest}"}


def test_a_signature_can_hold_the_time_as_stripes_does() -> None:
    """The time is part of what is signed, and of the header (https://docs.stripe.com/webhooks)."""
    found = signed(
        payload="=timestamp + '.' + body", value="='t=' + timestamp + ',v1=' + signature"
    )
    digest = hmac.new(SECRET.encode(), b"1767323045.Hello, World!", hashlib.sha256).hexdigest()
    assert found == {"x-signature": f"t=1767323045,v1={digest}"}


def test_a_signature_has_many_forms() -> None:
    """Algorithm, encoding, unit of the time and a header of its own can be chosen."""
    found = signed(
        algorithm="sha512", encoding="base64", timestamp="ms", timestamp_header="X-Time",
        payload="=method + path + timestamp",
    )  # fmt: skip
    digest = hmac.new(SECRET.encode(), b"POST/hook?a=11767323045678", hashlib.sha512).digest()
    assert found == {
        "x-signature": base64.b64encode(digest).decode(),
        "x-time": "1767323045678",
    }


def test_a_body_that_is_not_text_is_signed_as_it_is() -> None:
    """The bytes of the body are signed, whatever they are."""
    made = authorization(hmac={"secret": SECRET, "header": "x"})
    request = Request(method="POST", url="https://a.example", body=b"\xff\xfe")
    digest = hmac.new(SECRET.encode(), b"\xff\xfe", hashlib.sha256).hexdigest()
    assert made.headers(request, NOW, "") == {"x": digest}


CLIENT = {
    "token_url": "https://login.example/token",
    "client_id": "client:1",
    "client_secret": "sec ret/1",
    "scope": "events write",
    "parameters": {"audience": "https://api.example"},
}


def test_a_token_is_asked_for_as_the_rfc_says() -> None:
    """Id and secret are encoded before they become a Basic header (RFC 6749, section 2.3.1)."""
    asked = authorization(oauth2=CLIENT).token_request()
    assert asked is not None
    assert (asked.method, asked.url) == ("POST", "https://login.example/token")
    assert asked.body == (
        b"grant_type=client_credentials&audience=https%3A%2F%2Fapi.example&scope=events+write"
    )
    login = base64.b64encode(b"client%3A1:sec+ret%2F1").decode()
    assert asked.headers["authorization"] == f"Basic {login}"
    assert asked.headers["content-type"] == "application/x-www-form-urlencoded"


def test_a_token_can_be_asked_for_in_the_body() -> None:
    """Servers without Basic authentication get id and secret in the body."""
    asked = authorization(oauth2={**CLIENT, "client_authentication": "body"}).token_request()
    assert asked is not None
    assert asked.body.endswith(b"&client_id=client%3A1&client_secret=sec+ret%2F1")
    assert "authorization" not in asked.headers


@pytest.mark.parametrize(
    ("body", "token"),
    [
        (b'{"access_token":"t","expires_in":60}', AccessToken("t", 60)),
        (b'{"access_token":"t","expires_in":"60"}', AccessToken("t", 60)),
        (b'{"access_token":"t"}', AccessToken("t", 300)),
        (b'{"access_token":"t","expires_in":null}', AccessToken("t", 300)),
        (b'{"access_token":"t","expires_in":0}', AccessToken("t", 1)),
        (b'{"access_token":"t","expires_in":31536000}', AccessToken("t", 86400)),
        (b'{"access_token":"t","expires_in":"inf"}', AccessToken("t", 86400)),
    ],
)
def test_a_token_is_read_with_its_lifetime(body: bytes, token: AccessToken) -> None:
    """The lifetime is in seconds, a day at most; without one a few minutes are assumed."""
    assert authorization(oauth2=CLIENT).read_token(Response(200, {}, body)) == token


@pytest.mark.parametrize("response", [Response(401, {}, b'{"access_token":"t"}'), Response(200)])
def test_no_token_is_an_error_without_a_secret(response: Response) -> None:
    """A refused or empty response is an error that names the status and the address alone."""
    with pytest.raises(ValueError, match=r"HTTP \d+ from https://login.example/token$"):
        authorization(oauth2=CLIENT).read_token(response)


def test_a_token_is_a_bearer_header() -> None:
    """The token goes out in the authorization header (RFC 6750)."""
    made = authorization(oauth2=CLIENT)
    assert made.headers(HELLO, NOW, "t-1") == {"authorization": "Bearer t-1"}
