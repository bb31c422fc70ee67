"""The commands help, check, plugins, run and translate."""

import json
import stat
from pathlib import Path
from typing import Any

import orjson
import pytest
import trustme
from click.testing import CliRunner, Result

from gateway.cli import COMMANDS, main
from gateway.config import Config
from gateway.errors import ConfigError
from gateway.plugin.registry import load_plugins
from tests.gateway.opened_spool import opened_spool

CANARY = "canary-5f2d9c"
FINE = f"""
[sources.shop]
vendor = "chrts"
keys = ["{CANARY}-1", "{CANARY}-2"]
mount = "/shop"
hosts = ["a.example"]
[sources.open]
vendor = "chrts"
keys = "any"
[destinations.crm]
vendor = "chrts"
url = "https://me:{CANARY}@crm.example/with/a/prefix"
api_key = "{CANARY}-3"
rate = "50/s"
max_attempts = 3
max_backlog = 10
passthrough = true
[destinations.idle]
vendor = "chrts"
api_key = "{CANARY}-4"
[[routes]]
name = "orders"
from = ["shop"]
to = ["crm"]
types = ["track"]
names = ["Order *", "Product Viewed"]
"""
VIEW = {
    "uid": "u1",
    "name": "Product Viewed",
    "properties": {"product_id": "1", "price": 3, "list_id": "spring"},
}


def gateway(*args: str | Path, stdin: bytes | None = None) -> Result:
    """Run a command and return its result."""
    return CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)


@pytest.fixture
def body(tmp_path: Path) -> Path:
    """Return a file with the body of a chrts request."""
    path = tmp_path / "body.json"
    path.write_bytes(orjson.dumps(VIEW))
    return path


def test_help_lists_every_command() -> None:
    """``gateway --help`` lists each command with its purpose in one line."""
    shown = " ".join(gateway("--help").stdout.split())
    for name, purpose in COMMANDS.items():
        assert f"{name} {purpose}" in shown


@pytest.mark.parametrize("name", COMMANDS)
def test_a_commands_own_help_equals_the_list(name: str) -> None:
    """Each command's own help equals its line in the list, which imports no command."""
    found = gateway(name, "--help")
    assert found.exit_code == 0
    assert COMMANDS[name].rstrip(".") in " ".join(found.stdout.split())


def test_an_unknown_command_suggests_the_closest() -> None:
    """An unknown command is an error that suggests the closest known one."""
    found = gateway("chek")
    assert found.exit_code == 2
    assert "There is no command 'chek'. Did you mean 'check'?" in found.stderr


def test_a_config_argument_suggests_the_option() -> None:
    """A configuration given as an argument is an error that shows how to name it."""
    found = gateway("check", "shop.toml")
    assert found.exit_code == 2
    assert "name the configuration file with -c: -c shop.toml" in found.stderr
    assert "-c" not in gateway("plugins", "shop.toml").stderr


async def test_an_export_makes_a_private_file(tmp_path: Path) -> None:
    """The file is for its owner alone; one that exists is left alone, with a sentence."""
    path, output = tmp_path / "gateway.toml", tmp_path / "past.ndjson"
    path.write_text(f'[spool]\npath = "{tmp_path}/spool"\n{FINE}')
    async with opened_spool(tmp_path / "spool", destinations=["crm"]):
        pass
    found = gateway("export", "-c", path, "-o", output)
    assert found.exit_code == 0, found.output
    assert stat.S_IMODE(output.stat().st_mode) == 0o600
    output.write_text("mine")
    found = gateway("export", "-c", path, "-o", output)
    assert (found.exit_code, output.read_text()) == (1, "mine")
    said = f"cannot write {output}: it exists already; name another file with -o"
    assert said in " ".join(found.stderr.split())


