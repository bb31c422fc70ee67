"""The vendors' servers, emulated: strict about auth and shape, for trials and tests.

The engine is here: the journal, planned faults and the page. Each vendor's own rules are in its
folder's ``sandbox.py``, written from the vendor's document alone, in the words of ``checks``.
"""

from gateway.plugin.sandbox import Sandbox, SandboxResponse, json_response, status_text
from gateway.sandbox.checks import (
    BOOLEAN,
    EMAIL,
    INTEGER,
    LIST,
    NULL,
    NUMBER,
    OBJECT,
    TEXT,
    BodyField,
    BodyProblem,
    JsonType,
    ProblemKind,
    json_body,
    json_labelled,
    query,
)
from gateway.sandbox.server import make_app

__all__ = [
    "BOOLEAN",
    "EMAIL",
    "INTEGER",
    "LIST",
    "NULL",
    "NUMBER",
    "OBJECT",
    "TEXT",
    "BodyField",
    "BodyProblem",
    "JsonType",
    "ProblemKind",
    "Sandbox",
    "SandboxResponse",
    "json_body",
    "json_labelled",
    "json_response",
    "make_app",
    "query",
    "status_text",
]
