"""Hide credentials in the text of a configuration file, however TOML lets one write them.

The text is read token by token, so that each value has the keys that lead to it: in headers, dotted
and quoted keys, inline tables and arrays. Of a file that is no TOML, nobody knows what is a value:
only lines whose meaning is plain are shown.
"""

import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from gateway.redact import HIDDEN, Redactor, is_secret, without_url_secrets

_TOKEN = re.compile(
    r"""
      (?P<comment> \#[^\n]* )
    | (?P<triple>  \"{3} (?: \\. | [^\\] )*? \"{3,5} | '{3} .*? '{3,5} )
    | (?P<open>    \"{3} | '{3} )
    | (?P<string>  " (?: \\[^\n] | [^"\\\n] )* " | '[^'\n]*' )
    | (?P<broken>  ["'][^\n]* )
    | (?P<mark>    [][{},=.\n] )
    | (?P<space>   [^\S\n]+ )
    | (?P<bare>    [^][{},=.\s"'#]+ )
    """,
    re.VERBOSE | re.DOTALL,
)
_COMMENTS = re.compile(r"(?:^[^\S\n]*\#[^\n]*(?:\n|\Z))+", re.MULTILINE)
"""Lines that are comments and nothing else."""
_REFERENCE = re.compile(r"\$\{\w+\}|file:.*|any")
"""A value that names a credential, and is none; ``any`` stands for all of them."""
_NAMED_TABLES = frozenset({"sources", "destinations"})
"""Tables whose second name is the user's own."""
_PLAIN = frozenset({"true", "false"})
_QUOTES = 3
_TRIPLE = frozenset({'"' * _QUOTES, "'" * _QUOTES})


_HEADER = re.compile(r"\s*\[{1,2}(?P<names>[\w. -]+)\]{1,2}\s*")
_BRACKETS = re.compile(r"(?:\s*[\w-]+\s*=\s*[\[{])[\s\]\[{},]*|[\s\]\[{},]+")
_KEY = re.compile(r"\s*#?\s*(?P<key>[\w-]+)\s*=\s*")
_SETTING = re.compile(r"""\s*(?P<key>[\w-]+)\s*=\s*(?:"[^"\\]*"|'[^']*'|[\w.:+-]+)\s*""")
_SOMETIMES = frozenset({"url", "headers", "path", "query", "header"})
"""Keys of settings that may hold a credential."""


class SecretKeys(NamedTuple):
    """The keys under which credentials stand."""

    everywhere: frozenset[str]
    by_table: Mapping[str, frozenset[str]]
    """Further ones, by the first name of their tables."""
    plain: Mapping[str, frozenset[str]]
    """By table: keys of settings whose values are none, whatever their names suggest."""

    def lead_to(self, path: Sequence[str]) -> bool:
        """Return whether a value under these keys is, or may be, a credential."""
        if not path:
            return False
        within = path[2:] if path[0] in _NAMED_TABLES else path
        secret = self.everywhere.union(self.by_table.get(path[0], ()))
        plain = self.plain.get(path[0], frozenset())
        return any(key in secret or (key not in plain and is_secret(key)) for key in within)

    def is_plain(self, table: Sequence[str], key: str) -> bool:
        """Return whether a key that stands directly in a table is one of a value to show."""
        most = 2 if table and table[0] in _NAMED_TABLES else 1
        found = self.plain.get(table[0], frozenset()) if table else frozenset()
        return len(table) == most and key in found - _SOMETIMES

    def knows(self, key: str) -> bool:
        """Return whether a setting has this key."""
        return any(
            key in some for some in (self.everywhere, *self.by_table.values(), *self.plain.values())
        )


class _Token(NamedTuple):
    kind: str
    text: str


def masked(text: str, secret: SecretKeys, redactor: Redactor) -> str:
    """Return the *text* of a file with as many lines, without credentials.

    Values of secret keys are hidden, whether the file is in effect or is valid at all; so are those
    that the redactor knows, and what URLs have before the host and in the query. Values that name a
    variable or a file are shown.
    """
    if _is_toml(text):
        return _Masking(secret, redactor).whole(text)
    return "\n".join(_lines_of_invalid(text, secret, redactor))


def _lines_of_invalid(text: str, secret: SecretKeys, redactor: Redactor) -> Iterator[str]:
    """Yield the lines of a file that is no TOML, hidden unless plainly without a secret."""
    table: list[str] = []
    for line in text.split("\n"):
        if header := _HEADER.fullmatch(line):
            table = [name.strip() for name in header["names"].split(".")]
        known = redactor.known(line)
        if header or not line.strip() or _BRACKETS.fullmatch(line):
            yield known
        elif (found := _SETTING.fullmatch(line)) and secret.is_plain(table, found["key"]):
            yield without_url_secrets(known)
        else:
            key = _KEY.match(line)
            yield f"{key[0] if key and secret.knows(key['key']) else ''}{HIDDEN}"


