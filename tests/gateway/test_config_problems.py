"""Mistakes in a configuration are reported together, each with its place and correction."""

from pathlib import Path

import pytest

from gateway.config.loader.load import load
from gateway.errors import ConfigError
from tests.gateway.config_loading import FINE, problems, registry

TWELVE = """\
[server]
listen = "8080"
[spol]
path = "x"
[sources.shop]
vendor = "acmee"
keys = []
[sources.Shop]
vendor = "horn"
keys = ["x"]
mount = "shop/"
[destinations.crm]
vendor = "acme"
tokn = "t"
url = "ftp://crm.example"
timeout = "soon"
[destinations.in]
vendor = "horn"
[[routes]]
from = ["shop"]
to = ["crn"]
types = ["trak"]
"""


def test_twelve_mistakes_are_twelve_sentences(tmp_path: Path) -> None:
    """All mistakes of a file are listed in order, with line, table, key and correction."""
    assert problems(tmp_path, TWELVE) == [
        (
            "gateway.toml:2: [server] listen: is not an address to listen on; write "
            '"127.0.0.1:8080", "[::1]:8080", or ":8080"'
        ),
        "gateway.toml:3: [spol]: unknown table; did you mean spool?",
        "gateway.toml:6: [sources.shop] vendor: there is no vendor 'acmee'; did you mean acme?",
        (
            "gateway.toml:7: [sources.shop] keys: is empty, so nobody could send events; list the "
            "keys to accept"
        ),
        (
            "gateway.toml:8: [sources.Shop]: is not a name; use a-z, 0-9, '_' and '-', and begin "
            "with a letter or digit"
        ),
        'gateway.toml:11: [sources.Shop] mount: must start with a slash; write mount = "/shop"',
        "gateway.toml:14: [destinations.crm] tokn: unknown key; did you mean token?",
        (
            "gateway.toml:15: [destinations.crm] url: is not an http or https URL; write one like "
            "https://api.example.com"
        ),
        (
            'gateway.toml:16: [destinations.crm] timeout: is not a duration; write "500ms", "10s", '
            '"5m", "2h", "7d", or seconds'
        ),
        "gateway.toml:18: [destinations.in] vendor: horn has no output; known: acme",
        "gateway.toml:21: [[routes]] #1 to: there is no destination 'crn'; did you mean crm?",
        (
            "gateway.toml:22: [[routes]] #1 types: item 1 must be 'track', 'identify', 'alias', "
            "'page', 'screen', 'group' or 'product'; did you mean track?"
        ),
    ]


def changed(table: str, lines: str) -> str:
    """Return the valid file with *lines* added to one of its tables."""
    return FINE.replace(f"[{table}]\n", f"[{table}]\n{lines}\n")


