"""Names under which fields are counted."""

import re
from typing import Final

FREE: Final = re.compile(r"(^|\.)(extra|consent)\..*")
INDEX: Final = re.compile(r"\[\d+\]")


def named(path: str) -> str:
    """Return the name under which *path* is counted: free keys count as one, and so do members."""
    return FREE.sub(r"\1\2.*", membered(path))


def membered(path: str) -> str:
    """Return *path* without saying which member of a list it is about."""
    return INDEX.sub("[]", path)
