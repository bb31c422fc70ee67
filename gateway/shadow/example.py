"""An example of a value, short, and without what says who somebody is."""

from collections.abc import Mapping
from typing import Any

from gateway.event import as_json
from gateway.json_text import dumps

LONGEST = 24
PERSONAL = (
    "user_id", "anonymous_id", "previous_id", "group_id", "session_id", "traits.", "context.ip",
    "context.device.id", "context.page.",
)  # fmt: skip
"""How the paths begin of fields whose texts are not shown."""


def example(path: str, value: Any) -> str:
    """Return *value*, the event's at *path*, as the report shows it.

    Texts that may say who somebody is are told by their length; so are those with an ``@``, and
    those of free keys, whose meaning nobody here knows. Objects and lists are told by their size.
    """
    hidden = path.startswith(PERSONAL) or "extra" in path.split(".")
    if isinstance(value, str):
        if hidden or "@" in value:
            return f"text of {len(value)}"
        return _short(value)
    if isinstance(value, tuple | list):
        return f"list of {len(value)}"
    if isinstance(value, Mapping):
        return f"object of {len(value)}"
    if hidden and not isinstance(value, bool):
        return "number"
    plain = as_json(value)
    return f"object of {len(plain)}" if isinstance(plain, dict) else _short(plain)


def _short(value: Any) -> str:
    text = dumps(value, default=str).decode()
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