SOURCE = "sources.shop"
CRM = "destinations.crm"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (changed(SOURCE, 'mount = "/a/"'), ("[sources.shop] mount: must not end in a slash; "
         'write mount = "/a"')),
        (changed(SOURCE, 'mount = "/"'), "[sources.shop] mount: is the root"),
        (changed(SOURCE, 'mount = "/a/../b"'), "[sources.shop] mount: is not a plain path"),
        (changed(SOURCE, 'mount = "/a?b"'), "[sources.shop] mount: is not a plain path"),
        (changed(SOURCE, 'hosts = ["https://a.example"]'), "[sources.shop] hosts: must have host"),
        (changed(SOURCE, 'hosts = ["a.example:80"]'), "[sources.shop] hosts: must have host"),
        (changed(SOURCE, "hosts = []"), "[sources.shop] hosts: is empty"),
        (changed(SOURCE, 'hosts = "a.example"'), "[sources.shop] hosts: must be a list"),
        (changed(SOURCE, 'dedup = "0s"'), "[sources.shop] dedup: must be more than 0"),
        (changed(SOURCE, "allow_any_key = 3"), ("[sources.shop] allow_any_key: must be true or "
         "false")),
        (changed(SOURCE, "allow_any_key = 1"), "[sources.shop] allow_any_key: must be true or"),
        (changed(CRM, 'passthrough = "off"'), "[destinations.crm] passthrough: must be true or"),
        (changed("[routes]", 'stop = "yes"'), "[[routes]] #1 stop: must be true or false"),
        (FINE.replace('["shop-key"]', '"shop-key"'), "[sources.shop] keys: must be a list of"),
        (FINE.replace('["shop-key"]', "[3]"), "[sources.shop] keys: must be a list of"),
        (FINE.replace('["shop-key"]', '["  "]'), "[sources.shop] keys: the credential is empty"),
        (FINE.replace('keys = ["shop-key"]\n', ""), ("[sources.shop] keys: missing; add it: The "
         'keys that clients may send, or `"any"`')),
        (FINE.replace('"crm-token"', '""'), "[destinations.crm] token: the credential is empty"),
        (FINE.replace('token = "crm-token"\n', ""), ("[destinations.crm] token: missing; add it: "
         "The token of the account")),
        (FINE.replace('vendor = "acme"\ntoken', "token"), "[destinations.crm] vendor: missing"),
        (changed(CRM, "concurrency = 0"), "[destinations.crm] concurrency: must be at least 1"),
        (changed(CRM, "concurrency = 1.5"), "[destinations.crm] concurrency: must be a whole"),
        (changed(CRM, 'concurrency = "many"'), "[destinations.crm] concurrency: must be a whole"),
        (changed(CRM, "concurrency = true"), ("[destinations.crm] concurrency: must be a whole "
         "number, such as 8")),
        (changed(CRM, "max_backlog = true"), ("[destinations.crm] max_backlog: must be a whole "
         "number, such as 10")),
        (FINE + "[trace]\ncpu_share = true", "[trace] cpu_share: must be a number, such as 0.04"),
        (FINE + "[trace]\nsuccess_rate_limit = true", ("[trace] success_rate_limit: must be a "
         "whole number, such as 50")),
        (FINE + "[trace]\ncpu_share = 'x'", "[trace] cpu_share: must be a number, such as 0.04"),
        (FINE + "[trace]\npath = ''", "[trace] path: is empty; name a file, or remove it"),
        (FINE + "[alerts]\nurl = 'https://a.example'\nheaders = { a = \"b\\n\" }", ("[alerts] "
         "headers: a: the header's value must be printable ASCII on one line")),
        (changed(CRM, "timeout = 0"), "[destinations.crm] timeout: must be more than 0"),
        (changed(CRM, "timeout = -1"), "[destinations.crm] timeout: is not a duration"),
        (changed(CRM, "timeout = true"), "[destinations.crm] timeout: is not a duration"),
        (changed(CRM, 'retry_min = "1h"'), ("[destinations.crm] retry_min: is longer than "
         "retry_max, 5m; swap them")),
        (changed(CRM, 'rate = "5/day"'), "[destinations.crm] rate: is not a rate"),
        (changed(CRM, 'rate = "5s"'), "[destinations.crm] rate: is not a rate"),
        (changed(CRM, 'on_full = "explode"'), ("[destinations.crm] on_full: must be 'refuse' or "
         "'dead_letter'")),
        (changed(CRM, 'mode = "fats"'), ("[destinations.crm] mode: must be 'fast' or 'careful'; "
         "did you mean fast?")),
        (changed(CRM, "max_backlog = -1"), "[destinations.crm] max_backlog: must be at least 1"),
        (changed(CRM, 'url = "crm.example"'), "[destinations.crm] url: is not an http or https"),
        (changed(CRM, 'url = "https://"'), "[destinations.crm] url: is not an http or https"),
        (changed(CRM, 'url = "https://a.example:x"'), "[destinations.crm] url: has a port"),
        (changed(CRM, 'url = "https://[a.example"'), "[destinations.crm] url: is not a URL"),
        (changed(CRM, 'url = "https://a.example/?q=1"'), "[destinations.crm] url: must not"),
        (changed(CRM, "url = 3"), "[destinations.crm] url: must be text; put it in quotes"),
        (changed("[routes]", "form = ['shop']"), ("[[routes]] #1 form: unknown key; did you mean "
         "from?")),
        (changed("[routes]", "from = ['shpo']"), ("[[routes]] #1 from: there is no source 'shpo'; "
         "did you mean shop?")),
        (changed("[routes]", "from = []"), "[[routes]] #1 from: is empty"),
        (changed("[routes]", "names = 'Order *'"), "[[routes]] #1 names: must be a list"),
        (changed("[routes]", "names = [3]"), "[[routes]] #1 names: item 1 must be text"),
        (FINE.replace('to = ["crm"]', "to = []"), "[[routes]] #1 to: is empty"),
        (FINE.replace('to = ["crm"]', ""), "[[routes]] #1 to: missing; add it: The destinations"),
        (FINE.replace("[[routes]]", "[routes]"), ("[routes]: must be a list of tables; write "
         "[[routes]]")),
        (FINE + "[destinations]\ncrm2 = 3", ("[destinations] crm2: must be a table; write "
         "[destinations.crm2]")),
        ("server = 3\n" + FINE, "server: must be a table; write [server]"),
        ("servr = 3\n" + FINE, "servr: unknown table; did you mean server?"),
        (FINE + "[spool]\nmax_bytes = '1 gigabyte'", "[spool] max_bytes: is not a size"),
        (FINE + "[spool]\nmax_bytes = '0.5B'", "[spool] max_bytes: is not a whole number of"),
        (FINE + "[spool]\nmax_age = 0", "[spool] max_age: must be more than 0"),
        (FINE + "[spool]\npath = ''", "[spool] path: is empty; name a folder"),
        (FINE + "[server]\nlisten = '1.2.3.4:70000'", "[server] listen: is not an address"),
        (FINE + "[server]\nlisten = '[1.2.3.4]:80'", "[server] listen: is not an address"),
        (FINE + "[server]\nlisten = 'http://a:80'", "[server] listen: is not an address"),
    ],
)  # fmt: skip
def test_one_mistake_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    """A mistake is reported once, at its table and key, and causes no second problem."""
    (problem,) = problems(tmp_path, text)
    place, _, sentence = problem.partition(": ")
    assert place.partition(":")[0] == "gateway.toml"
    assert sentence.startswith(said)