def _is_toml(text: str) -> bool:
    try:
        tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError):
        return False
    return True


class _Masking:
    """Masks a file that is valid."""

    def __init__(self, secret: SecretKeys, redactor: Redactor) -> None:
        self._secret, self._redactor = secret, redactor

    def whole(self, text: str) -> str:
        """Return a file without credentials: comments of several lines are read as one text."""
        reader = _Reader()
        parts, start = [], 0
        for block in _comment_blocks(text):
            parts.append(self._code(text[start : block.start()], reader))
            parts.append(self._comments(block[0], reader))
            start = block.end()
        parts.append(self._code(text[start:], reader))
        lines = "".join(parts).split("\n")
        return "\n".join(self._redactor.known(line) for line in lines)

    def _comments(self, block: str, reader: "_Reader") -> str:
        lines = block.split("\n")
        marks = [line[: len(line) - len(line.lstrip("# \t"))] for line in lines]
        if self._within_secret(reader):
            told = [
                HIDDEN if len(mark) < len(line) else ""
                for line, mark in zip(lines, marks, strict=True)
            ]
            return "\n".join(mark + line for mark, line in zip(marks, told, strict=True))
        inner = "\n".join(line[len(mark) :] for line, mark in zip(lines, marks, strict=True))
        told = [self._prose(line) for line in self._read(inner, reader).split("\n")]
        return "\n".join(mark + line for mark, line in zip(marks, told, strict=True))

    def _code(self, text: str, reader: "_Reader", *, prose: bool = False) -> str:
        return "".join(self._tokens(text, reader, prose=prose))

    def _tokens(self, text: str, reader: "_Reader", *, prose: bool) -> Iterator[str]:
        at, hid = 0, False
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                yield text[at]
                at += 1
                continue
            token = _Token(found.lastgroup or "", found[0])
            at = found.end()
            if token.kind == "comment":
                yield f"# {HIDDEN}" if hid else self._beside(token.text, reader)
                continue
            if token.kind == "open" and self._secret.lead_to(reader.path_of_value):
                yield token.text + _hidden_lines(text[at:])
                return
            reader.see(token)
            hid = hid and token.text != "\n"
            if not reader.at_value or token.kind in {"mark", "space"}:
                yield token.text
            elif self._secret.lead_to(reader.path_of_value):
                shown = self._of_secret(token, alone=not prose or _stands_alone(text, found))
                hid = hid or shown != token.text
                yield shown
            else:
                yield self._plain(token)

    def _beside(self, comment: str, reader: "_Reader") -> str:
        """Return a comment after something else on its line."""
        if self._within_secret(reader):
            return f"# {HIDDEN}"
        return "#" + self._prose(self._read(comment[1:], reader))

    def _read(self, comment: str, reader: "_Reader") -> str:
        return self._code(comment, reader.of_comment(), prose=True)

    def _prose(self, comment: str) -> str:
        """Return a comment without what looks like a credential and does not only name one."""
        if "${" in comment or "file:" in comment:
            return without_url_secrets(comment)
        return self._redactor.text(without_url_secrets(comment))

    def _within_secret(self, reader: "_Reader") -> bool:
        """Return whether an array or a table of credentials goes on."""
        return reader.within_brackets and self._secret.lead_to(reader.path_within)

    def _of_secret(self, token: _Token, *, alone: bool) -> str:
        """Return a value of a secret key, hidden unless it only names a credential."""
        if token.kind == "bare":
            return token.text if token.text in _PLAIN or not alone else HIDDEN
        value = _decoded(token.text)
        if value is not None and _REFERENCE.fullmatch(value):
            return token.text
        if token.kind == "triple":
            quotes = token.text[:_QUOTES]
            return f"{quotes}{_hidden_lines(token.text[_QUOTES:-_QUOTES])}{quotes}"
        return f'"{HIDDEN}"'

    def _plain(self, token: _Token) -> str:
        """Return another value: hidden if a credential is written with escapes in it."""
        value = _decoded(token.text)
        if value is None or value in token.text:
            return self._redactor.text(without_url_secrets(token.text))
        told = self._redactor.text(without_url_secrets(value))
        return token.text if told == value else self._of_secret(token, alone=True)


