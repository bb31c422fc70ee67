"""The JSON Schema of configuration files agrees with the loader."""

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner

from gateway.cli import main
from gateway.config.loader.load import load
from gateway.config.models import TABLES, Delivery, keys_of
from gateway.config.schema import editor_schema
from gateway.config.steps import STEPS
from gateway.errors import ConfigError
from gateway.plugin.registry import load_plugins

ROOT = Path(__file__).parent.parent.parent
COMMITTED = ROOT / "config/gateway.schema.json"
FILES = [ROOT / "config/gateway.toml", *sorted((ROOT / "config/examples").glob("*.toml"))]
SCHEMA = editor_schema(load_plugins())
VALIDATOR = jsonschema_rs.validator_for(SCHEMA)

WHOLE = """
include = ["more/*.toml"]
[server]
max_body = "1MiB"
drain_timeout = "${DRAIN:-5s}"
[spool]
max_age = "7d"
[admin]
token = "${ADMIN_TOKEN}"
[consent]
retention = "30d"
[suppression]
file = "left.txt"
[trace]
retention = "7d"
[log]
success_rate_limit = 10
[alerts]
url = "${ALERTS_URL}"
[sources.shop]
vendor = "personaclick"
keys = ["${SHOP_ID}"]
origins = "*"
schemas = { "Order *" = "order.json", "Signed Up" = { required = ["traits"] } }
[sources.app]
vendor = "${APP_VENDOR}"
keys = "any"
[destinations.crm]
vendor = "chrts"
api_key = "file:/run/secrets/key"
rate = "50/s"
concurrency = 4
passthrough = "${AS_IT_CAME:-true}"
[destinations.lent]
vendor = "chrts"
credentials = "client"
[[routes]]
from = ["shop"]
types = ["track"]
to = ["crm"]
name = "orders"
steps = [
  "private",
  { sample = "10%" },
  { hash = "traits.email", key = "${HASH_KEY}" },
  { map = "properties.country", table = { DE = "Germany" } },
  { timestamp = "clamp", past = "7d" },
]
[steps]
private = [{ drop = ["traits.birthday"] }]
[[tests]]
name = "an order"
body = { event = "view" }
expect = ["crm"]
"""


def complaints(text: str) -> list[str]:
    """Return the schema's errors about a file."""
    return [error.message for error in VALIDATOR.iter_errors(tomllib.loads(text))]


def test_the_schema_is_valid() -> None:
    """The schema is valid JSON Schema draft 7, and every reference resolves."""
    jsonschema_rs.meta.validate(SCHEMA)
    assert SCHEMA["$schema"] == "http://json-schema.org/draft-07/schema#"
    referred = {part.split('"')[0] for part in json.dumps(SCHEMA).split("#/definitions/")[1:]}
    assert referred <= SCHEMA["definitions"].keys()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_in_config_are_valid(path: Path) -> None:
    """Every file in config/ is valid, with its references to the environment and files."""
    assert complaints(path.read_text()) == []


def test_every_form_of_value_is_valid() -> None:
    """Quantities, shares, step lists, client keys and references are valid, in every table."""
    assert set(tomllib.loads(WHOLE)) >= TABLES.keys()
    assert complaints(WHOLE) == []


@pytest.mark.parametrize(
    ("written", "mistake", "said"),
    [
        ("[server]", "[servre]", "servre"),
        ("max_body", "max_bdy", "max_bdy"),
        ('"1MiB"', '"1 mebibyte"', "1 mebibyte"),
        ('keys = ["${SHOP_ID}"]', "", '"keys" is a required property'),
        ('vendor = "personaclick"', 'vendor = "personalclick"', "personalclick"),
        ('origins = "*"', 'origins = "shop.example"', "shop.example"),
        ('api_key = "file:/run/secrets/key"', "", '"api_key" is a required property'),
        ('api_key = "file', 'apikey = "file', "apikey"),
        ("concurrency = 4", "concurrency = 0", "0 is less than the minimum of 1"),
        ("concurrency = 4", "shop_id = 4", "shop_id"),
        ('types = ["track"]', 'types = ["tracks"]', "tracks"),
        ('to = ["crm"]', "", '"to" is a required property'),
        ('rate = "50/s"', 'rate = "50/second"', "50/second"),
        ('"10%"', '"ten"', "ten"),
        ("{ drop =", "{ dorp =", "dorp"),
        ('past = "7d"', 'pst = "7d"', "pst"),
        ("[destinations.crm]", '[destinations."C R M"]', "C R M"),
    ],
)
def test_typical_mistakes_are_found(written: str, mistake: str, said: str) -> None:
    """The schema finds typical mistakes of form that the gateway rejects."""
    assert written in WHOLE
    found = complaints(WHOLE.replace(written, mistake))
    assert any(said in sentence for sentence in found), found


def test_every_key_is_explained() -> None:
    """Every key, also a vendor's own, has a description."""
    shown: list[tuple[dict[str, Any], type]] = []
    for name, model in TABLES.items():
        part = SCHEMA["properties"][name]
        part = part.get("additionalProperties") or part.get("items") or part
        shown.append((SCHEMA["definitions"]["destination"] if model is Delivery else part, model))
    definitions = SCHEMA["definitions"]
    shown += [(definitions[f"step-{word}"], step) for word, step in STEPS.items()]
    for vendor, output in load_plugins().outputs.items():
        shown.append((definitions[f"destination-{vendor}"], output.Config))
    for part, model in shown:
        for key in keys_of(model):
            assert part["properties"][key]["description"], f"{model.__name__}.{key}"


@pytest.mark.parametrize("value", ["10", "10s", "500ms", "1.5h", "10 s", "s", "-1s", "1w", "1e3"])
def test_durations_are_those_that_the_gateway_takes(value: str, tmp_path: Path) -> None:
    """The schema accepts exactly the durations that the gateway reads."""
    text = WHOLE.replace("${DRAIN:-5s}", value).partition("[sources.shop]")[0]
    text = text.replace('include = ["more/*.toml"]', "")
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:  # the file has no routes
        load(path, load_plugins(), {})
    refused = any("drain_timeout" in problem for problem in caught.value.problems)
    assert refused == bool(complaints(text))


def test_the_schema_file_is_up_to_date() -> None:
    """The schema file in config/ equals the output of `gateway schema`."""
    printed = CliRunner().invoke(main, ["schema"])
    assert printed.exit_code == 0
    assert json.loads(printed.output) == json.loads(json.dumps(SCHEMA))
    assert COMMITTED.read_text() == printed.output


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_in_config_name_the_schema(path: Path) -> None:
    """The first line of every file in config/ names the schema file."""
    first = path.read_text().splitlines()[0]
    assert first.startswith("#:schema ")
    assert (path.parent / first.removeprefix("#:schema ")).resolve() == COMMITTED