def test_check_shows_the_graph(tmp_path: Path) -> None:
    """``check`` shows vendors, mounts, hosts, numbers of keys, conditions and addresses."""
    path = tmp_path / "gateway.toml"
    path.write_text(FINE)
    found = gateway("check", "-c", path)
    assert found.exit_code == 0, found.stderr
    lines = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert "shop chrts /shop a.example 2" in lines
    assert "open chrts / every any" in lines
    assert 'orders shop track, and "Order *" or "Product Viewed" crm' in lines
    crm = next(line for line in lines if line.startswith("crm "))
    assert crm.startswith("crm chrts https://***@crm.example/with/a/prefix 8 at once, 10s")
    assert "traces var/spool/traces.db, at most 512MiB, for at most 7d" in lines
    assert any(line.startswith("of successes at most 50 events a second; ") for line in lines)
    assert any("[sources.open]: no route takes its events" in line for line in lines)
    assert any("[destinations.idle]: no route leads to it" in line for line in lines)


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, True),
        ({'vendor = "chrts"\nkeys': 'vendor = "segment"\nkeys'}, False),
        ({'types = ["track"]': 'types = ["track"]\nsteps = [{ drop = ["user_id"] }]'}, False),
        ({"passthrough = true": "passthrough = false"}, False),
    ],
)
def test_check_shows_forwarding_only_if_it_happens(
    tmp_path: Path, changes: dict[str, str], *, shown: bool
) -> None:
    """``check`` shows passthrough where a route without steps leads from the same vendor."""
    path, text = tmp_path / "gateway.toml", FINE
    for old, new in changes.items():
        text = text.replace(old, new)
    path.write_text(text)
    found = gateway("check", "-c", path)
    lines = {line.split()[0]: line for line in found.stdout.splitlines() if line.strip()}
    assert ("passthrough" in " ".join(found.stdout.split())) == shown, found.stderr
    assert "passthrough" not in lines["idle"]


def test_check_shows_presets_and_forwards_no_webhook(tmp_path: Path) -> None:
    """``check`` names presets, and a webhook is never passed through to another HTTP API."""
    path = tmp_path / "gateway.toml"
    path.write_text(
        '[sources.pay]\npreset = "stripe"\nkeys = ["whsec_12345678"]\n'
        '[destinations.team]\npreset = "slack"\nauth.path = "T/B/secret-1"\n'
        '[[routes]]\nto = ["team"]\n'
    )
    found = gateway("check", "-c", path)
    said = " ".join(found.stdout.split())
    assert "stripe (http)" in said, found.stderr
    assert "slack (http)" in said
    assert "passthrough" not in said


def test_check_shows_relays_and_client_keys(tmp_path: Path) -> None:
    """``check`` shows relay URLs, whose key they use, who replies, and forwarded client keys."""
    path = tmp_path / "gateway.toml"
    path.write_text(
        '[sources.shop]\nvendor = "chrts"\nkeys = ["k"]\nurl = "https://up.example"\n'
        'relay_as = "own"\nrespond = "upstream"\n'
        '[destinations.own]\nvendor = "chrts"\napi_key = "k"\n'
        '[destinations.theirs]\nvendor = "chrts"\ncredentials = "client"\n'
        '[[routes]]\nto = ["own", "theirs"]\n'
    )
    found = gateway("check", "-c", path)
    assert found.exit_code == 0, found.stderr
    lines = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert "shop chrts / every 1 https://up.example, as own, responds to events" in lines
    assert "each client's own key" in " ".join(lines)


def test_check_shows_how_a_vendor_is_reached(tmp_path: Path) -> None:
    """``check`` shows the proxy's address, names of headers, and certificate files, no values."""
    trustme.CA().issue_cert("a@b.example").private_key_and_cert_chain_pem.write_to_path(
        tmp_path / "client.pem"
    )
    path = tmp_path / "gateway.toml"
    path.write_text(
        f'[sources.shop]\nvendor = "chrts"\nkeys = ["a"]\n[destinations.crm]\nvendor = "chrts"\n'
        f'url = "https://crm.example"\napi_key = "a-key"\ncert = "{tmp_path}/client.pem"\n'
        f'ca = "{tmp_path}/client.pem"\nproxy = "http://me:{CANARY}@proxy.example"\n'
        f'headers = {{ X-Team = "{CANARY}" }}\n[[routes]]\nto = ["crm"]\n',
    )
    found = gateway("check", "-c", path)
    assert found.exit_code == 0, found.output
    said = "".join(found.stdout.split())
    assert "throughproxyproxy.example:80,addsx-team,trusts" in said
    assert f"only,showsthecertificate{tmp_path}/client.pem" in said
    assert CANARY not in found.output


