"""The OpenAPI document (https://spec.openapis.org/oas/v3.1.1.html), made from the endpoints."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from importlib.metadata import version
from typing import Any

import msgspec

from gateway.admin.endpoint import PREFIX, Endpoint
from gateway.admin.fields import plain, said, structs
from gateway.admin.guard import MARK, SAFE
from gateway.admin.problem import CONTENT_TYPE, ProblemDetails

REF = "#/components/schemas/{name}"
ALWAYS = {
    401: "The token is missing or wrong.",
    421: "The gateway is called by a name that is not in `hosts`.",
    503: "The spool, or the file of traces, cannot serve now.",
}
INFO = {
    "title": "Gateway admin API",
    "description": "Looking at a running gateway, and steering it. See docs/admin.md.",
    "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
}


def document(endpoints: Iterable[Endpoint]) -> dict[str, Any]:
    """Return the document of *endpoints*."""
    endpoints = list(endpoints)
    kinds = [ProblemDetails, *(kind for found in endpoints for kind in _kinds(found))]
    schemas, components = msgspec.json.schema_components(kinds, ref_template=REF)
    for struct in (one for kind in kinds for one in structs(kind)):
        component = components[struct.__name__]
        component["description"] = plain(component["description"])
        for name, words in said(struct).items():
            component["properties"][name]["description"] = words
    known = iter(schemas)
    problem = next(known)
    paths: dict[str, dict[str, Any]] = {}
    for found in endpoints:
        shown = {name: next(known) for name in (*found.takes, *_answer(found))}
        operation = _operation(found, shown, components, problem)
        paths.setdefault(PREFIX + found.path, {})[found.method.lower()] = operation
    return {
        "openapi": "3.1.0",
        "info": {**INFO, "version": version("cdp-gateway")},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _kinds(found: Endpoint) -> list[Any]:
    return [*found.takes.values(), *_answer(found).values()]


def _answer(found: Endpoint) -> Mapping[str, Any]:
    return {} if found.streams else {"return": found.gives}


def _operation(
    found: Endpoint, shown: Mapping[str, Any], components: Mapping[str, Any], problem: Any
) -> dict[str, Any]:
    refusals = {**ALWAYS, **found.refuses}
    if found.takes:
        refusals[400] = "What is asked cannot be read."
    operation: dict[str, Any] = {
        "operationId": found.serve.__name__,
        "summary": found.summary,
        "parameters": [*_variables(found, shown), *_query(found, shown, components)],
        "responses": {"200": _good(found, shown)},
    }
    if found.description:
        operation["description"] = found.description
    if found.method not in SAFE:
        refusals[403] = f"The header {MARK} is missing, or the caller is a page of another origin."
        constant = {"type": "string", "const": "1"}
        operation["parameters"].append(
            {"name": MARK, "in": "header", "required": True, "schema": constant}
        )
    if "body" in found.takes:
        refusals |= {413: "The body is too large.", 415: "The body is no JSON."}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": shown["body"]}},
        }
    for status, when in sorted(refusals.items()):
        content = {CONTENT_TYPE: {"schema": problem}}
        operation["responses"][str(status)] = {
            "description": when or HTTPStatus(status).phrase,
            "content": content,
        }
    return operation


def _good(found: Endpoint, shown: Mapping[str, Any]) -> dict[str, Any]:
    if found.streams:
        return {"description": "As it happens.", "content": {found.streams: {}}}
    return {"description": "Done.", "content": {"application/json": {"schema": shown["return"]}}}


def _variables(found: Endpoint, shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "path", "required": True, "schema": shown[name]}
        for name in found.variables
    ]


def _query(
    found: Endpoint, shown: Mapping[str, Any], components: Mapping[str, Any]
) -> list[dict[str, Any]]:
    if "query" not in found.takes:
        return []
    held = components[shown["query"]["$ref"].rpartition("/")[2]]
    return [
        {"name": name, "in": "query", "required": name in held.get("required", ()), "schema": kind}
        for name, kind in held["properties"].items()
    ]
