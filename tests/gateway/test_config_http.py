"""Destinations that the configuration describes: places of mistakes, and secret values."""

from pathlib import Path

import pytest

from gateway.admin.status import tables
from gateway.config.changes import delivery_digest
from gateway.config.loader.load import load
from gateway.config.models import redactor_of
from gateway.errors import ConfigError
from gateway.plugin.registry import load_plugins

HEAD = """
[sources.shop]
vendor = "segment"
keys = ["wk-1234567890"]

[[routes]]
to = ["crm"]

[destinations.crm]
vendor = "http"
url = "https://crm.example"
"""
START = HEAD.count("\n")
"""Number of the last line of `HEAD`."""


def written(folder: Path, text: str) -> Path:
    """Return a configuration whose destination goes on with *text*."""
    path = folder / "gateway.toml"
    path.write_text(HEAD + text)
    return path


REQUEST = '[[destinations.crm.requests]]\nbody = { id = "=event.user_id" }\n'


@pytest.mark.parametrize(
    ("text", "line", "problem"),
    [
        ('retry = "stat == 1"', 1, "[destinations.crm] retry: column 1: unknown name stat; did"),
        ('delivered = "status + 1"', 1, "is whole number; a condition must be true or false"),
        ("requests = []", 1, "[destinations.crm] requests: is empty; remove it"),
        ("requests = [{ pth = '/x' }]", 1,
         "[[destinations.crm.requests]] #1 pth: unknown key; did you mean path?"),
        ('[destinations.crm.auth]\nbearr = "x"', 2,
         "[destinations.crm.auth] bearr: unknown key; did you mean bearer?"),
        ('[destinations.crm.auth.oauth2]\nclient_id = "x"\nclient_secret = "abcd"', 1,
         "[destinations.crm.auth.oauth2] token_url: missing; add it"),
        ('auth = { hmac = { secret = "abcd", header = "x", payload = "=bdy" } }', 1,
         "[destinations.crm.auth.hmac] payload: column 1: unknown name bdy; did you mean body?"),
        (REQUEST + REQUEST.replace("event.", "evnt."), 4,
         "[[destinations.crm.requests]] #2 body: id, column 2: unknown name evnt"),
        (REQUEST + "[destinations.crm.requests.query]\na = '=event.nam'", 3,
         "[[destinations.crm.requests]] #1 query: a, column 8: there is no field event.nam"),
        (REQUEST + "when = 'event.typ == \"x\"'", 3,
         "[[destinations.crm.requests]] #1 when: column 7: there is no field event.typ"),
        (REQUEST + 'method = "Post"', 3,
         "[[destinations.crm.requests]] #1 method: must be 'POST', 'PUT', 'PATCH', 'GET'"),
        (REQUEST + 'path = "x?y"', 3, '[[destinations.crm.requests]] #1 path: must begin with "/"'),
        (REQUEST + 'path = "/a/../x"', 3, '[[destinations.crm.requests]] #1 path: has "." or ".."'),
        (REQUEST + 'headers = { Host = "x" }', 3,
         "[[destinations.crm.requests]] #1 headers: cannot have Host, which the gateway sets"),
        (REQUEST + 'headers = { "x y" = "x" }', 3, "#1 headers: 'x y' is not a header name; write"),
        ('auth = { header = { "x y" = "abcd" } }', 1,
         "[destinations.crm.auth] header: 'x y' is not a header name; write x-api-key"),
        ('auth = { header = { Transfer-Encoding = "abcd" } }', 1,
         "[destinations.crm.auth] header: cannot have Transfer-Encoding, which the gateway sets"),
        ('auth = { header = { x-key = "abéd" } }', 1,
         "[destinations.crm.auth] header: x-key: the header's value must be printable ASCII"),
        ('auth = { bearer = "abéd" }', 1,
         "[destinations.crm.auth] bearer: the token must be printable ASCII on one line"),
        ('auth = { basic = { user = "a:b" } }', 1,
         "[destinations.crm.auth.basic] user: has a colon"),
        ('auth = { path = "a/../b" }', 1,
         "[destinations.crm.auth] path: must be the end of a path"),
        ('auth = { path = "a?b" }', 1, "[destinations.crm.auth] path: must be the end of a path"),
        ('auth = { hmac = { secret = "abcd", header = "x:" } }', 1,
         "[destinations.crm.auth.hmac] header: 'x:' is not a header name; write"),
        ("batch_size = 2\n" + REQUEST + 'batch_path = "events"', 2,
         "[[destinations.crm.requests]] #1: has no list in its body at batch_path = 'events'"),
        (REQUEST + "batch_path = 5", 3, "#1 batch_path: must be text; put it in quotes"),
    ],
)  # fmt: skip
def test_a_mistake_is_reported_where_it_is(
    tmp_path: Path, text: str, line: int, problem: str
) -> None:
    """A mistake in a nested table has the line, the table and the key of its own, and a hint."""
    path = written(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load(path, load_plugins(), {})
    (only,) = caught.value.problems
    assert only.startswith(f"{path}:{START + line}: ")
    assert problem in only


def test_near_misses_are_warnings(tmp_path: Path) -> None:
    """A probable mistake in an expression, and a request that gets nothing, are warnings."""
    text = f'{REQUEST}query = {{ c = "=event.properties.currrency" }}\n{REQUEST}'
    text += 'query = { u = "event.user_id", o = "event.odd" }\n'
    text += "when = 'event.properties.totl > 1.0'\n"
    path = written(tmp_path, "retry = 'true'\n" + text)
    first, second, third, fourth, fifth = load(path, load_plugins(), {}).warnings
    assert first == f"{path}:{START + 1}: [destinations.crm] retry: column 1: uses no name"
    assert second.startswith(
        f"{path}:{START + 2}: [[destinations.crm.requests]] #1 when: is missing: the request takes"
    )
    assert third.startswith(
        f"{path}:{START + 4}: [[destinations.crm.requests]] #1 query: c, column 2: did you mean"
    )
    assert fourth.startswith(f"{path}:{START + 7}: [[destinations.crm.requests]] #2 query: u, ")
    assert fourth.endswith(
        '"event.user_id" is sent as this text; write "=event.user_id" for the value'
    )
    assert fifth.startswith(
        f"{path}:{START + 8}: [[destinations.crm.requests]] #2 when: column 1: did you mean"
    )


def test_nested_credentials_are_read_and_hidden(tmp_path: Path) -> None:
    """A credential in a nested table comes from a file or a variable, and is redacted."""
    (tmp_path / "secret").write_text("from-a-file\n")
    text = f"""
[destinations.crm.auth]
query = {{ key = "${{KEY}}", plain = "written-here" }}
[destinations.crm.auth.hmac]
secret = "file:{tmp_path}/secret"
header = "x-signature"
"""
    config = load(written(tmp_path, text), load_plugins(), {"KEY": "from-the-environment"})
    settings = config.destinations["crm"].settings
    shown = redactor_of(config).text("from-a-file from-the-environment written-here other")
    assert shown == "*** *** *** other"
    for secret in ("from-a-file", "from-the-environment", "written-here"):
        assert secret not in repr(settings)
    with pytest.raises(ConfigError, match="cannot read the secret in /nowhere"):
        load(written(tmp_path, text.replace(f"{tmp_path}/secret", "/nowhere")), load_plugins(),
             {"KEY": "x"})  # fmt: skip


ANY = 'keys = "any"\n[[sources.hook.requests]]\npath = "/a"'
SOURCE = """
[[routes]]
to = ["any"]

[destinations.any]
vendor = "http"
url = "https://any.example"

[sources.hook]
vendor = "http"
"""


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('keys = ["k-12345678"]\n[[sources.hook.requests]]\npath = "/a"',
         "[sources.hook] keys: are of no use: POST /a has no verify; add verify"),
        ('keys = "any"\nverify = { bearer = true }\n[[sources.hook.requests]]\npath = "/a"',
         '[sources.hook] keys: must be a list: POST /a has a verify, which "any" does not'),
        ('keys = "any"', "[sources.hook] requests: missing; add it"),
        (f'{ANY}\n[sources.hook.requests.event]\nname = "x"\nuser = "=payload.u"',
         "[[sources.hook.requests]] #1 event: there is no field user; did you mean user_id?"),
        ('keys = "any"\nurls = "x"\n[[sources.hook.requests]]\npath = "/a"',
         "[sources.hook] urls: unknown key"),
        ('keys = "any"\nnetworks = ["x"]\n[[sources.hook.requests]]\npath = "/a"',
         "[sources.hook] networks: has 'x', which is not a network"),
        ('url = "https://api.example"\nrespond = "upstream"\n' + ANY,
         "[sources.hook] respond: needs requests that are forwarded as they came, which those of"),
        (f'{ANY}\n[sources.two]\nvendor = "http"\n{ANY.replace("hook", "two")}',
         "[sources.two] keys: conflicts with [sources.hook]: both serve /a"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_source_is_reported(tmp_path: Path, text: str, problem: str) -> None:
    """A mistake in the rules of a source has its place and a remedy, like one in a destination."""
    path = tmp_path / "gateway.toml"
    path.write_text(SOURCE + text)
    with pytest.raises(ConfigError) as caught:
        load(path, load_plugins(), {})
    (only,) = caught.value.problems
    assert problem in only


EVERYTHING = """
retry = "status == 409"
batch_size = 5
[destinations.crm.auth.hmac]
secret = "s-12345678"
header = "x-signature"
payload = "=timestamp + body"
[[destinations.crm.requests]]
when = 'event.type == "track"'
path = ["u", "=event.user_id"]
query = { a = "=event.id" }
body = [{ n = "=event.name", t = 1 }]
[sources.hook]
vendor = "http"
keys = "any"
[[sources.hook.requests]]
path = "/a"
when = "payload.x == 1.0"
each = "=payload.items"
event = { name = "=item.n" }
answer = { body = "=payload.y" }
"""


def test_every_missing_variable_of_a_table_is_reported(tmp_path: Path) -> None:
    """Each variable that a nested table names and that is not set is a mistake of its own."""
    text = 'batch_size = 1\nauth.query = { a = "${ONE}", b = "${TWO}" }'
    with pytest.raises(ConfigError) as caught:
        load(written(tmp_path, text), load_plugins(), {})
    first, second = caught.value.problems
    place = f"gateway.toml:{START + 2}: [destinations.crm] auth.query"
    assert f"{place}.a: the environment variable ONE is not set" in first
    assert f"{place}.b: the environment variable TWO is not set" in second


CHANGES = {
    "409": "410", "timestamp + body": "body + timestamp", '"track"': '"page"',
    "event.user_id": "event.name", "event.id": "event.name", "t = 1": "t = 2",
    "payload.x": "payload.z", "payload.items": "payload.z", "item.n": "item.z",
    "payload.y": "payload.z",
}  # fmt: skip
"""Parts of `EVERYTHING`, each with another one."""


def test_the_same_text_is_the_same_configuration(tmp_path: Path) -> None:
    """A reload of an unchanged file changes no destination, and nodes of a cluster agree on it."""
    path, registry = written(tmp_path, EVERYTHING), load_plugins()
    one, two = load(path, registry, {}), load(path, registry, {})
    assert one.destinations == two.destinations
    assert one.source_settings == two.source_settings
    assert " at 0x" not in repr((one.destinations, one.source_settings))
    assert delivery_digest(one, registry.vendors) == delivery_digest(two, registry.vendors)
    for old, new in CHANGES.items():
        other = load(written(tmp_path, EVERYTHING.replace(old, new)), registry, {})
        before, after = (one.destinations, one.source_settings), (
            other.destinations, other.source_settings,
        )  # fmt: skip
        assert before != after, old
        assert delivery_digest(other, registry.vendors) != delivery_digest(one, registry.vendors)


def test_the_shown_configuration_has_no_credential_of_a_request(tmp_path: Path) -> None:
    """Headers, queries of URLs and values under secret names are hidden; expressions are not."""
    text = """headers = { x-auth = "canary", accept-language = "de" }
[[destinations.crm.requests]]
query = { api_secret = "canary", v = "1" }
headers = { authorization = "Bearer canary", x-plain = "canary", x-id = "=event.user_id" }
body = { token = "canary", id = "=event.user_id", data = { api_key = "canary" } }
[[destinations.crm.requests]]
body = { back = "https://a/b?c=canary" }
"""
    shown = tables(load(written(tmp_path, text), load_plugins(), {}))["destinations"]["crm"]
    assert "canary" not in str(shown)
    assert shown["headers"]["accept-language"] == "de"
    request = shown["requests"][0]
    assert request["query"]["v"] == "1"
    assert request["headers"]["x-id"] == request["body"]["id"] == "=event.user_id"
