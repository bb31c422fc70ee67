"""The step that gives events other names."""

import re
from collections.abc import Callable
from fnmatch import translate

import msgspec

from gateway.config.steps import Rename
from gateway.event import Event
from gateway.spec_spellings import spec_name


def rename(step: Rename) -> Callable[[Event], Event]:
    """Return what the step does.

    An old name that is the Spec's in another spelling stands for the Spec's: events are read so.
    """
    exact = {old: new for old, new in step.rename.items() if not _is_pattern(old)}
    exact = {spec_name(old): new for old, new in exact.items()} | exact
    patterns = [
        (re.compile(_groups(old)), new.split("*"))
        for old, new in step.rename.items()
        if _is_pattern(old)
    ]

    def rename_event(event: Event) -> Event:
        if event.name is None:
            return event
        new = exact.get(event.name)
        if new is None:
            for pattern, pieces in patterns:
                found = pattern.match(event.name)
                if found:
                    stars = [*found.groups(), ""]
                    new = "".join(
                        a + b for a, b in zip(pieces, [*stars[: len(pieces) - 1], ""], strict=True)
                    )
                    break
        return event if new is None else msgspec.structs.replace(event, name=new)

    return rename_event


def _is_pattern(name: str) -> bool:
    return any(sign in name for sign in "*?[")


def _groups(pattern: str) -> str:
    """Return *pattern* as a regular expression with a group for each star.

    What a star stood for is settled as soon as what follows it is found (only the last one reaches
    to the end), so that no name makes the search go back: names are the senders' own.
    """
    first, *parts = [translate(part)[len("(?s:") : -len(r")\Z")] for part in pattern.split("*")]
    if not parts:
        return rf"(?s:{first})\Z"
    *inner, last = parts
    settled = "".join(f"(?>(.*?){part})" for part in inner)
    return rf"(?s:{first}{settled}(.*){last})\Z"