def test_an_empty_file_says_what_is_needed(tmp_path: Path) -> None:
    """A file without sources and destinations has a problem for each."""
    assert problems(tmp_path, "") == [
        "gateway.toml: [sources]: there is none; add [sources.NAME]",
        "gateway.toml: [destinations]: there is none; add [destinations.NAME]",
    ]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("[server]\nlisten = \n", ":2: is not TOML: "),
        ("[server]\n\na = '", ":3: is not TOML: "),
        ('[server]\nlisten = ":80\n', ":2: is not TOML: a text has no closing quote; "),
        ("[server]\nlisten = 1\nlisten = 2", ":3: is not TOML: this key occurs twice"),
    ],
)
def test_invalid_toml_is_reported_with_its_line(tmp_path: Path, text: str, place: str) -> None:
    """Invalid TOML is reported with its line, also at the end of the file.

    The two commonest mistakes have their own words.
    """
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(f"gateway.toml{place}")


def test_an_unknown_table_is_reported_with_the_line_of_its_first_header(tmp_path: Path) -> None:
    """A misspelt table is reported with a line, also if the file has only tables within it."""
    (problem,) = problems(tmp_path, f"{FINE}\n[trce.a]\n[trce.b]\n")
    line = f"{FINE}\n".count("\n") + 1
    assert problem == f"gateway.toml:{line}: [trce]: unknown table; did you mean trace?"


def test_deeply_nested_toml_is_a_problem(tmp_path: Path) -> None:
    """TOML that is nested too deeply is reported, and does not crash the command."""
    (found,) = problems(tmp_path, "include = " + "[" * 100_000)
    assert "is nested too deeply" in found


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    """A missing file, a folder, and a file that is not UTF-8 are each reported by path."""
    (tmp_path / "latin.toml").write_bytes(b"# caf\xe9\n")
    for name, reason in (
        ("missing.toml", "no such file or directory; name a readable file"),
        (".", "is a directory; name a readable file"),
        ("latin.toml", "is not UTF-8 text; save it as UTF-8"),
    ):
        path = tmp_path / name
        with pytest.raises(ConfigError) as caught:
            load(path, registry(), {})
        assert caught.value.problems == [f"{path}: {reason}"]


def _source(name: str, more: str = "", vendor: str = "acme") -> str:
    return f'[sources.{name}]\nvendor = "{vendor}"\nkeys = ["x"]\n{more}\n'


@pytest.mark.parametrize(
    ("sources", "said"),
    [
        (_source("two").replace('["x"]', '["y", "shop-key"]'), ("[sources.two] keys: conflicts "
         "with [sources.shop]: both serve /acme/events, and item 2 of keys is in both; set mount "
         "or hosts in one of them")),
        (_source("two").replace('["x"]', '"any"'), ("[sources.two] keys: conflicts with "
         '[sources.shop]: both serve /acme/events, and keys = "any" does not distinguish them: '
         "list the keys of both; set mount or hosts in one of them")),
        (_source("two", vendor="horn"), ("[sources.two] vendor: conflicts with [sources.shop]: "
         "both serve /acme/events")),
        (_source("a", 'mount = "/m"') + _source("b", 'mount = "/m"', "horn"), ("[sources.b] mount: "
         "conflicts with [sources.a]: both serve /m/acme/events")),
        (_source("a", 'hosts = ["x.example", "y.example"]') + _source("b", 'hosts = ["Y.EXAMPLE"]'),
         "[sources.b] keys: conflicts with [sources.a]"),
    ],
)  # fmt: skip
def test_overlapping_sources_are_a_problem(tmp_path: Path, sources: str, said: str) -> None:
    """Two sources that match the same request are a problem, and no key is printed."""
    (problem,) = problems(tmp_path, FINE + sources)
    assert "shop-key" not in problem
    assert problem.partition(": ")[2].startswith(said)


