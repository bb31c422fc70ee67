"""Names that only credentials have, and what stands under them.

Whatever the configuration says, a value under such a name is shown to nobody. Names are compared by
their letters, so that ``access_token``, ``accessToken`` and ``X-Access-Token`` are one, and only as
a whole, so that ``secretary``, ``tokenised`` and ``token_count`` are none.
"""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

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
