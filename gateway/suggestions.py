"""Suggestions for misspelt names."""

from collections.abc import Iterable
from difflib import get_close_matches

from gateway.errors import UnknownName


def did_you_mean(
    word: str, known: Iterable[str], cutoff: float = 0.6, *, only: bool = False
) -> str:
    """Return a hint with the known word most similar to *word*, or with all known words.

    Args:
        word: the unknown word.
        known: the valid words.
        cutoff: least similarity, from 0 to 1.
        only: return an empty text if no known word is similar.
    """
    words = sorted(known)
    close = get_close_matches(word, words, 1, cutoff)
    if close:
        return f"did you mean {close[0]}?"
    if only:
        return ""
    return f"known: {', '.join(words)}" if words else "none is defined"


def check_name(kind: str, name: str, known: Iterable[str], *, more: str = "") -> None:
    """Check that a name exists.

    Args:
        kind: what it names, such as ``destination``.
        name: the name.
        known: the valid names.
        more: what the message says of the name besides, such as `` for --from``.

    Raises:
        UnknownName: it does not exist; the message names the most similar one, or all.
    """
    names = set(known)
    if name not in names:
        raise UnknownName(f"there is no {kind} {name!r}{more}; {did_you_mean(name, names)}")
