# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""The few pieces of Markdown that the generated parts of the documentation are made of."""

from collections.abc import Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).parent.parent
LANGUAGES = {".py": "python", ".json": "json", ".toml": "toml"}


def code(text: str) -> str:
    """Return *text* as code."""
    return f"`{text}`"


def listed(words: Sequence[str], last: str = "and") -> str:
    """Return *words* as a sentence lists them: ``a, b and c``."""
    *most, end = words
    return f"{', '.join(most)} {last} {end}" if most else end


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, right: int = 0) -> str:
    """Return a table whose columns are aligned in the source, too.

    Args:
        header: the titles of the columns.
        rows: the cells; a ``|`` in them is escaped.
        right: how many of the last columns hold numbers, which stand on the right.
    """
    cells = [[cell.replace("|", "\\|") for cell in row] for row in (header, *rows)]
    widths = [max(3, *map(len, column)) for column in zip(*cells, strict=True)]
    first = len(widths) - right

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if place < first else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rules = ("-" * (w - 1) + ("-" if place < first else ":") for place, w in enumerate(widths))
    return "\n".join([line(cells[0]), line(tuple(rules)), *map(line, cells[1:])])


def blocks(parts: Iterable[str]) -> str:
    """Return *parts* as blocks of a page, with an empty line around each."""
    return "\n" + "\n\n".join(parts) + "\n"


def listing(path: str) -> str:
    """Return the file at *path*, counted from the root of the repository, as a block of code."""
    found = ROOT / path
    language = LANGUAGES.get(found.suffix, "")
    return f"\n```{language}\n{found.read_text().rstrip()}\n```\n"
