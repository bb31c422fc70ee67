"""Journeys arrive at every vendor as the vendor's documents describe."""

from collections.abc import Mapping
from typing import Any

import pytest

from gateway.plugin.registry import load_plugins
from tests.journeys.journeys import expected, journeys, outputs, sent

REGISTRY = load_plugins()
JOURNEYS = journeys()
PAIRS = [(name, vendor) for name in JOURNEYS for vendor in REGISTRY.formats]


def compared(expected: Any, actual: Any, session: str) -> Any:
    """Return *expected* with the ids of *actual* in place of the gateway's own ids."""
    if expected == "{session}":
        return session
    if expected == "{id}" and isinstance(actual, str):
        return actual or expected
    if isinstance(expected, dict) and isinstance(actual, dict):
        return {key: compared(value, actual.get(key), session) for key, value in expected.items()}
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        pairs = zip(expected, actual, strict=True)
        return [compared(one, other, session) for one, other in pairs]
    return expected


def ordered(body: Mapping[str, Any]) -> Any:
    """Return *body* with Growlytics' attributes sorted by name: their order has no meaning."""
    found = body.get("attributes")
    if isinstance(found, list):
        by_name = sorted(found, key=lambda attribute: str(attribute["name"]))
        body = {**body, "attributes": by_name}
    return typed(body)


def typed(value: Any) -> Any:
    """Return *value* with booleans as text, because ``True == 1`` in Python."""
    if isinstance(value, bool):
        return f"bool {value}"
    if isinstance(value, Mapping):
        return {key: typed(inner) for key, inner in value.items()}
    return [typed(inner) for inner in value] if isinstance(value, list) else value


def session_of(body: Mapping[str, Any]) -> str:
    """Return the session id in *body*; empty if none."""
    session = body.get("session")
    return str(session["id"] if isinstance(session, dict) else body.get("seance", ""))


@pytest.mark.parametrize(("name", "vendor"), PAIRS, ids="-to-".join)
def test_a_journey_arrives_as_documented(name: str, vendor: str) -> None:
    """At each destination each step of a journey is exactly as the vendor's document describes."""
    journey = JOURNEYS[name]
    output = outputs(journey, REGISTRY)[vendor]
    derived = set()
    for step in journey["steps"]:
        found, wanted = sent(journey, step, output, REGISTRY), expected(step, vendor)
        assert len(found) == len(wanted), (step["about"], found)
        for one, other in zip(wanted, found, strict=True):
            if "declined" in one:
                assert one["declined"] in other["declined"]
                continue
            body, session = ordered(other["body"]), session_of(other["body"])
            if "{session}" in str(one["body"]):
                derived.add(session)
            whole = {**one, "body": compared(ordered(one["body"]), body, session)}
            assert whole == {**other, "body": body}, step["about"]
    assert "" not in derived
    assert len(derived) <= 1, "a journey is one session"


def test_every_vendor_sends_two_journeys() -> None:
    """There are twelve journeys, two in each vendor's format."""
    sources = [journey["source"] for journey in JOURNEYS.values()]
    assert {vendor: sources.count(vendor) for vendor in REGISTRY.formats} == dict.fromkeys(
        REGISTRY.formats, 2
    )


@pytest.mark.parametrize("name", JOURNEYS)
def test_every_step_names_each_vendors_payload(name: str) -> None:
    """A journey names a document and a payload for each destination, and no other."""
    journey = JOURNEYS[name]
    assert journey["documents"].keys() == {*REGISTRY.formats}
    for step in journey["steps"]:
        assert step["sent"].keys() == {*REGISTRY.formats}, step["about"]
