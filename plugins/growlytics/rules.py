"""What Growlytics checks in a body, and how it reports what is wrong with one.

Limits: https://docs.growlytics.in/rest-apis/tracking-users-1 and
https://docs.growlytics.in/rest-apis/tracking-events-1, "Terms & Considerations"; names of
Growlytics' own events: https://github.com/growlytics/growlytics-ios-sdk. The report is that of
https://docs.growlytics.in/rest-apis/syncing-products: one problem, as the validator Joi words
it, the label without quotes.
"""

import re
from typing import Any

from gateway.plugin import Fault, Rejected

CONTACTS = {"email": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"), "phone": re.compile(r"\+\d{7,15}")}
"""Traits that a customer's id may be."""
LONGEST_NAME = 49
MOST_FOR_CUSTOMER = 100
MOST_FOR_EVENT = 50
STANDARD = frozenset({"name", "email", "mobile"})
"""Attributes of a customer that are Growlytics' own, so that the limit does not count them."""
RESERVED = frozenset({
    "grwnotification clicked", "grwnotification viewed", "grwnotification sent",
    "grwnotification bounced", "utm visited", "app launched", "app uninstalled",
})  # fmt: skip
"""Names of Growlytics' own events; it compares them without regard to case."""

MESSAGES = {
    "any.required": "is required",
    "any.empty": "is not allowed to be empty",
    "any.allowOnly": "must be one of [{valids}]",
    "any.invalid": "contains an invalid value, the name of an event that Growlytics makes itself",
    "array.base": "must be an array",
    "array.max": "must contain less than or equal to {limit} items",
    "boolean.base": "must be a boolean",
    "date.format": "must be a string with one of the following formats [YYYY-MM-DD HH:mm:ss]",
    "number.base": "must be a number",
    "object.base": "must be an object",
    "string.base": "must be a string",
    "string.max": "length must be less than or equal to {limit} characters long",
}
"""Joi's texts by Joi's types (https://github.com/hapijs/joi, lib/language.js, version 14)."""


class Violation(Rejected):
    """A rule of Growlytics' is broken.

    Attributes:
        rule: Joi's type, such as ``string.max``.
        context: what Joi tells beside value, key and label: ``limit`` or ``valids``.
    """

    def __init__(self, path: str, rule: str, value: object = None, **context: Any) -> None:
        shown = {k: ", ".join(v) if isinstance(v, list) else v for k, v in context.items()}
        super().__init__(path, MESSAGES[rule].format(**shown), _fault(rule), value)
        self.rule = rule
        self.context = context


def checked_text(
    holder: dict[str, Any], key: str, longest: int | None = None, above: str = ""
) -> str:
    """Return the text that *holder* must have under *key*.

    Raises:
        Violation: it is absent, no text, blank or longer than *longest*; *above* is the path
            of *holder* with a dot behind it.
    """
    value = holder.get(key)
    if key not in holder:
        raise Violation(above + key, "any.required")
    if not isinstance(value, str):
        raise Violation(above + key, "string.base", value)
    if not value.strip():
        raise Violation(above + key, "any.empty", value)
    if longest is not None and len(value) > longest:
        raise Violation(above + key, "string.max", value, limit=longest)
    return value


def report(error: Rejected) -> dict[str, Any]:
    """Return the body of the 422 that says *error*."""
    steps = [] if error.path == "$" else error.path.split(".")
    path = [int(step) if step.isdigit() else step for step in steps]
    label = path[-1] if path else "value"
    rule, known = "any.invalid", {}
    if isinstance(error, Violation):
        rule, known = error.rule, error.context
    echo = {"value": error.value} if isinstance(error.value, str | int | float) else {}
    detail = {
        "message": f"{label} {error.reason}",
        "path": path,
        "type": rule,
        "context": {**known, **echo, "key": label, "label": label},
    }
    return {"type": "ValidationError", "details": [detail]}


def _fault(rule: str) -> Fault:
    if rule == "any.required":
        return Fault.MISSING
    return Fault.TYPE if rule.endswith(".base") else Fault.VALUE
