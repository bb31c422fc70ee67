"""Configuration files for display, without credentials."""

import time
from pathlib import Path

import pytest

from gateway.admin.config_mask import masked
from gateway.admin.config_text import (
    ConfigChange,
    ConfigFinding,
    changes,
    placed,
    read_files,
    secret_keys,
)
from gateway.plugin.registry import load_plugins
from gateway.redact import Redactor

KEYS = secret_keys(load_plugins())
NOTHING = Redactor(None)


def shown_lines(text: str) -> list[str]:
    """Return the lines of a file as they are shown, while no credential is known."""
    return masked(text, KEYS, NOTHING).splitlines()


@pytest.mark.parametrize(
    "text",
    [
        '[sources.shop]\nkeys = ["canary", # first\n  "canary"]',
        "[sources]\nshop = { vendor = 'chrts', keys = ['canary'], secrets = [\"canary\"] }",
        '[destinations.crm]\napi_key = "canary"\n# api_key = "canary"',
        '[destinations.crm]\nheaders = { authorization = "Bearer canary", "x-b" = \'canary\' }',
        "[destinations.crm.headers]\nauthorization = 'Bearer canary'",
        '[destinations.crm]\nurl = "https://user:canary@crm.example"',
        '[destinations.crm]\nurl = "https://user:pa\'canary@crm.example/x"',
        '[destinations.crm]\nurl = "https://user:p@canary@crm.example"',
        "[destinations.crm]\nurl = 'https://user:pa/canary@crm.example'",
        '[destinations.crm]\nurl = "https://crm.example/?k=\'canary and canary"',
        '# was https://crm.example/x?canary\nvendor = "http" # or https://a.example?x=canary',
        '[destinations.crm]\nshop_secret = """\ncanary"""',
        "[destinations.crm]\nshop_secret = '''canary\ncanary\n''' # and so on",
        '[destinations.crm]\nshop_secret = "canary \\" canary"',
        '[destinations.crm]\nshop_secret = "${A:-canary}"',
        '[destinations.crm]\nshop_secret = "canary',
        '[alerts]\nurl = "https://hooks.example/canary"',
        '[alerts]\nheaders.authorization = "canary"',
        '[admin]\ntoken = "canary"',
        '[[routes]]\nsteps = [{ hash = ["user_id"], key = "canary" }]',
    ],
)
def test_values_of_secret_keys_are_hidden(text: str) -> None:
    """The value of a secret key is hidden, however it is written, and each line stays a line."""
    lines = shown_lines(text)
    assert "canary" not in "\n".join(lines)
    assert len(lines) == len(text.splitlines())


def test_everything_else_is_shown() -> None:
    """References to credentials, other settings and comments are shown as they are."""
    text = (
        '# The shop\n[sources.shop]\nkeys = ["${SHOP_KEY}", "file:/run/key"]\n'
        'vendor = "chrts"\n[destinations.crm]\nurl = "https://crm.example" # "quoted"\n'
        'rate = "200/s"'
    )
    assert "\n".join(shown_lines(text)) == text


def test_known_credentials_are_hidden_everywhere() -> None:
    """A credential of the running configuration is hidden in any place."""
    redactor = NOTHING.with_secrets(["canary-of-the-shop"])
    assert masked("# it was canary-of-the-shop", KEYS, redactor) == "# it was ***"


def test_only_readable_toml_files_are_shown(tmp_path: Path) -> None:
    """Schemas and tables that a configuration names are no part of it; lost files are left out."""
    file, table = tmp_path / "gateway.toml", tmp_path / "names.csv"
    file.write_text("[server]\n")
    table.write_text("a,b\n")
    (tmp_path / "latin.toml").write_bytes(b"# \xff\n")
    paths = [file, table, tmp_path / "gone.toml", tmp_path / "latin.toml"]
    (found,) = read_files(paths, NOTHING, KEYS)
    assert (found.path, found.lines) == (str(file), ["[server]"])


def test_a_finding_has_its_line() -> None:
    """A problem that begins with a known file and a line is taken apart."""
    path = Path("/etc/gateway: new.toml")
    text = f"{path}:12: [server] listen: is not an address"
    assert placed(text, [path]) == ConfigFinding(
        "[server] listen: is not an address", str(path), 12
    )
    assert placed(text, []) == ConfigFinding(text, "", None)


def test_differences_name_the_setting() -> None:
    """Each setting that differs is listed with both values; a missing one is null."""
    running = {"server": {"a": 1, "b": [1]}, "old": {"c": "x"}}
    file = {"server": {"a": 2, "b": [1]}, "new": 3}
    assert list(changes(running, file)) == [
        ConfigChange("server.a", 1, 2),
        ConfigChange("old", {"c": "x"}, None),
        ConfigChange("new", None, 3),
    ]


SECRETS = """
[admin]
operators = { alice = "canary-1" }
[admin.operators]
carol = "canary-2"
[sources.shop]
vendor = "chrts"
keys = ["canary-3"] # before it was canary-4
# keys = ["canary-5"]
[destinations.crm]
vendor = "http"
url = "https://canary-6:canary-7@crm.example/x?key=canary-8"
auth = { bearer = "canary-9" }
# auth = { bearer = "canary-10" }
auth.basic.user = "canary-11"
[destinations.crm.auth]
"bearer" = "canary-12"
path = '''
canary-13
'''
[destinations.crm.auth.hmac]
secret = "canary-14"
typo = [
"""


