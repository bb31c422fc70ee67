"""Convert requests of PersonaClick's clients to the documented format.

Formats of the clients: https://github.com/PersonaClick/rn-sdk,
https://github.com/rees46/android-sdk, https://github.com/rees46/ios-sdk. Values that the vendor
silently ignores: https://github.com/rees46/documentation-unified,
docs/integration/cdp/standard-events/events-errors.md.
"""

from typing import Any

import orjson

from gateway.plugin import Fault, Rejected, loads
from plugins.personaclick.mapping import is_full
from plugins.personaclick.rules import RESERVED, is_product_id, text

WITH_ITEMS = frozenset({"view", "cart", "remove_from_cart", "purchase", "wish", "remove_wish"})

BLANKABLE = frozenset({"line_id", "fashion_size"})
"""Fields of an item that count as missing if they are blank."""
LISTS = ("kids", "auto")
"""Fields of a profile with lists."""


def repaired(path: str, payload: dict[str, Any]) -> dict[str, Any]:
    """Return *payload* of a request to *path* in the documented format, as a copy.

    Raises:
        Rejected: ``source`` is not JSON, or ``items`` has no valid item.
    """
    found = {key: value for key, value in payload.items() if value is not None}
    if "sid" in found and "seance" in found:
        _settle_session(found)
    if path.startswith("/track/"):
        return found
    if "source" in found:
        _unpack_source(found)
    event = found.get("event")
    if path == "/push" and type(event) is str and event in WITH_ITEMS:
        _sift_items(found)
    if path == "/push/custom" and type(found.get("payload")) is dict:
        _merge_fields(found)
    if path == "/profile/set":
        found |= {name: _as_list(found[name]) for name in LISTS if type(found.get(name)) is str}
    return found


def _settle_session(payload: dict[str, Any]) -> None:
    """Drop ``sid`` if it equals ``seance``; the app SDKs send both."""
    sid = payload["sid"]
    if type(sid) is not str or not sid.strip():
        raise Rejected("sid", "expected a string that is not empty", Fault.TYPE, sid)
    if sid == payload["seance"]:
        del payload["sid"]


def _unpack_source(payload: dict[str, Any]) -> None:
    """Convert ``source`` to an object, and drop one without ``from`` or ``code``, as the vendor."""
    source = payload["source"]
    if type(source) is str:
        try:
            source = loads(source)
        except orjson.JSONDecodeError as error:
            raise Rejected("source", "must be JSON", Fault.VALUE, source) from error
    if type(source) is not dict:
        reason = 'expected a JSON object such as {"from":"chain","code":"…"}'
        raise Rejected("source", reason, Fault.TYPE, source)
    if type(source.get("from")) is str and text(source["from"]) and text(source.get("code")):
        payload["source"] = {**source, "code": text(source["code"])}
    else:
        del payload["source"]


def _sift_items(payload: dict[str, Any]) -> None:
    """Keep the items with valid ids; an empty list clears a full cart or wishlist."""
    items = payload.get("items")
    if items is None:
        return
    if type(items) is not list:
        raise Rejected("items", "expected array", Fault.TYPE, items)
    if not items and is_full(payload):
        del payload["items"]
        return
    kept = [i for i in items if is_product_id(i.get("id") if type(i) is dict else i)]
    if not kept:
        reason = "expected at least one product with an id of 1 to 255 characters, no backslash"
        raise Rejected("items", reason, Fault.VALUE, items)
    first, second = ("quantity", "amount") if is_full(payload) else ("amount", "quantity")
    payload["items"] = [_tidied(i, first, second) if type(i) is dict else i for i in kept]


def _tidied(item: dict[str, Any], first: str, second: str) -> dict[str, Any]:
    """Return *item* without blank fields, and without *second* if *first* has the same amount."""
    found = item.copy()
    for key in BLANKABLE & item.keys():
        if text(found[key]) is None:
            del found[key]
    repeated = found.get(second)
    if found.get(first) is not None and (repeated == found[first] or type(repeated) is not int):
        found.pop(second, None)
    return found


def _merge_fields(payload: dict[str, Any]) -> None:
    """Move free fields out of ``payload``, where the app SDKs repeat them.

    If a field has two values, the outer one counts.
    """
    inner = payload.pop("payload")
    for name, value in inner.items():
        if name not in RESERVED:
            payload.setdefault(name, value)


def _as_list(value: str) -> Any:
    """Return the list in the JSON text *value*, as the React Native SDK sends it, else *value*."""
    try:
        found = loads(value)
    except orjson.JSONDecodeError:
        return value
    return found if type(found) is list else value
