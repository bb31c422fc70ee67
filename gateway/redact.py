"""Redact secrets, by value and by the names they stand under.

Whatever the configuration says, a value under such a name is shown to nobody. Names are compared by
their letters, so that ``access_token``, ``accessToken`` and ``X-Access-Token`` are one, and only as
a whole, so that ``secretary``, ``tokenised`` and ``token_count`` are none.
"""

import base64
import html
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Self
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

import orjson
from pydantic import BaseModel, SecretStr

from gateway.http import Request

HIDDEN = "***"
_ENDS = (
    "token", "secret", "password", "passwd", "passphrase", "passcode", "authorization", "cookie",
    "apikey", "writekey", "secretkey", "privatekey", "accesskey", "signingkey",
    "encryptionkey", "sessionkey", "authkey", "sharedkey", "clientkey", "masterkey", "appkey",
)  # fmt: skip
"""How such names end, by their letters."""
_WHOLE = frozenset({"pwd", "jwt", "cvv", "cvc", "otp"})
"""Last words of such names that are parts of other words as well."""
_ANYWHERE = ("password", "passwd", "passphrase")
_VALUE = re.compile(r"(?:value|text|string|header|hash)$")
"""What may follow: ``token_value``."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LETTERS = re.compile(r"[^a-z]")
_HINTS = (
    "token", "secret", "passw", "passphrase", "passcode", "authorization", "cookie", "key", "jwt",
    "pwd", "cvv", "cvc", "otp",
)  # fmt: skip
"""What every such name has in it; most texts have none of it."""
_HINT = re.compile("|".join(_HINTS), re.IGNORECASE)
_IN_RUNS = frozenset("_.$[]%-")
_RUN = re.compile(r"[\w.$\[\]%-]++")
"""What names and addresses are made of, without a break."""
MOST_SPACE = 40
"""Characters between a name and its value."""

_NAME = re.compile(
    r"""
    (?: (?<![\w.$\[\]-]) | (?<=%[0-9a-f]{2}) )
    (?P<name> (?: [\w.$\[\]-] | %5[bdf] | %2[de] )++ )    # from its beginning to its end
    (?P<close> (?: \\ | %5c ){0,16}+ (?: ["'] | %2[27] ) )?    # its quote
    \s* (?: [:=] | %3[ad] ) \s*
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""A name, in JSON, also within JSON or an address; in a form, a query, a line of a header."""
_TEXT = re.compile(
    r"""
    (?P<plain> ["'] ) (?: \\. | (?! (?P=plain) | \\ ) . )*+
    | (?P<quote> (?:\\|%5c){0,16}+ (?:["']|%2[27]) ) (?: (?! (?<!\\)(?P=quote) ) . )*+
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""A text, up to its quote or to the end of it all."""
_BRACKET = re.compile(r"[\[\]{}]")
_BARE = re.compile(
    r"""
    (?: (?:bearer|basic|digest|token) \s+ )? [^\s"'&,;{}\[\]\\]++
    (?: ;\s* [^\s;"'&,={}]+ = [^\s;"'&,]+ )*+           # further cookies
    """,
    re.IGNORECASE | re.VERBOSE,
)
_PAIR = re.compile("=|%3d", re.IGNORECASE)
_LITERAL = re.compile(r"true|false|null|none", re.IGNORECASE)
_NUMBER = re.compile(r"-?[0-9.]+")
_ESCAPED = re.compile(r"\\+u00([2-7][0-9a-fA-F])")


def is_secret(name: str) -> bool:
    """Tell whether only credentials have a name."""
    if "%" in name:
        name = unquote(name)
    letters = _LETTERS.sub("", name.lower())
    if not letters:
        return False
    plain = _VALUE.sub("", letters).removesuffix("s") or letters
    if plain.endswith(_ENDS) or any(part in letters for part in _ANYWHERE):
        return True
    words = _WORD.findall(name)
    return bool(words) and words[-1].lower() in _WHOLE


def hides(path: str) -> bool:
    """Tell whether only credentials stand at a *path* such as ``properties.auth.token``."""
    return any(map(is_secret, path.split(".")))


def without_secrets(value: Any) -> Any:
    """Return JSON values with asterisks for what stands under a name that only credentials have.

    Truth values, nothing, empty values, and the number of such as ``tokens`` stay. What is nested
    more deeply than Python goes is left out.
    """
    try:
        return _without(value)
    except RecursionError:
        return HIDDEN


def _without(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: HIDDEN if _hides(str(name), inner) else _without(inner)
            for name, inner in value.items()
        }
    if isinstance(value, list | tuple):
        return [_without(inner) for inner in value]
    return value


def _hides(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool) or value in ("", [], {}, ()):
        return False
    if isinstance(value, int | float) and name.lower().endswith("s"):
        return False
    return is_secret(name) and not _is_visitor(name, value)


def _is_visitor(name: str, value: object) -> bool:
    """Tell whether a field called just ``cookie`` holds an id, as Quartic's does.

    What a browser sends under that name has an equals sign (RFC 6265, section 4.2.1).
    """
    return name == "cookie" and isinstance(value, str) and not _PAIR.search(value)


def text_without_secrets(text: str) -> str:
    """Return *text* with asterisks for what stands under a name that only credentials have."""
    if "\\u00" in text:
        text = _ESCAPED.sub(_unescaped, text)
    low = text.lower()
    if not any(hint in low for hint in _HINTS):
        return text
    pieces: list[str] = []
    done = at = 0
    while hint := _HINT.search(text, at):
        run = _RUN.match(text, hint.start())
        at = run.end() if run else hint.end()
        for found in _names(text, hint.start(), done, at):
            if is_secret(found["name"]) and (shown := _shown(text, found)) is not None:
                said, end = shown
                pieces += (text[done : found.end()], said)
                done = at = end
                break
    return "".join(pieces) + text[done:] if pieces else text


def _names(text: str, begin: int, done: int, end: int) -> Iterator[re.Match[str]]:
    """Yield the names that stand in the run of characters from around *begin* to *end*.

    Nothing before *done* is looked at, nor anything twice, so that no text takes long.
    """
    while begin > done and (text[begin - 1].isalnum() or text[begin - 1] in _IN_RUNS):
        begin -= 1
    while found := _NAME.search(text, begin, end + MOST_SPACE):
        if found.start() >= end:
            return
        yield found
        begin = found.end()


def _unescaped(found: re.Match[str]) -> str:
    """Return the letter or digit that an escape of JSON stands for; any other escape stays."""
    character = chr(int(found[1], 16))
    return character if character.isalnum() or character in "_-." else found[0]


def _shown(text: str, name: re.Match[str]) -> tuple[str, int] | None:
    """Return what is shown of the value after a *name*, and where it ends; None for all of it."""
    close = name["close"] or ""
    if found := _TEXT.match(text, name.end()):
        quote = found["plain"] or found["quote"]
        if found[0] == quote or (close and _is_visitor(name["name"], found[0])):
            return None
        return f"{quote}{HIDDEN}", found.end()
    if text[name.end() : name.end() + 1] in {"[", "{"}:
        end = _closed(text, name.end())
        return None if end == name.end() + 2 else (f"{close}{HIDDEN}{close}", end)  # an empty one
    found = _BARE.match(text, name.end())
    if found is None or _LITERAL.fullmatch(found[0]):
        return None
    if name["name"].lower().endswith("s") and _NUMBER.fullmatch(found[0]):
        return None
    return f"{close}{HIDDEN}{close}", found.end()


def _closed(text: str, begin: int) -> int:
    """Return where the list or the object ends that begins at *begin*, or where all does."""
    depth = 0
    for found in _BRACKET.finditer(text, begin):
        depth += 1 if found[0] in "[{" else -1
        if not depth:
            return found.end()
    return len(text)


SHORTEST = 4
"""Shorter secrets are not searched for: replacing them would garble every text."""


SHORTEST_PART = 12
"""The last part of a secret address's path is a word if it is shorter, such as ``alerts``."""

_USERINFO = re.compile(r"(?<=://)[^/?#@\s\"']+@")
"""The name and password of an address (RFC 3986, section 3.2.1)."""
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_WORDS = "secret|password|passwd|api_?key|write_?key|access_?token|auth_?token|client_?token"
CREDENTIAL_NAME = re.compile(rf"(?:{_WORDS}|authorization|cookie)$", re.IGNORECASE)
"""Names of fields that hold credentials."""


def find_secrets(settings: object) -> tuple[str, ...]:
    """Return all credentials in *settings*, the longest first.

    They stand in secret fields, and in addresses before the host, however deep within.
    """
    values = {value for value in _held(settings) if len(value) >= SHORTEST}
    return tuple(sorted(values, key=len, reverse=True))


def _held(value: object) -> Iterator[str]:
    if isinstance(value, SecretStr):
        yield value.get_secret_value()
        yield from _within(value.get_secret_value())
    elif isinstance(value, str):
        if "://" in value and "@" in value:
            yield from _userinfo(value)
    elif isinstance(value, BaseModel):
        for name in type(value).model_fields:
            yield from _held(getattr(value, name))
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _held(inner)
    elif isinstance(value, tuple | list):
        for inner in value:
            yield from _held(inner)


def _within(secret: str) -> Iterator[str]:
    """Yield what is the credential of an address that is secret as a whole, as of chat programs."""
    if "://" not in secret:
        return
    yield from _userinfo(secret)
    with suppress(ValueError):
        parts = urlsplit(secret)
        said = (parts.path.rpartition("/")[2], *(value for _, value in parse_qsl(parts.query)))
        yield from (one for one in said if len(one) >= SHORTEST_PART)


def _userinfo(url: str) -> Iterator[str]:
    try:
        userinfo, at, _ = urlsplit(url).netloc.rpartition("@")
    except ValueError:
        return
    if at:
        yield userinfo
        yield unquote(userinfo)
        yield unquote(userinfo.partition(":")[2] or userinfo)


def spellings(secret: str) -> Iterator[str]:
    """Yield *secret* as it may stand in a text: plain, in a URL, JSON, HTML, within base64.

    Base64 turns every three bytes into four characters, so there are three ways in which a
    secret may stand in what was encoded; the characters that it shares with its neighbours are
    left out. RFC 7617 has credentials so in a Basic header.
    """
    yield secret
    for quoted in (quote(secret, safe=""), quote(secret), quote_plus(secret)):
        yield quoted
        yield _ESCAPE.sub(lambda found: found[0].lower(), quoted)
    for escaped in (orjson.dumps(secret).decode()[1:-1], json.dumps(secret)[1:-1]):
        yield escaped
        yield escaped.replace("/", "\\/")
        yield from (json.dumps(escaped)[1:-1], orjson.dumps(escaped).decode()[1:-1])
    yield html.escape(secret)
    raw = secret.encode()
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + raw).decode()
        first = -(-before * 8 // 6)
        whole = encoded[first : (before + len(raw)) * 8 // 6]
        if len(whole) >= SHORTEST:
            yield whole
            yield whole.replace("+", "-").replace("/", "_")


def without_password(url: str) -> str:
    """Return *url* without the name and password that may stand in it."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{HIDDEN}@{host}" if at else host).geturl()


class Redactor:
    """Replaces credentials wherever they stand.

    Those that it knows, in any spelling, and whatever stands where only credentials do: before
    the host of an address, or under a name such as ``api_key``.

    Args:
        settings: a destination's, or anything made of settings; those in its secret fields.
        more: further ones.
    """

    def __init__(self, settings: object = None, more: Iterable[str] = ()) -> None:
        held = {*find_secrets(settings), *(secret for secret in more if len(secret) >= SHORTEST)}
        self._hide(text for secret in held for text in spellings(secret))

    def _hide(self, texts: Iterable[str]) -> None:
        self._secrets = sorted(set(texts), key=len, reverse=True)

    @property
    def longest(self) -> int:
        """Return how long the longest spelling of a credential is: what may straddle a cut."""
        return len(self._secrets[0]) if self._secrets else 0

    def combined_with(self, other: Self) -> Self:
        """Return one that hides what this one and *other* hide."""
        return self.with_secrets(other._secrets)

    def with_secrets(self, more: Iterable[str]) -> Self:
        """Return one that hides *more* besides, each as it is spelt there."""
        other = type(self)()
        other._hide((*self._secrets, *(one for one in more if len(one) >= SHORTEST)))  # noqa: SLF001 - it is one of us
        return other

    def text(self, text: str) -> str:
        """Return *text* without credentials."""
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        if "://" in text:
            text = _USERINFO.sub(f"{HIDDEN}@", text)
        return text_without_secrets(text)

    def text_short(self, text: str) -> str:
        """Return *text*, which may have been cut off, without even the beginning of a credential.

        Four characters of one or more at the very end count as such.
        """
        text = self.text(text)
        end = text[-self.longest :] if self._secrets else ""
        for secret in self._secrets:
            at = end.find(secret[:SHORTEST])
            while at >= 0:
                if secret.startswith(end[at:]):
                    return text[: len(text) - len(end) + at] + HIDDEN
                at = end.find(secret[:SHORTEST], at + 1)
        return text

    def request(self, request: Request) -> dict[str, Any]:
        """Return *request* as JSON values without credentials."""
        return {
            "method": request.method,
            "url": self.text(request.url),
            "headers": {name: self.text(value) for name, value in request.headers.items()},
            "body": self.text(request.body.decode("utf-8", "replace")),
        }