def test_check_shows_conditions_steps_and_files(tmp_path: Path) -> None:
    """``check`` shows each route's name, condition and steps, and lists included files."""
    path = tmp_path / "gateway.toml"
    (tmp_path / "more.toml").write_text(
        '[[routes]]\nname = "ads"\nadditional = true\nto = ["crm"]\n'
        'steps = ["p", { sample = 0.5 }]\n'
        "when = '''\n  event.user_id != \"x\" &&\n  event.properties.total > 1\n'''\n"
        '[steps]\np = [{ drop = ["traits"] }]\n[consent]\nretention = "30d"\n'
    )
    path.write_text(
        'include = ["more.toml"]\n[sources.shop]\nvendor = "chrts"\nkeys = ["k"]\n'
        '[destinations.crm]\nvendor = "chrts"\napi_key = "k"\n[[routes]]\nto = ["crm"]\n'
    )
    found = gateway("check", "-c", path)
    assert found.exit_code == 0, found.stderr
    said = "".join(found.stdout.split())
    for part in (
        f"reads{tmp_path}/more.toml",
        "consentrememberedfor30d",
        "ads(additional)",
        "sample",
    ):
        assert part in said
    assert "event.user_id" in said


def test_check_is_plain_in_a_pipe(tmp_path: Path) -> None:
    """In a pipe, the graph has no colours and fewer than 100 columns."""
    path = tmp_path / "gateway.toml"
    path.write_text(FINE)
    graph = gateway("check", "-c", path).stdout.partition("Warnings")[0]
    assert "\x1b" not in graph
    assert max(map(len, graph.splitlines())) < 100


def test_check_shows_no_credential(tmp_path: Path) -> None:
    """``check`` prints no credential, whether the file is valid or not."""
    path = tmp_path / "gateway.toml"
    for text in (FINE, FINE.replace("api_key", "api_kye").replace("keys = [", "keys = [3, ")):
        path.write_text(text)
        assert CANARY not in gateway("check", "-c", path).output


def test_check_lists_every_problem(tmp_path: Path) -> None:
    """A file with problems exits with 1 and prints one line per problem."""
    path = tmp_path / "gateway.toml"
    path.write_text(FINE.replace("rate", "rat").replace('to = ["crm"]', 'to = ["crn"]'))
    found = gateway("check", "-c", path)
    assert found.exit_code == 1
    assert found.stdout == ""
    title, first, second = found.stderr.splitlines()
    assert title == "2 problems in the configuration:"
    assert first == f"  {path}:14: [destinations.crm] rat: unknown key; did you mean rate?"
    assert second.endswith("[[routes]] #1 to: there is no destination 'crn'; did you mean crm?")


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_missing_file_is_one_sentence(tmp_path: Path, command: str) -> None:
    """A missing file is one error with the path, without a traceback."""
    missing = tmp_path / "missing.toml"
    found = gateway(command, "-c", missing)
    assert found.exit_code == (1 if command == "check" else 2)
    assert f"{missing}: no such file or directory; name a readable file" in found.stderr
    assert "Name another file with -c, or write one with `gateway init`." in found.stderr
    assert not isinstance(found.exception, ConfigError)


def test_run_ends_with_two_where_the_file_is_wrong(tmp_path: Path) -> None:
    """``run`` prints a wrong configuration's problems as ``check`` does, and exits with 2."""
    path = tmp_path / "gateway.toml"
    path.write_text(FINE.replace('"chrts"', '"charts"', 1))
    found = gateway("run", "--config", path)
    assert found.exit_code == 2
    assert "1 problem in the configuration:" in found.stderr
    assert "[sources.shop] vendor: there is no vendor 'charts'; did you mean chrts?" in found.stderr


