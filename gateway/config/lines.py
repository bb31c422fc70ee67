"""Where tables and keys stand in the text of a TOML file (https://toml.io/en/v1.0.0)."""

import re
from collections import Counter

_HEADER = re.compile(r"\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(?:#.*)?")
_KEY = re.compile(r"""\s*((?:"[^"]*"|'[^']*'|[\w. -])+?)\s*=""")
_QUOTES = re.compile(r"[\"'\s]")


class Lines:
    """Finds lines by table and key; a key that is written in an unusual way is not found."""

    def __init__(self, text: str) -> None:
        self._found: dict[tuple[str, str], int] = {}
        arrays: Counter[str] = Counter()
        table = ""
        for number, line in enumerate(text.splitlines(), start=1):
            header = _HEADER.fullmatch(line)
            if header:
                table = _QUOTES.sub("", header[2])
                if header[1] == "[[":
                    arrays[table] += 1
                    table = f"{table}.{arrays[table]}"
                self._found.setdefault((table, ""), number)
            elif key := _KEY.match(line):
                self._found.setdefault((table, _QUOTES.sub("", key[1])), number)

    def find(self, table: str, key: str) -> int | None:
        """Return the line of *key* in *table*, or of the table's header, counted from 1."""
        return self.exact(table, key) or self.exact(table, "")

    def exact(self, table: str, key: str) -> int | None:
        """Return the line of *key* in *table*, and no other; it may be a table of its own."""
        key = _QUOTES.sub("", key)
        below = self._found.get((f"{table}.{key}", "")) if key else None
        return self._found.get((table, key)) or below
