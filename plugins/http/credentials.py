"""How requests are authorised: fixed credentials, signatures, and OAuth 2 tokens."""

import base64
import hmac
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from urllib.parse import urlencode, urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from gateway.plugin import (
    AccessToken,
    Authorization,
    ConfigTable,
    Request,
    Response,
    Secret,
    TextExpression,
    as_basic,
    envelope,
    header_name_problem,
    header_value_problem,
)

FORM = "application/x-www-form-urlencoded"
LIFETIME = 300.0
"""Seconds for which a token is used if the server does not say how long it is valid."""
LONGEST_LIFETIME = 86400.0
"""Seconds after which a token is renewed, whatever the server says."""
LONGEST = 8192
"""Characters of a token; servers take no longer headers."""
UNIX = {"s": 1, "ms": 1000}
PATH = re.compile(r"[!-\"$->@-~]+")
"""Printable ASCII but for `?` and `#`."""
DOTS = frozenset({".", "..", ""})
"""Segments that servers take out of a path (RFC 3986, section 5.2.4), and none."""


def header_name(value: str) -> str:
    """Check the name of a header that a configuration sets, or an empty text for none.

    Raises:
        ValueError: it is none, or one that the gateway makes.
    """
    if value and (wrong := header_name_problem(value, '"x-signature"')):
        raise ValueError(wrong)
    return value


HeaderName = Annotated[str, AfterValidator(header_name)]


class SignedText(TextExpression):
    """What is signed."""

    names = dict.fromkeys(("timestamp", "body", "method", "path"), str)


class SignatureText(TextExpression):
    """The value of the header with the signature."""

    names = dict.fromkeys(("timestamp", "signature"), str)


class BasicLogin(ConfigTable):
    """User and password of HTTP Basic authentication (RFC 7617)."""

    user: Secret
    """The user, or a key that stands in its place."""
    password: Secret = Secret("")
    """The password; empty for vendors that take a key as the user."""

    @field_validator("user")
    @classmethod
    def _ends_at_the_colon(cls, user: Secret) -> Secret:
        if ":" in user.get_secret_value():
            raise ValueError("has a colon, which ends the user; write what follows into password")
        return user


class HmacSignature(ConfigTable):
    """A signature of each request, made with a shared secret (RFC 2104)."""

    secret: Secret
    """The shared secret."""
    header: HeaderName = Field(min_length=1)
    """The header with the signature, such as `"x-signature"`."""
    algorithm: Literal["sha1", "sha256", "sha512"] = "sha256"
    """The hash function."""
    payload: SignedText = SignedText("body")
    """What is signed: an expression over `timestamp`, `body`, `method` and `path` (with its query),
    all of them text, such as `"=timestamp + '.' + body"`."""
    value: SignatureText = SignatureText("signature")
    """The header's value: an expression over `timestamp` and `signature`, such as
    `"='t=' + timestamp + ',v1=' + signature"`."""
    encoding: Literal["hex", "base64"] = "hex"
    """How the signature is written."""
    timestamp: Literal["s", "ms"] = "s"
    """The unit of `timestamp`: seconds or milliseconds since 1970."""
    timestamp_header: HeaderName = ""
    """A header that has the `timestamp`; none by default."""


class ClientCredentials(ConfigTable):
    """OAuth 2 with the client credentials grant (RFC 6749, section 4.4)."""

    token_url: str = Field(pattern=r"^https?://[^/?#\s]+\S*$")
    """The URL of the token endpoint."""
    client_id: str
    """The client's id."""
    client_secret: Secret
    """The client's secret."""
    scope: str = ""
    """The scopes, separated by spaces."""
    parameters: Mapping[str, str] = Field(default={})
    """Further parameters of the token request, such as `{ audience = "https://api.example" }`."""
    client_authentication: Literal["basic", "body"] = "basic"
    """Where the token endpoint gets id and secret: in a Basic header, or in the body."""


