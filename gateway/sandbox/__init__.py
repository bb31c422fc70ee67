"""Emulate the vendors' servers for trials and tests, strict about authentication and structure.

This package has the server, the journal, planned faults and the page. The rules of each vendor are
in its plugin's ``sandbox.py``, written from the vendor's documentation with the functions of
``checks``.
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