def test_run_checks_the_address_that_it_is_given(tmp_path: Path) -> None:
    """``--listen`` must be an address, and obeys the rule about ``keys = "any"``."""
    path = tmp_path / "gateway.toml"
    path.write_text(FINE)
    found = gateway("run", "--config", path, "--listen", "here")
    assert found.exit_code == 2
    assert "Invalid value for '--listen': 'here' is not an address to listen on" in found.stderr
    found = gateway("run", "--config", path, "--listen", ":8080")
    assert found.exit_code == 2
    assert '[sources.open] keys: "any" would let everybody who can reach :8080' in found.stderr


def test_run_serves_the_configuration_it_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway gets the file's configuration, with the address from the command line."""
    served: list[Config] = []
    watched: list[bool] = []

    def serve(config: Config, _: object, *, watch: bool) -> int:
        served.append(config)
        watched.append(watch)
        return 7

    monkeypatch.setattr("gateway.cli.run.serve", serve)
    monkeypatch.setattr("gateway.observability.log.configure", lambda: None)
    path = tmp_path / "gateway.toml"
    path.write_text(FINE)
    assert gateway("run", "--config", path, "--listen", "127.0.0.1:81").exit_code == 7
    (config,) = served
    assert (config.path, config.server.listen) == (path, "127.0.0.1:81")
    gateway("run", "--config", path, "--watch")
    assert watched == [False, True]


def test_plugins_are_listed() -> None:
    """``plugins`` shows each vendor's endpoints, documentation and package."""
    shown = gateway("plugins").stdout
    registry = load_plugins()
    for vendor in registry.formats:
        section = shown.partition(f"{vendor}\n")[2].partition("\n\n")[0]
        assert "input, output, sandbox" in section
        assert f"plugins.{vendor}" in section
        assert registry.inputs[vendor].docs in section
        assert registry.outputs[vendor].docs in section
        assert all(endpoint in section for endpoint in registry.inputs[vendor].endpoints)


def parts(text: str) -> list[Any]:
    """Return the JSON documents in the output of ``translate``."""
    decoder, found, at = json.JSONDecoder(), [], text.find("{")
    while at >= 0:
        value, end = decoder.raw_decode(text, at)
        found.append(value)
        at = text.find("{", end)
    return found


def test_translate_shows_event_request_and_loss(body: Path) -> None:
    """``translate`` shows the neutral event, the outgoing request and the lost fields."""
    found = gateway("translate", "--from", "chrts", "--to", "personaclick", "--path",
                    "/event/track", body)  # fmt: skip
    assert found.exit_code == 0, found.stderr
    event, request = parts(found.stdout)
    assert (event["type"], event["name"], event["user_id"]) == ("track", "Product Viewed", "u1")
    assert event["properties"]["products"] == [{"product_id": "1", "price": 3}]
    assert (request["event"], request["items"]) == ("view", [{"id": "1", "price": 3}])
    assert request["shop_id"] == "***"
    assert "POST https://api.personaclick.com/push\ncontent-type: application/json" in found.stdout
    assert "1 lost, 0 coerced, 3 kept" in found.stdout
    fields = [" ".join(line.split()) for line in found.stdout.splitlines()]
    assert 'properties.list_id lost "spring" personaclick has no place for it' in fields
    assert "properties.products[].price kept 3 items[].price" in fields


def test_translate_prints_a_reason_once() -> None:
    """A reason that several fields share is told for the first; the others name that field."""
    traits = {"username": "ada", "title": "Countess", "avatar": "https://a.example/ada.png"}
    body = orjson.dumps({"userId": "u1", "traits": {"email": "ada@shop.example", **traits}})
    found = gateway("translate", "--from", "segment", "--to", "quartic", "--path", "/v1/identify",
                    "-", stdin=body)  # fmt: skip
    assert found.exit_code == 0, found.stderr
    text = " ".join(found.stdout.split())
    assert text.count("only the tags that exist in the account") == 1
    assert 'traits.title lost "Countess" same reason as traits.username' in text