class AuthTable(ConfigTable):
    """How requests prove who sends them. Keys may be combined as far as they do not collide."""

    bearer: Secret | None = None
    """A token for the `authorization` header: `Bearer …`."""
    basic: BasicLogin | None = None
    """User and password for the `authorization` header."""
    header: Mapping[str, Secret] = Field(default={})
    """Headers with credentials, such as `{ x-api-key = "${CRM_KEY}" }`."""
    path: Secret | None = None
    """A secret that ends the address of every request, as in the webhooks of chats."""
    query: Mapping[str, Secret] = Field(default={})
    """Credentials in the query, such as `{ api_secret = "${SECRET}" }`."""
    body: Mapping[str, Secret] = Field(default={})
    """Credentials in the body, such as `{ api_key = "${KEY}" }`; the body must be a table, or a
    list of tables, each of which gets them."""
    hmac: HmacSignature | None = None
    """A signature of each request."""
    oauth2: ClientCredentials | None = None
    """Access tokens, which the gateway fetches, keeps and renews."""

    @field_validator("bearer")
    @classmethod
    def _fits_a_header(cls, token: Secret | None) -> Secret | None:
        if token is not None and (wrong := header_value_problem(token.get_secret_value())):
            raise ValueError(wrong.replace("the header's value", "the token"))
        return token

    @field_validator("header")
    @classmethod
    def _are_headers(cls, table: Mapping[str, Secret]) -> Mapping[str, Secret]:
        for name, value in table.items():
            if wrong := header_name_problem(name, 'x-api-key = "..."'):
                raise ValueError(wrong)
            if wrong := header_value_problem(value.get_secret_value()):
                raise ValueError(f"{name}: {wrong}")
        return table

    @field_validator("path")
    @classmethod
    def _is_path(cls, path: Secret | None) -> Secret | None:
        text = path.get_secret_value().strip("/") if path is not None else "x"
        if not PATH.fullmatch(text) or not DOTS.isdisjoint(text.split("/")):
            raise ValueError('must be the end of a path, such as "T000/B000/key", without ? and #')
        return path

    @model_validator(mode="after")
    def _one_of_a_kind(self) -> "AuthTable":
        named = {"bearer": self.bearer, "basic": self.basic, "oauth2": self.oauth2}
        given = [name for name, one in named.items() if one is not None]
        if len(given) > 1:
            raise ValueError(f"has {' and '.join(given)}, which set the same header; keep one")
        if self.hmac is not None and self.oauth2 is not None:
            raise ValueError("has hmac and oauth2; keep one of them")
        return self

    def fixed_headers(self) -> dict[str, str]:
        """Return the headers that are the same for all requests; names are lower-case."""
        found = {name.lower(): value.get_secret_value() for name, value in self.header.items()}
        if self.bearer is not None:
            found["authorization"] = f"Bearer {self.bearer.get_secret_value()}"
        if self.basic is not None:
            user, password = self.basic.user, self.basic.password
            found["authorization"] = as_basic(user.get_secret_value(), password.get_secret_value())
        return found

    def authorization(self) -> Authorization | None:
        """Return what each attempt needs anew; None if nothing."""
        if self.hmac is not None:
            return Signatures(self.hmac)
        return AccessTokens(self.oauth2) if self.oauth2 is not None else None


class Signatures(Authorization):
    """Signs each request when it is sent."""

    def __init__(self, config: HmacSignature) -> None:
        self._config = config
        self._secret = config.secret.get_secret_value().encode()

    def headers(self, request: Request, now: datetime, token: str) -> Mapping[str, str]:  # noqa: ARG002 - there are no tokens
        """Return the header with the signature, and that with the time if there is one."""
        config = self._config
        timestamp = str(int(now.timestamp() * UNIX[config.timestamp]))
        parts = urlsplit(request.url)
        path = f"{parts.path}?{parts.query}" if parts.query else parts.path
        signed: bytes = request.body
        if config.payload.text != "body":
            known = {
                "timestamp": timestamp,
                "body": request.body.decode("utf-8", "replace"),
                "method": request.method,
                "path": path,
            }
            signed = _text(config.payload, known).encode()
        digest = hmac.new(self._secret, signed, config.algorithm).digest()
        written = digest.hex() if config.encoding == "hex" else base64.b64encode(digest).decode()
        value = _text(config.value, {"timestamp": timestamp, "signature": written})
        timed = {config.timestamp_header.lower(): timestamp} if config.timestamp_header else {}
        return {config.header.lower(): value, **timed}


def _text(expression: TextExpression, known: Mapping[str, str]) -> str:
    found = expression.compute(known)
    if found.error:
        raise ValueError(f"{expression.text}: {found.error}")
    return str(found.value)


class AccessTokens(Authorization):
    """Gets tokens by the client credentials grant."""

    def __init__(self, config: ClientCredentials) -> None:
        self._config = config

    def token_request(self) -> Request:
        """Return the token request (RFC 6749, section 4.4.2)."""
        config = self._config
        secret = config.client_secret.get_secret_value()
        fields: dict[str, Any] = {"grant_type": "client_credentials", **config.parameters}
        if config.scope:
            fields["scope"] = config.scope
        headers = {"content-type": FORM, "accept": "application/json"}
        if config.client_authentication == "basic":
            encoded = [urlencode({"": one})[1:] for one in (config.client_id, secret)]
            headers["authorization"] = as_basic(*encoded)
        else:
            fields |= {"client_id": config.client_id, "client_secret": secret}
        return Request(
            method="POST", url=config.token_url, headers=headers, body=urlencode(fields).encode()
        )

    def read_token(self, response: Response) -> AccessToken:
        """Return the token (RFC 6749, section 5.1).

        Raises:
            ValueError: the server refuses, or its response has no token that a header can carry.
        """
        said = envelope(response)
        value, lifetime = said.get("access_token"), said.get("expires_in", LIFETIME)
        if not isinstance(value, str) or not value:
            raise ValueError(f"HTTP {response.status} from {self._config.token_url}")
        wrong = header_value_problem(value) or " " in value
        if wrong or len(value) > LONGEST:
            raise ValueError(
                f"the access_token from {self._config.token_url} fits into no header: it must be "
                f"printable ASCII without spaces, of at most {LONGEST} characters"
            )
        try:
            return AccessToken(value, min(max(1.0, float(lifetime)), LONGEST_LIFETIME))
        except (TypeError, ValueError, OverflowError):
            return AccessToken(value, LIFETIME)

    def headers(self, request: Request, now: datetime, token: str) -> Mapping[str, str]:  # noqa: ARG002 - it depends on the token alone
        """Return the header with the token (RFC 6750, section 2.1)."""
        return {"authorization": f"Bearer {token}"}