def test_no_credential_of_an_invalid_file_is_shown() -> None:
    """Credentials at any depth, and in comments, are hidden; other lines stay."""
    shown = "\n".join(shown_lines(SECRETS))
    assert "canary" not in shown
    for line in (
        "[admin.operators]",
        'vendor = "chrts"',
        "[destinations.crm.auth.hmac]",
        "typo = [",
    ):
        assert line in shown


@pytest.mark.parametrize(
    "text",
    [
        '[destinations.crm]\n"api_key" = "canary"',
        "[destinations.crm]\n'api_key'='canary'",
        '[destinations.crm]\n"api\\u005fkey" = "canary"',
        '["destinations".crm."auth"]\nbearer = "canary"',
        "[ destinations . 'crm' . auth ]\nbearer = \"canary\"",
        'destinations.crm.api_key = "canary"',
        'destinations = { crm = { vendor = "chrts", api_key = "canary" } }',
        '[destinations]\ncrm = { "auth" = { header = { x-key = "canary" } } }',
        '[destinations.crm]\nauth . bearer = "canary"',
        '[destinations.crm]\nauth = {\n  bearer = "canary"\n}',
        '[sources.shop]\nkeys = [\n  "a", # "canary"\n  # "canary",\n\n  "canary", ]',
        '[sources.shop]\nkeys = [[ "canary" ], ["canary"]]',
        '[destinations.crm]\napi_key = """canary"""',
        '[destinations.crm]\napi_key = """\\\n  canary"""',
        "[destinations.crm]\napi_key = ''''canary''''",
        '[destinations.crm]\napi_key = """canary',
        '[destinations.crm]\nnote = """\nnever closed\napi_key = "canary"',
        '[destinations.crm]\nnote = """x\napi_key = "canary"\nother = """y"""',
        "[destinations.crm]\napi_key = canary-123",
        "[destinations.crm]\n# api_key = canary-123",
        "[server]\n# [sources.shop]\n# keys = [\n#   'canary',\n# ]",
        '[server]\nlist = [\n[sources.shop]\nkeys = ["canary"]',
        '[server]\nlist = [\nadmin.token = "canary"',
        '[destinations.crm]\nurl = "https://user:c\\u0061nary@crm.example"',
        '[destinations.crm]\nurl = "https:\\u002f\\u002fuser:canary@crm.example/"',
        '[destinations.crm]\nurl = "https://crm.example/?key=canary" # https://u:canary@x/',
        '[[routes]]\nsteps = [\n  # { hash = ["id"], key = "canary" },\n]',
        '[admin.operators]\n"ann b" = "canary"',
        'admin = { token = "canary", operators = { "a" = "canary" } }',
        '[destinations.crm]\napi_key = "canary" rest = "canary"',
        '[destinations.hook.auth.basic]\nuser = "canary"\nx = [',
        '[admin.operators]\nmonitor = "canary"\nclient = "canary"\nx = [',
        '[admin.viewers]\nname = "canary"\nx = [',
        "[destinations.crm.headers]\nnames = 'canary'\nx = [",
        "[destinations.crm]\napi_key =\ncanary=\n",
        '[destinations.crm]\napi_key = """\ncanary=x\n',
        '[destinations.crm]\nwrite_key: "canary"\nwrite_key =\n"canary"',
        '[destinations.crm]\nheaders = { "x-b"="a" "x-c"="canary" }',
        '"api_key = "canary"\n#  key: canary\n',
        '[destinations.crm]\nurl = "https://hooks.example/canary"\nx = [',
        '[destinations.crm]\n[destinations.crm.auth.hmac]\nsecret = "canary"\r\nx = 1\r',
    ],
)
def test_no_spelling_shows_a_credential(text: str) -> None:
    """A credential is hidden in whatever way TOML, or a mistake in it, lets one write its key."""
    lines = shown_lines(text)
    assert "canary" not in "\n".join(lines).replace("c\\u0061nary", "canary")
    assert len(lines) == len(text.splitlines())


@pytest.mark.parametrize("path", sorted(Path("config").rglob("*.toml")), ids=str)
def test_nothing_else_is_hidden(path: Path) -> None:
    """What is no credential, or only names one, is shown as it is; default values are hidden."""
    text = path.read_text()
    code = text.partition("[[tests]]")[0].splitlines()  # tests of presets hold documents' keys
    hidden = [old for old, new in zip(code, shown_lines(text), strict=False) if old != new]
    assert [line for line in hidden if ":-" not in line and '= "sandbox"' not in line] == []


@pytest.mark.parametrize(
    "text",
    [
        'a = "' * 5000, "a = " + "[" * 5000, "a = [\n" + '"x", # c\n' * 5000 + "]\n",
        'k = ["v"] # c\n' * 5000, '# k = "v"\n' * 5000, "a = {" * 5000,
    ],
    ids=["quotes", "brackets", "array", "lines", "comments", "tables"],
)  # fmt: skip
def test_a_long_text_is_masked_in_time_that_grows_with_it(text: str) -> None:
    """No text takes more than some hundred microseconds a token."""
    began = time.thread_time()
    shown_lines(text)
    assert time.thread_time() - began < 8
