"""Hints at the word that was probably meant."""

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(
    word: str, known: Iterable[str], cutoff: float = 0.6, *, only: bool = False
) -> str:
    """Return a hint at the known word that *word* most resembles, or at all of them.

    Args:
        word: the unknown one.
        known: those that there are.
        cutoff: how much it must resemble one, of 1.
        only: return nothing where it resembles none.
    """
    words = sorted(known)
    close = get_close_matches(word, words, 1, cutoff)
    if close:
        return f"did you mean {close[0]}?"
    if only:
        return ""
    return f"known: {', '.join(words)}" if words else "there is none"
