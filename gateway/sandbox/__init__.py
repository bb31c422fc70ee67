"""The vendors' servers, emulated: strict about auth and shape, for trials and tests.

The engine is here: the journal, planned faults and the page. Each vendor's own rules are in its
folder's ``sandbox.py``, written from the vendor's document alone, in the words of ``shape``.
"""

from gateway.sandbox.app import make_app
from gateway.sandbox.rules import Answer, Sandbox, json_response, status_text
from gateway.sandbox.shape import (
    BOOLEAN,
    EMAIL,
    INTEGER,
    LIST,
    NULL,
    NUMBER,
    OBJECT,
    TEXT,
    Kind,
    Place,
    Problem,
    Wrong,
    json_body,
    json_labelled,
    query,
)

__all__ = [
    "BOOLEAN",
    "EMAIL",
    "INTEGER",
    "LIST",
    "NULL",
    "NUMBER",
    "OBJECT",
    "TEXT",
    "Answer",
    "Kind",
    "Place",
    "Problem",
    "Sandbox",
    "Wrong",
    "json_body",
    "json_labelled",
    "json_response",
    "make_app",
    "query",
    "status_text",
]
