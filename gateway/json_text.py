"""Read and write JSON, including input that orjson rejects or rounds.

A lone surrogate and bytes that are not UTF-8 become U+FFFD, as in the WHATWG Encoding Standard
(https://encoding.spec.whatwg.org/), so that they do not cost the whole body. A number with more
digits than a double holds keeps its digits (docs/decisions/0033-real-traffic.md).
"""

import re
from collections.abc import Callable
from decimal import Decimal
from secrets import token_hex
from typing import Any, Final, Self
from urllib.parse import parse_qsl

import msgspec
import orjson

from gateway.errors import Fault, Rejected

LEAST, MOST = -(2**63), 2**64 - 1
"""Range of the integers that orjson reads exactly."""
SAFE: Final = 16
"""Characters; a number of at most this length is exact as a double."""
REPLACEMENT: Final = "\ufffd"
LONGEST_QUOTE: Final = 80
"""Characters of a value that an error message quotes."""
_RUN: Final = b"0" * (SAFE + 1)
_STEP: Final = 4
_SAMPLED_RUN: Final = b"0" * ((SAFE + 1) // _STEP)
"""The least that a run leaves of itself at every fourth byte."""
_AS_RUN: Final = bytes.maketrans(b"123456789.", b"0000000000")
_LONG: Final = re.compile(rb"(?:\A|[:\[,])\s*-?[0-9][0-9.]{%d,}" % SAFE)
_TOKEN: Final = re.compile(
    rb'"(?>[^"\\]*(?:\\.[^"\\]*)*)(?:"|\\?\Z)|'
    rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?",
    re.DOTALL,
)
"""A string, closed or not, or a number."""
_MARK: Final = token_hex(16)
"""Prefix of a number that orjson reads as text. It is random, so that senders cannot guess it."""
_ESCAPE: Final = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}"
    rb"|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)
"""An escape in a string; the group matches a lone surrogate."""
_PAIR: Final = re.compile(rb"\xed[\xa0-\xaf][\x80-\xbf]\xed[\xb0-\xbf][\x80-\xbf]")
_HALF: Final = re.compile(rb"\xed[\xa0-\xbf][\x80-\xbf]")
"""Surrogates in CESU-8; these bytes never occur in UTF-8."""
_SURROGATES: Final = re.compile(r"[\ud800-\udfff]")


class LongNumber(float):
    """A number with more digits than a double holds.

    It calculates as the nearest double; as text and in JSON it has all its digits.
    """

    __slots__ = ("text",)

    text: str

    def __new__(cls, text: str) -> Self:
        """Return the number of the JSON *text*."""
        self = super().__new__(cls, text)
        self.text = text
        return self

    def __getnewargs__(self) -> tuple[str]:  # type: ignore[override]  # of a float, its value
        """Return the arguments that make a copy."""
        return (self.text,)

    def __str__(self) -> str:
        """Return all digits."""
        return self.text

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        """Return whether both are the same number; two long ones are compared by their digits."""
        if isinstance(other, LongNumber):
            return self.text == other.text
        return super().__eq__(other)

    def __ne__(self, other: object) -> bool:
        """Return whether they differ."""
        return not self == other

    __hash__ = float.__hash__


class LongInteger(LongNumber):
    """An integer of more than 64 bits."""

    __slots__ = ()


def loads(body: bytes | str, *, mend: bool = True) -> Any:
    """Return the JSON values in *body*.

    Args:
        body: as received.
        mend: read invalid text as U+FFFD (`repaired`) instead of rejecting it.

    Raises:
        orjson.JSONDecodeError: the body is not JSON.
    """
    written = body.encode("utf-8", "surrogatepass") if isinstance(body, str) else body
    try:
        found = orjson.loads(written)
    except orjson.JSONDecodeError:
        written = repaired(written) if mend else written
        marked = _TOKEN.sub(_marked, written)
        return _unmarked(orjson.loads(marked)) if marked != written else orjson.loads(written)
    if _may_be_long(written) and _LONG.search(written):
        marked = _TOKEN.sub(_marked, written)
        if marked != written:
            return _unmarked(orjson.loads(marked))
    return found


def dumps(value: Any, default: Callable[[Any], Any] | None = None, option: int = 0) -> bytes:
    """Return *value* as JSON, with all digits of long numbers.

    Args:
        value: JSON values; a lone surrogate in a text is written as U+FFFD.
        default: as in orjson, for values of other types.
        option: as in orjson.

    Raises:
        orjson.JSONEncodeError: the value is nested too deeply, or contains another type.
    """
    write = _written if default is None else _written_or(default)
    try:
        return orjson.dumps(value, write, option)
    except orjson.JSONEncodeError as error:
        if "surrogates" not in str(error):
            raise
        return orjson.dumps(_mended(value), write, option)


def is_too_deep(error: Exception) -> bool:
    """Return whether *error* means that a value is nested too deeply for orjson or Python."""
    return isinstance(error, RecursionError) or (
        isinstance(error, orjson.JSONEncodeError) and "Recursion" in str(error)
    )


