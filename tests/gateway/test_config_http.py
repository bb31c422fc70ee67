"""Destinations that the configuration describes: places of mistakes, and secret values."""

from pathlib import Path

import pytest

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
    text += "when = 'event.properties.totl > 1.0'\n"
    path = written(tmp_path, "retry = 'true'\n" + text)
    first, second, third, fourth = load(path, load_plugins(), {}).warnings
    assert first == f"{path}:{START + 1}: [destinations.crm] retry: column 1: uses no name"
    assert second.startswith(
        f"{path}:{START + 2}: [[destinations.crm.requests]] #1 when: is missing: the request takes"
    )
    assert third.startswith(
        f"{path}:{START + 4}: [[destinations.crm.requests]] #1 query: c, column 2: did you mean"
    )
    assert fourth.startswith(
        f"{path}:{START + 7}: [[destinations.crm.requests]] #2 when: column 1: did you mean"
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
