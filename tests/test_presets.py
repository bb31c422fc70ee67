"""Each preset makes the requests and events of its document's examples, and obeys its rules."""

import tomllib
from datetime import UTC, datetime
from pathlib import Path

import jsonschema_rs
import msgspec
import orjson
import pytest
from msgspec.structs import replace

from gateway.config import Config
from gateway.config.inputs import source_input
from gateway.config.loader.load import load
from gateway.config.loader.presets import merge_tables, preset_folder, presets
from gateway.config.models import redactor_of
from gateway.errors import ConfigError, Unrenderable
from gateway.event import Event, as_json
from gateway.explain.static_losses import full
from gateway.http import Request
from gateway.plugin.registry import load_plugins
from gateway.plugin.vendor import OutgoingCall, Output
from gateway.testing.samples import EVENTS

REGISTRY = load_plugins()
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
FILES = sorted(preset_folder().glob("*.toml"))
READ = {path.stem: tomllib.loads(path.read_text()) for path in FILES}
DESTINATIONS, SOURCES = presets("destination"), presets("source")
PAGE = Path(__file__).parent.parent / "docs/vendors/http.md"


def loaded(folder: Path, text: str) -> Config:
    """Return a configuration with this text, and with a source, a destination and a route."""
    path = folder / "gateway.toml"
    rest = '[sources.any]\nvendor = "segment"\nkeys = ["k-12345678"]\n'
    rest += '[destinations.any]\nvendor = "http"\nurl = "https://a.example"\n'
    path.write_text(f"{text}\n{rest}[[routes]]\nto = ['any']\n")
    return load(path, REGISTRY, {})


def needs(name: str) -> str:
    """Return what a preset needs; the value of each key is its last name."""
    found = []
    for path in READ[name].get("needs", ()):
        *tables, key = path.split(".")
        said = "https://url.example" if path == "url" else key
        found.append(f"{'.'.join([*tables, repr(key)])} = {said!r}")
    return "\n".join(found)


def output(folder: Path, name: str, more: str = "") -> Output:
    """Return the output of a destination with this preset."""
    text = f'[destinations.preset]\npreset = "{name}"\n{needs(name)}\n{more}'
    config = loaded(folder, text)
    return REGISTRY.outputs["http"](config.destinations["preset"].settings)


@pytest.mark.parametrize("name", READ)
def test_a_preset_names_its_document_and_has_tests(name: str) -> None:
    """A preset has a document, examples from it, a row on the page, and nothing unknown."""
    preset = READ[name]
    assert preset["docs"].startswith("https://")
    assert preset["tests"]
    assert all(test["about"] for test in preset["tests"])
    assert preset.keys() <= {"docs", "needs", "tests", "source", "destination"}
    assert f"| `{name}` |" in PAGE.read_text()


@pytest.mark.parametrize("name", DESTINATIONS)
def test_a_destination_sends_what_its_document_shows(name: str, tmp_path: Path) -> None:
    """The example of the document is rendered exactly."""
    made = output(tmp_path, name)
    for test in READ[name]["tests"]:
        event = msgspec.convert({**test["event"], "id": "r-0", "received_at": AT}, Event)
        sent = made.render(event)
        assert isinstance(sent, Request), sent
        found = {"method": sent.method, "url": sent.url, "body": orjson.loads(sent.body)}
        assert found == test["request"]


@pytest.mark.parametrize("name", [n for n in DESTINATIONS if n != "webhook"])
def test_a_destination_obeys_the_rules_of_its_document(name: str, tmp_path: Path) -> None:
    """Whatever the event, a request is valid by the document's schema; each request is used."""
    rules = orjson.loads((preset_folder() / f"{name}.schema.json").read_bytes())
    valid = jsonschema_rs.validator_for(rules)
    made, used = output(tmp_path, name), set()
    kinds = {(event.type, event.name) for event in EVENTS}
    events = (*EVENTS, *(full(kind, named) for kind, named in sorted(kinds, key=str)))
    for event in (*events, *(replace(event, user_id=None) for event in events)):
        try:
            request = made.render(event)
        except Unrenderable:
            continue
        if isinstance(request, Request):
            call = made.select(event)
            assert isinstance(call, OutgoingCall)
            used.add(id(call.table))
            wrong = [str(error) for error in valid.iter_errors(orjson.loads(request.body))]
            assert wrong == [], event
    assert len(used) == len(made.config.requests)


@pytest.mark.parametrize("name", SOURCES)
def test_a_source_reads_what_its_document_shows(name: str, tmp_path: Path) -> None:
    """The example of the document becomes the events that the preset says."""
    config = loaded(tmp_path, f'[sources.preset]\npreset = "{name}"\nkeys = ["s-12345678"]\n')
    reads = source_input(config, REGISTRY, "preset")
    for test in READ[name]["tests"]:
        request = Request(
            method="POST", url=test["url"], headers=test.get("headers", {}),
            body=orjson.dumps(test["body"]), id="r", received_at=AT,
        )  # fmt: skip
        found = [as_json(event) for event in reads.parse(request)]
        for event in found:
            for own in ("id", "received_at", "origin"):
                del event[own]
        assert found == test["events"]


def test_a_table_overrides_its_preset_key_by_key(tmp_path: Path) -> None:
    """Tables are merged, lists and values are replaced, and the preset itself stays as it is."""
    more = 'url = "https://eu.i.posthog.com"\nbatch_size = 1\n'
    made = output(tmp_path, "posthog", more)
    assert made.config.url == "https://eu.i.posthog.com"
    assert len(made.config.requests) == 3
    base = {"a": {"b": 1, "c": [1]}, "d": 1}
    assert merge_tables(base, {"a": {"c": [2]}, "e": 5}) == {
        "a": {"b": 1, "c": [2]}, "d": 1, "e": 5,
    }  # fmt: skip
    assert base == {"a": {"b": 1, "c": [1]}, "d": 1}


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('[destinations.x]\npreset = "ga5"', "[destinations.x] preset: there is no preset 'ga5'"),
        ('[destinations.x]\npreset = "stripe"', "there is no preset 'stripe' for a destination"),
        ('[destinations.x]\npreset = "slack"', "[destinations.x] auth.path: missing; the preset"),
        ('[sources.x]\npreset = "stripe"', "[sources.x] keys: missing; add it"),
    ],
)
def test_a_mistake_about_a_preset_is_reported(text: str, problem: str, tmp_path: Path) -> None:
    """An unknown preset, one of the other kind, and a missing key are errors with a remedy."""
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, text)
    assert any(problem in found for found in caught.value.problems), caught.value.problems


def test_the_secret_of_an_address_is_hidden(tmp_path: Path) -> None:
    """The end of a chat's webhook is sent as it is, and redacted wherever a request is shown."""
    text = '[destinations.preset]\npreset = "slack"\nauth.path = "/T000/B000/Xy12345678"\n'
    config = loaded(tmp_path, text)
    made = REGISTRY.outputs["http"](config.destinations["preset"].settings)
    sent = made.render(EVENTS[0])
    assert isinstance(sent, Request)
    assert sent.url == "https://hooks.slack.com/services/T000/B000/Xy12345678"
    assert "Xy12345678" not in str(redactor_of(config).request(sent))
    assert "Xy12345678" not in repr(config.destinations)