def digits(value: Any) -> msgspec.Raw:
    """Return a long number for msgspec's JSON encoder; this is its ``enc_hook``.

    Raises:
        NotImplementedError: the value is not a long number.
    """
    if isinstance(value, LongNumber):
        return msgspec.Raw(value.text.encode())
    raise NotImplementedError(type(value).__name__)


def quoted(value: Any) -> str:
    """Return *value* as JSON, truncated for an error message."""
    try:
        text = dumps(value).decode()
    except orjson.JSONEncodeError:
        return "a value that is nested too deeply"
    return text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}…"


def not_json(error: orjson.JSONDecodeError, label: str = "") -> Rejected:
    """Return the error for a body that is not JSON, with the position of the problem.

    Args:
        error: orjson's error; only its position is used.
        label: the content type of the body.
    """
    media = label.partition(";")[0].strip().lower()
    if media.startswith("multipart/"):
        reason = f"the body is {media}; send JSON"
    elif not error.doc.strip():
        reason = "the body is empty; send JSON"
    else:
        reason = f"not valid JSON at line {error.lineno}, column {error.colno}"
    return Rejected("$", reason, Fault.MALFORMED)


def repaired(body: bytes) -> bytes:
    r"""Return *body* with U+FFFD for lone surrogates and for bytes that are not UTF-8.

    Every other byte stays. A surrogate pair in CESU-8 becomes its character.
    """
    if not body.isascii():
        body = text_of(body).encode()
    return _ESCAPE.sub(_paired, body) if b"\\u" in body else body


def as_valid_json(body: bytes) -> bytes:
    """Return the `repaired` *body* if that is JSON, else *body* unchanged."""
    if b"\\u" not in body and body.isascii():
        return body
    fixed = repaired(body)
    return fixed if fixed == body or _is_json(fixed) else body


def text_of(body: bytes) -> str:
    """Return *body* as text; see `repaired`."""
    try:
        return body.decode()
    except UnicodeDecodeError:
        joined = _PAIR.sub(_character, body)
        return _HALF.sub(REPLACEMENT.encode(), joined).decode("utf-8", "replace")


def clean_text(text: str) -> str:
    """Return *text* without lone surrogates; those of ``surrogateescape`` become their bytes."""
    if text.isascii() or not _SURROGATES.search(text):
        return text
    try:
        return text_of(text.encode("utf-8", "surrogateescape"))
    except UnicodeEncodeError:
        return _SURROGATES.sub(REPLACEMENT, text.encode("utf-16", "surrogatepass").decode(
            "utf-16", "replace"
        ))  # fmt: skip


def query_fields(text: str) -> list[tuple[str, str]]:
    """Return the names and values of a query or a form, blank values included."""
    pairs = parse_qsl(text, keep_blank_values=True, errors="surrogateescape")
    return [(clean_text(name), clean_text(value)) for name, value in pairs]


def _paired(found: re.Match[bytes]) -> bytes:
    return found[0] if found[1] is None else b"\\ufffd"


def _character(found: re.Match[bytes]) -> bytes:
    pair = found[0].decode("utf-8", "surrogatepass")
    return pair.encode("utf-16", "surrogatepass").decode("utf-16").encode()


def _may_be_long(body: bytes) -> bool:
    """Return whether *body* has a run of digits and points as long as a long number.

    Such a run shows at every fourth byte too, and to look at these alone takes far less.
    """
    sampled = body[::_STEP].translate(_AS_RUN)
    return _SAMPLED_RUN in sampled and _RUN in body.translate(_AS_RUN)


def _marked(found: re.Match[bytes]) -> bytes:
    token = found[0]
    if token[0] == 0x22 or not _is_long(token):  # noqa: PLR2004 - a quotation mark
        return token
    return b'"%b%b"' % (_MARK.encode(), token)


def _is_long(token: bytes) -> bool:
    """Return whether orjson would round or reject a number."""
    if not {*b".eE"} & {*token}:
        size = len(token)
        return size > 20 or (size > 18 and not LEAST <= int(token) <= MOST)  # noqa: PLR2004 - digits of 64 bits
    text = token.decode()
    double = float(text)
    if double - double != 0:
        return True
    return len(token) > SAFE and Decimal(repr(double)) != Decimal(text)


def _unmarked(value: Any) -> Any:
    top = [value]
    left: list[Any] = [top]
    while left:
        node = left.pop()
        for key, member in node.items() if type(node) is dict else enumerate(node):
            kind = type(member)
            if kind is str:
                if member.startswith(_MARK):
                    node[key] = _number(member[len(_MARK) :])
            elif kind is dict or kind is list:
                left.append(member)
    return top[0]


def _number(text: str) -> LongNumber:
    return LongNumber(text) if {*".eE"} & {*text} else LongInteger(text)


def _written(value: Any) -> Any:
    if isinstance(value, LongNumber):
        return orjson.Fragment(value.text.encode())
    raise TypeError(f"Type is not JSON serializable: {type(value).__name__}")


def _written_or(default: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: _written(value) if isinstance(value, LongNumber) else default(value)


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return clean_text(value)
    if isinstance(value, dict):
        return {clean_text(str(key)): _mended(member) for key, member in value.items()}
    if isinstance(value, list | tuple):
        return [_mended(member) for member in value]
    return value


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError as error:
        return "infinity" in error.msg
    return True
