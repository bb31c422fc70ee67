"""Read requests that are not JSON: forms, and queries instead of a body.

PersonaClick is a white label of REES46, a Rails application, which accepts ``items[][id]=1`` in a
body or query like JSON (https://github.com/rees46/documentation-unified,
docs/integration/cdp/standard-events/events-errors.md, and https://github.com/rees46/api-docs,
source/includes). Nesting of names: https://github.com/rack/rack, lib/rack/query_parser.rb.
"""

import re
from collections.abc import Mapping
from typing import Any

from gateway.plugin import Fault, Rejected, Request, query_fields
from plugins.personaclick.rules import number

LABEL = "application/x-www-form-urlencoded"
DEEPEST = 32
"""Most levels of a name, as in Rack."""
_LEVEL = re.compile(r"\[([^\[\]]*)\]")
_PLACE = re.compile(r"\d{1,6}", re.ASCII)
_NUMBERS = ("value", "time")
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


def is_form(request: Request) -> bool:
    """Return whether the body of *request* is a form, not JSON that is labelled as one."""
    label = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    return label == LABEL and request.body[:64].lstrip()[:1] not in {b"{", b"["}


def fields(text: str) -> dict[str, Any]:
    """Return the fields of a form or query as the equivalent JSON.

    Values are text, except for the few that are numbers or booleans in the document.

    Raises:
        Rejected: names contradict each other, or are nested too deeply.
    """
    found: dict[str, Any] = {}
    for name, value in query_fields(text):
        head, bracket, rest = name.partition("[")
        if not head:
            continue
        levels = [head, *_LEVEL.findall(bracket + rest)]
        if len(levels) > DEEPEST:
            raise Rejected(head, "nested too deeply", Fault.MALFORMED)
        _put(found, levels, value)
    _type(found)
    return found


def _put(node: dict[str, Any], levels: list[str], value: str) -> None:
    """Put *value* at *levels* below *node*; an empty level is a list."""
    name, *below = levels
    if not below:
        node[name] = value
        return
    if below[0]:
        child = node.setdefault(name, {})
        if type(child) is not dict:
            raise Rejected(name, "given in two shapes", Fault.MALFORMED)
        _put(child, below, value)
        return
    members = node.setdefault(name, [])
    if type(members) is not list:
        raise Rejected(name, "given in two shapes", Fault.MALFORMED)
    if not below[1:]:
        members.append(value)
        return
    if not members or type(members[-1]) is not dict or _has(members[-1], below[1:]):
        members.append({})
    _put(members[-1], below[1:], value)


def _has(node: Any, levels: list[str]) -> bool:
    """Return whether a list member has a value at *levels*, so that the next member begins."""
    for level in levels:
        if type(node) is not dict or level not in node:
            return False
        node = node[level]
    return True


def _type(found: dict[str, Any]) -> None:
    items = found.get("items")
    if isinstance(items, Mapping) and items and all(map(_PLACE.fullmatch, items)):
        found["items"] = [items[place] for place in sorted(items, key=int)]
    for name in _NUMBERS:
        if type(found.get(name)) is str and (known := number(found[name])) is not None:
            found[name] = known
    truth = found.get("tax_free")
    if type(truth) is str and truth.lower() in _TRUTH:
        found["tax_free"] = _TRUTH[truth.lower()]
