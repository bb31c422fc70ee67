"""Redact secrets: known values, and all values under names such as ``password``.

A value under such a name is always redacted, whatever the configuration. Names are compared by
their letters, so ``access_token``, ``accessToken`` and ``X-Access-Token`` are the same name. Only
the whole name counts, so ``secretary``, ``tokenised`` and ``token_count`` are not secret.
"""

import base64
import html
import json
import re
import string
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Self
from urllib.parse import parse_qsl, quote, quote_plus, unquote, urlsplit

import orjson
from pydantic import BaseModel, SecretStr

from gateway.http import Request
from gateway.json_text import clean_text

HIDDEN = "***"
_ENDS = (
    "token", "secret", "password", "passwd", "passphrase", "passcode", "authorization", "cookie",
    "apikey", "writekey", "secretkey", "privatekey", "accesskey", "signingkey",
    "encryptionkey", "sessionkey", "authkey", "sharedkey", "clientkey", "masterkey", "appkey",
)  # fmt: skip
"""Endings of secret names, letters only."""
_WHOLE = frozenset({"pwd", "jwt", "cvv", "cvc", "otp"})
"""Last words of secret names; whole words only, since other words contain them too."""
_ANYWHERE = ("password", "passwd", "passphrase")
_VALUE = re.compile(r"(?:value|text|string|header|hash)$")
"""Words that may follow a secret name: ``token_value``."""
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_LETTERS = re.compile(r"[^a-z]")
_HINTS = (
    "token", "secret", "passw", "passphrase", "passcode", "authorization", "cookie", "key", "jwt",
    "pwd", "cvv", "cvc", "otp",
)  # fmt: skip
"""Every secret name contains one of these; most texts contain none, and need no further search."""
_HINT = re.compile("|".join(_HINTS), re.IGNORECASE)
_IN_RUNS = frozenset("_.$[]%-")
_RUN = re.compile(r"[\w.$\[\]%-]++")
"""An unbroken run of the characters of names and URLs."""
MOST_SPACE = 40
"""Most characters between a name and its value."""