def test_translate_hides_the_credential_and_reads_standard_input() -> None:
    """A credential is shown as asterisks; an event sent back to its own vendor loses nothing."""
    found = gateway("translate", "--from", "chrts", "--to", "chrts", "--path", "POST /event/track",
                    "-", stdin=orjson.dumps(VIEW))  # fmt: skip
    assert found.exit_code == 0, found.stderr
    assert "authorization: Bearer ***" in found.stdout
    assert "nothing is lost" in found.stdout
    assert "placeholder" not in found.stdout


def test_translate_finds_the_endpoint() -> None:
    """``--path`` is needed only where several endpoints accept the body."""
    alias = orjson.dumps({"uid": "u1", "knownUid": "a1"})
    found = gateway("translate", "--from", "chrts", "--to", "personaclick", "-", stdin=alias)
    assert "several endpoints accept this body" in found.stderr
    assert found.exit_code == 2
    page = orjson.dumps({"id": "c1", "attributes": []})
    found = gateway("translate", "--from", "growlytics", "--to", "chrts", "-", stdin=page)
    assert found.exit_code == 0, found.stderr
    assert found.stdout.startswith("POST /rest-api/customer of growlytics: 1 event")


def test_translate_shows_why_an_event_is_declined() -> None:
    """An event that the other vendor cannot express is declined with a reason; the exit is 0."""
    alias = orjson.dumps({"uid": "u1", "knownUid": "a1"})
    found = gateway("translate", "--from", "chrts", "--to", "growlytics", "--path",
                    "/customer/alias", "-", stdin=alias)  # fmt: skip
    assert found.exit_code == 0
    assert "declined, not sent to growlytics: growlytics cannot merge customers" in found.stdout


def test_translate_shows_the_vendors_own_refusal() -> None:
    """A rejected body exits with 1 and shows the reason and the vendor's response."""
    found = gateway("translate", "--from", "chrts", "--to", "chrts", "--path", "/event/track",
                    "-", stdin=b'{"name": "x"}')  # fmt: skip
    assert found.exit_code == 1
    assert "POST /event/track rejects this body: uid: required" in found.stderr
    assert parts(found.stderr)[0]["message"].startswith("Customer UID is required")
    assert "\n400\n" in found.stderr


def test_translate_shows_each_endpoints_reason() -> None:
    """If no endpoint accepts the body, each endpoint's reason is shown."""
    found = gateway("translate", "--from", "chrts", "--to", "chrts", "-", stdin=b"[1")
    assert found.exit_code == 1
    assert found.stderr.startswith("no endpoint of chrts accepts this body:")
    for endpoint in load_plugins().inputs["chrts"].endpoints:
        assert f"  {endpoint}: not valid JSON" in found.stderr


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--from", "chrt", "--to", "chrts"], "no vendor 'chrt' for --from; did you mean chrts?"),
        (["--from", "chrts", "--to", "x"], "there is no vendor 'x' for --to; known: "),
        (["--from", "chrts", "--to", "chrts", "--path", "/event/trak"],
         "chrts has no endpoint '/event/trak'; did you mean /event/track?"),
    ],
)  # fmt: skip
def test_translate_suggests_the_closest_name(body: Path, args: list[str], said: str) -> None:
    """An unknown vendor or path is an error that suggests the closest known one."""
    found = gateway("translate", *args, body)
    assert found.exit_code == 2
    assert said in found.stderr


@pytest.mark.parametrize("vendor", sorted(load_plugins().outputs))
def test_every_output_can_be_tried_without_settings(vendor: str, body: Path) -> None:
    """``translate`` fills required settings with placeholders, and does not show them."""
    found = gateway("translate", "--from", "chrts", "--to", vendor, "--path", "/event/track", body)
    assert found.exit_code == 0, found.stderr
    assert "placeholder" not in found.output