OPEN = FINE.replace('["shop-key"]', '"any"')


@pytest.mark.parametrize("listen", [":8080", "0.0.0.0:8080", "[::]:8080", "gateway.internal:80"])
def test_any_key_on_a_public_address_is_a_problem(tmp_path: Path, listen: str) -> None:
    """``keys = "any"`` on a public address is an error unless ``allow_any_key`` is set."""
    (problem,) = problems(tmp_path, OPEN + f'[server]\nlisten = "{listen}"\n')
    assert f'[sources.shop] keys: "any" would let everybody who can reach {listen} send' in problem
    opened = OPEN.replace('"any"', '"any"\nallow_any_key = true')
    path = tmp_path / "gateway.toml"
    path.write_text(opened + f'[server]\nlisten = "{listen}"\n')
    assert load(path, registry(), {}).warnings == ()


def test_a_listen_address_from_outside_is_checked_too(tmp_path: Path) -> None:
    """An address from the command line obeys the same rules as the file's."""
    (problem,) = problems(tmp_path, OPEN, listen=":8080")
    assert "[sources.shop] keys:" in problem


TEST = '[[tests]]\nname = "a sale"\nbody = {}\n'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (changed(SOURCE, "open = true"), "[sources.shop] open: renamed; write allow_any_key"),
        (changed(SOURCE, "violations = 1"), "[sources.shop] violations: renamed; write on_violat"),
        (changed(CRM, 'full = "dead"'), "[destinations.crm] full: renamed; write on_full"),
        (f'{FINE}[spool]\nfull = "dead"', "[spool] full: renamed; write on_full"),
        (f"{FINE}[trace]\non = true", "[trace] on: renamed; write enabled"),
        (f'{FINE}[trace]\nkeep = "1d"', "[trace] keep: renamed; write retention"),
        (f"{FINE}[trace]\nmax_size = 1", "[trace] max_size: renamed; write max_bytes"),
        (f"{FINE}[trace]\nbodies = 1", "[trace] bodies: renamed; write max_body"),
        (f"{FINE}[trace]\nsuccesses_per_second = 1", "renamed; write success_rate_limit"),
        (f'{FINE}[trace]\notlp = ""', "[trace] otlp: renamed; write otlp_url"),
        (f"{FINE}[log]\nsuccesses_per_second = 1", "renamed; write success_rate_limit"),
        (f'{FINE}[alerts]\nurl = "http://a"\nagain = "1h"', "renamed; write repeat_interval"),
        (f'{FINE}[alerts]\nurl = "http://a"\ncheck_every = 1', "renamed; write check_interval"),
        (f'{FINE}[consent]\nremember = "1d"', "[consent] remember: renamed; write retention"),
        (changed("[routes]", "otherwise = true"), "otherwise: renamed; write fallback"),
        (changed("[routes]", "also = true"), "[[routes]] #1 also: renamed; write additional"),
        (f"{FINE}{TEST}gets = []", "[[tests]] #1 gets: renamed; write expect"),
        (f'{FINE}{TEST}why_not.crm = "x"', "[[tests]] #1 why_not: renamed; write withheld"),
        (f'{FINE}{TEST}refused = "x"', "[[tests]] #1 refused: renamed; write rejected"),
        (f"{FINE}{TEST}expect.crm.exactly = true", "crm: exactly: renamed; write exact"),
        (f'{FINE}{TEST}expect.crm.lacks = ["x"]', "crm: lacks: renamed; write absent"),
        (f'{FINE}{TEST}expect.crm.hides = ["x"]', "crm: hides: renamed; write must_not_contain"),
    ],
)  # fmt: skip
def test_an_old_key_names_the_new_one(tmp_path: Path, text: str, said: str) -> None:
    """A renamed key is an error that names the new key."""
    assert said in "\n".join(problems(tmp_path, text))
