"""Growlytics' rules for a body, and its error report.

Limits: https://docs.growlytics.in/rest-apis/tracking-users-1 and
https://docs.growlytics.in/rest-apis/tracking-events-1, "Terms & Considerations". Names of
Growlytics' own events: https://github.com/growlytics/growlytics-ios-sdk. Report:
https://docs.growlytics.in/rest-apis/syncing-products; it has one problem in the words of the
validator Joi, with the label unquoted.
"""

import re
from typing import Any

from gateway.plugin import Fault, Rejected

CONTACTS = {"email": re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+"), "phone": re.compile(r"\+\d{7,15}")}
"""Traits that may serve as a customer's id, with their patterns."""
LONGEST_NAME = 49
MOST_FOR_CUSTOMER = 100
MOST_FOR_EVENT = 50
STANDARD = frozenset({"name", "email", "mobile"})
"""Growlytics' own attributes of a customer; the limit does not count them."""
RESERVED = frozenset({
    "grwnotification clicked", "grwnotification viewed", "grwnotification sent",
    "grwnotification bounced", "utm visited", "app launched", "app uninstalled",
})  # fmt: skip
"""Names of Growlytics' own events, compared without case."""

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
    """A body violates a rule of Growlytics.

    Attributes:
        rule: Joi's type, such as ``string.max``.
        context: Joi's context besides value, key and label: ``limit`` or ``valids``.
    """

    def __init__(self, path: str, rule: str, value: object = None, **context: Any) -> None:
        shown = {k: ", ".join(v) if isinstance(v, list) else v for k, v in context.items()}
        super().__init__(path, MESSAGES[rule].format(**shown), _fault(rule), value)
        self.rule = rule
        self.context = context


def checked_text(
    holder: dict[str, Any], key: str, longest: int | None = None, above: str = ""
) -> str:
    """Return the required text under *key* of *holder*; *above* is its path with a dot at the end.

    Raises:
        Violation: it is missing, not text, blank, or longer than *longest*.
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
    """Return the body of the 422 for *error*."""
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