class _Reader:
    """Follows the keys of TOML: to which of them a value belongs.

    Args:
        table: the keys of the last header.
    """

    def __init__(self, table: tuple[str, ...] = ()) -> None:
        self._table = table
        self._open: list[tuple[str, tuple[str, ...]]] = []
        """Open brackets, each with the keys of what is in them."""
        self._keys: list[str] = []
        self._path: tuple[str, ...] = ()
        self._place = "key"
        self._comment: _Reader | None = None

    @property
    def within_brackets(self) -> bool:
        """Return whether an array or a table is open."""
        return bool(self._open)

    @property
    def path_within(self) -> tuple[str, ...]:
        """Return the keys that lead to what is in the innermost open bracket."""
        return self._base()

    @property
    def at_value(self) -> bool:
        """Return whether the last token belongs to a value."""
        return self._place == "value"

    @property
    def path_of_value(self) -> tuple[str, ...]:
        """Return the keys that lead to the value."""
        return self._path if self.at_value else ()

    def reset(self) -> None:
        """Begin a line anew: brackets that are still open were a mistake."""
        self._open, self._keys, self._place = [], [], "key"

    def of_comment(self) -> "_Reader":
        """Return the reader of what is commented out here; headers in it count for what follows."""
        if self._comment is None:
            self._comment = _Reader(self._table)
        self._comment.reset()
        return self._comment

    def see(self, token: _Token) -> None:
        """Go on behind a token."""
        if token.kind == "mark":
            self._mark(token.text)
        elif token.kind in {"string", "bare", "broken"}:
            self._keys.append(_key(token))

    def _mark(self, mark: str) -> None:
        if self._place == "header":
            self._in_header(mark)
        elif mark == "=":
            base = self._base()
            if self._place == "value":  # a bracket was not closed, or the line holds two values
                base = self._table if self._open else self._path
                self._open = []
            self._path, self._keys, self._place = (*base, *self._keys), [], "value"
        elif mark == "\n":
            self._end_of_line()
        elif self._place == "key":
            self._in_key(mark)
        elif mark in "[{":
            self._open.append((mark, self._path))
            self._keys, self._place = [], "key" if mark == "{" else "value"
        elif mark in "]},":
            self._close(mark)

    def _in_header(self, mark: str) -> None:
        if mark == "\n":
            self._table = tuple(self._keys)
            self._comment = None
            self.reset()

    def _in_key(self, mark: str) -> None:
        if mark == "[" and not self._open and not self._keys:
            self._place = "header"
        elif mark in "},":
            self._close(mark)

    def _close(self, mark: str) -> None:
        if mark != "," and self._open:
            self._path = self._open.pop()[1]
        self._keys = []
        inside = self._open[-1] if self._open else None
        self._place = "key" if mark == "," and inside and inside[0] == "{" else "value"
        if mark == "," and inside:
            self._path = inside[1]

    def _end_of_line(self) -> None:
        self._keys = []
        if not self._open:
            self.reset()

    def _base(self) -> tuple[str, ...]:
        return self._open[-1][1] if self._open else self._table


def _key(token: _Token) -> str:
    value = _decoded(token.text) if token.kind != "bare" else token.text
    return token.text.strip("\"'") if value is None else value


def _decoded(string: str) -> str | None:
    """Return the value of a string of TOML; None if it is none."""
    if "\\" not in string and string[:_QUOTES] not in _TRIPLE and len(string) > 1:
        return string[1:-1] if string[0] == string[-1] and string[0] in "\"'" else None
    try:
        value = tomllib.loads(f"x = {string}")["x"]
    except tomllib.TOMLDecodeError:
        return None
    return value if isinstance(value, str) else None


def _comment_blocks(text: str) -> Iterator[re.Match[str]]:
    """Yield the lines that are comments, those in a row together."""
    end = 0
    for block in _COMMENTS.finditer(text):
        while end < block.start():
            found = _TOKEN.match(text, end)
            end = found.end() if found else end + 1
        if end == block.start():  # else it is in a string of several lines
            yield block
            end = block.end()


def _stands_alone(text: str, found: re.Match[str]) -> bool:
    """Return whether a bare word is all that follows a ``=``, as no prose has it."""
    begun = text.rfind("\n", 0, found.start()) + 1
    ended = text.find("\n", found.end())
    before, after = text[begun : found.start()], text[found.end() : ended if ended >= 0 else None]
    return before.rstrip().endswith("=") and after.lstrip()[:1] in {"", "#"}


def _hidden_lines(text: str) -> str:
    return "\n".join([HIDDEN] * (text.count("\n") + 1))