_NAME = re.compile(
    r"""
    (?: (?<![\w.$\[\]-]) | (?<=%[0-9a-f]{2}) )
    (?P<name> (?: [\w.$\[\]-] | %5[bdf] | %2[de] )++ )    # from its beginning to its end
    (?P<close> (?: \\ | %5c ){0,16}+ (?: ["'] | %2[27] ) )?    # its quote
    \s* (?: [:=] | %3[ad] ) \s*
    """,
    re.IGNORECASE | re.VERBOSE,
)
"""A name in JSON (also nested in JSON or a URL), in a form, a query or a header line."""
_TEXT = re.compile(
    r"""
    (?P<plain> ["'] ) (?: \\. | (?! (?P=plain) | \\ ) . )*+
    | (?P<quote> (?:\\|%5c){0,16}+ (?:["']|%2[27]) ) (?: (?! (?<!\\)(?P=quote) ) . )*+
    """,
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
"""A string, up to its closing quote or to the end of the text."""
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
    """Return whether *name* is the name of a secret."""
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
    """Return whether a *path* such as ``properties.auth.token`` contains the name of a secret."""
    return any(map(is_secret, path.split(".")))


def without_secrets(value: Any) -> Any:
    """Return JSON values with asterisks for the values under names of secrets.

    Booleans, null, empty values, and numbers under a plural such as ``tokens`` stay. A value that
    is nested deeper than Python's recursion limit becomes asterisks as a whole.
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
    """Return whether a field called ``cookie`` holds an id, as in Quartic's format.

    A browser's cookie header has an equals sign (RFC 6265, section 4.2.1).
    """
    return name == "cookie" and isinstance(value, str) and not _PAIR.search(value)


def text_without_secrets(text: str) -> str:
    """Return *text* with asterisks for the values after names of secrets."""
    if "\\u00" in text:
        text = _ESCAPED.sub(_unescaped, text)
    low = text.lower()
    if not any(map(low.__contains__, _HINTS)):
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
    """Yield the names in the run of characters from around *begin* to *end*.

    It reads nothing before *done* and nothing twice, so the time is linear in the text.
    """
    while begin > done and (text[begin - 1].isalnum() or text[begin - 1] in _IN_RUNS):
        begin -= 1
    while found := _NAME.search(text, begin, end + MOST_SPACE):
        if found.start() >= end:
            return
        yield found
        begin = found.end()


def _unescaped(found: re.Match[str]) -> str:
    """Return the letter or digit of a JSON escape; any other escape stays."""
    character = chr(int(found[1], 16))
    return character if character.isalnum() or character in "_-." else found[0]


def _shown(text: str, name: re.Match[str]) -> tuple[str, int] | None:
    """Return the redacted value after a *name*, and where the value ends; None to keep it."""
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
    """Return the end of the list or object that begins at *begin*, or the end of *text*."""
    depth = 0
    for found in _BRACKET.finditer(text, begin):
        depth += 1 if found[0] in "[{" else -1
        if not depth:
            return found.end()
    return len(text)


SHORTEST = 4
"""Characters; shorter secrets are not redacted, since that would garble every text."""


SHORTEST_PART = 12
"""Characters; a shorter last part of a secret URL's path is a word such as ``alerts``."""

_USERINFO = re.compile(r"(?<=://)[^/?#@\s\"']+@")
"""User and password of a URL (RFC 3986, section 3.2.1)."""
_URL = re.compile(r"(?<=://)[^\"\n]+")
"""A URL after its scheme, and what follows: passwords may have any character."""
_AFTER = " \t,]}'"
"""What may end a text in which a URL stands."""
_ESCAPE = re.compile(r"%[0-9A-F]{2}")
_WORDS = "secret|password|passwd|api_?key|write_?key|access_?token|auth_?token|client_?token"
CREDENTIAL_NAME = re.compile(rf"(?:{_WORDS}|authorization|cookie)$", re.IGNORECASE)
"""Names of fields that hold credentials."""


def find_secrets(settings: object) -> tuple[str, ...]:
    """Return all secrets in *settings*, the longest first.

    They are the values of secret fields, and user and password of URLs, at any depth.
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
    """Yield the secret parts of a URL that is secret as a whole, such as a chat webhook."""
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
    """Yield the forms of *secret* in a text: plain, in a URL, JSON, HTML, and inside base64.

    Base64 encodes three bytes as four characters, so there are three forms, one per offset,
    without the characters that a secret shares with its neighbours. A Basic header contains
    credentials in base64 (RFC 7617).
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


def without_url_secrets(text: str) -> str:
    """Return *text* with the user, the password and the query of each URL in it redacted.

    What cannot be told from a password or a query is redacted, too: it is for what is only shown.
    """
    return _URL.sub(_without_secrets, text) if "://" in text else text


def _without_secrets(url: re.Match[str]) -> str:
    shown = url[0].rstrip(_AFTER)
    end = url[0][len(shown) :]
    if "@" in shown:
        shown = f"{HIDDEN}@{shown.rpartition('@')[2]}"
    place, mark, query = shown.partition("?")
    return f"{place}{mark}{HIDDEN if query else ''}{end}"


def without_password(url: str) -> str:
    """Return *url* with user and password redacted."""
    parts = urlsplit(url)
    _, at, host = parts.netloc.rpartition("@")
    return parts._replace(netloc=f"{HIDDEN}@{host}" if at else host).geturl()


_REST = re.compile(r"[\w-]*+=*+", re.ASCII)
"""What may follow a secret in the same token; base64 ends with equals signs."""
_TOKEN = frozenset(string.ascii_letters + string.digits + "_-")


def _masked(text: str, secret: str) -> str:
    """Return *text* with asterisks for each token that contains *secret*, so that no half is left.

    The secret may be a part of a longer word by chance, or of a longer credential.
    """
    pieces: list[str] = []
    done = 0
    while (at := text.find(secret, done)) >= 0:
        begin = at
        while begin > done and text[begin - 1] in _TOKEN:
            begin -= 1
        begin = min(at, begin + _escape_length(text, begin))
        rest = _REST.match(text, at + len(secret))
        pieces += (text[done:begin], HIDDEN)
        done = rest.end() if rest else at + len(secret)
    return "".join(pieces) + text[done:]


def _escape_length(text: str, begin: int) -> int:
    """Return how many characters from *begin* on belong to an escape of JSON or of a URL."""
    before = text[begin - 1 : begin]
    if before == "%":
        return 2
    if before != "\\":
        return 0
    return 5 if text[begin] == "u" else 1


class Redactor:
    """Replaces secrets in texts and requests by asterisks.

    It redacts the secrets that it knows, in any spelling, with the whole token around them; user
    and password of URLs; and all values under names such as ``api_key``.

    Args:
        settings: of a destination, or any settings; the values of secret fields are redacted.
        more: further secrets.
    """

    def __init__(self, settings: object = None, more: Iterable[str] = ()) -> None:
        held = {*find_secrets(settings), *(secret for secret in more if len(secret) >= SHORTEST)}
        self._hide(text for secret in held for text in spellings(secret))

    def _hide(self, texts: Iterable[str]) -> None:
        self._secrets = sorted(set(texts), key=len, reverse=True)

    @property
    def longest(self) -> int:
        """Return the length of the longest spelling of a secret."""
        return len(self._secrets[0]) if self._secrets else 0

    def combined_with(self, other: Self) -> Self:
        """Return a redactor of the secrets of both."""
        return self.with_secrets(other._secrets)

    def with_secrets(self, more: Iterable[str]) -> Self:
        """Return a redactor that also redacts *more*, only in the given spelling."""
        other = type(self)()
        other._hide((*self._secrets, *(one for one in more if len(one) >= SHORTEST)))  # noqa: SLF001 - same class
        return other

    def text(self, text: str) -> str:
        """Return *text* without secrets."""
        return text_without_secrets(self.known(text))

    def known(self, text: str) -> str:
        """Return *text* without known secrets; values under names of secrets stay."""
        for secret in self._secrets:
            if secret in text:
                text = _masked(text, secret)
        return _USERINFO.sub(f"{HIDDEN}@", text) if "://" in text else text

    def text_short(self, text: str) -> str:
        """Return a truncated *text* without secrets, not even a cut one at its end.

        Lone surrogates, which nothing can store, are replaced. Four or more first
        characters of a secret at the end count as a cut secret.
        """
        text = self.text(clean_text(text))
        end = text[-self.longest :] if self._secrets else ""
        for secret in self._secrets:
            at = end.find(secret[:SHORTEST])
            while at >= 0:
                if secret.startswith(end[at:]):
                    return text[: len(text) - len(end) + at] + HIDDEN
                at = end.find(secret[:SHORTEST], at + 1)
        return text

    def request(self, request: Request) -> dict[str, Any]:
        """Return *request* as JSON values without secrets."""
        return {
            "method": request.method,
            "url": self.text(request.url),
            "headers": {name: self.text(value) for name, value in request.headers.items()},
            "body": self.text(request.body.decode("utf-8", "replace")),
        }
