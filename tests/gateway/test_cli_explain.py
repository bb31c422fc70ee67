"""The output of `gateway explain` and `gateway test`."""

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main

FIRST = Path(__file__).parents[2] / "config/gateway.toml"
CONFIG = """
[consent]
retention = "1d"
[sources.shop]
vendor = "personaclick"
keys = ["${SHOP_ID}"]
[destinations.ads]
vendor = "growlytics"
api_key = "file:/nonexistent/growlytics_key"
[destinations.crm]
vendor = "chrts"
api_key = "${CRM_KEY}"
[[routes]]
name = "large orders"
when = "event.properties.total > 100"
steps = [{ consent = "advertising" }, { hash = ["traits.email"] }]
to = ["ads"]
[[routes]]
to = ["crm"]
"""
BODY = orjson.dumps({
    "shop_id": "value-of-SHOP_ID", "did": "device-1", "seance": "s-1", "event": "purchase",
    "order_id": "A-1", "order_price": 120.5, "email": "anna@shop.example",
    "items": [{"id": "a", "amount": 2, "price": 50}],
}).decode()  # fmt: skip
TEST = f"""
[[tests]]
name = "an order"
from = "shop"
path = "/push"
body = '''{BODY}'''
"""


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave the variables of the configuration unset."""
    monkeypatch.delenv("SHOP_ID", raising=False)
    monkeypatch.delenv("CRM_KEY", raising=False)


def config(folder: Path, more: str = "") -> Path:
    """Return the path of the configuration."""
    path = folder / "gateway.toml"
    path.write_text(CONFIG + more)
    return path


def run(*args: str | Path, stdin: str = "") -> Result:
    """Run a command and return its result."""
    return CliRunner().invoke(main, [str(arg) for arg in args], input=stdin.encode())


def test(folder: Path, more: str, *options: str) -> Result:
    """Run `gateway test` with the test of an order and *more* lines; return the result."""
    return run("test", *options, "-c", config(folder, TEST + more))


test.__test__ = False  # type: ignore[attr-defined]  # it is no test of its own


def test_explain_shows_event_routes_requests_and_losses(tmp_path: Path) -> None:
    """The output has event, verdicts, steps, requests and losses, in fewer than 100 columns."""
    path = config(tmp_path)
    shown = run(
        "explain", "--config", path, "--path", "/push", "--consent", "advertising", "-",
        stdin=BODY,
    )  # fmt: skip
    assert shown.exit_code == 0, shown.output
    for said in (
        "POST /push through shop, in the format of personaclick",
        'response: 200 {"status":"success"}',
        "event: Order Completed (track)",
        "✓ large orders  → ads",
        "decided by   event.properties.total > 100",
        "consent      passed",
        'hash         traits.email: "anna@shop.example" →',
        "ads (growlytics) gets",
        "x-growlytics-key: ***",
        "lost or coerced",
        "✓ route 2  → crm",
    ):
        assert said in shown.output, said
    assert max(map(len, shown.output.splitlines())) < 100
    assert "\x1b" not in shown.output, "no colours in a pipe"
    assert not any(line != line.rstrip() for line in shown.output.splitlines())


def test_explain_reads_a_whole_request(tmp_path: Path) -> None:
    """A raw HTTP request brings its own path, headers and credential."""
    path = config(tmp_path)
    request = f"POST /push HTTP/1.1\r\nHost: shop.example\r\n\r\n{BODY}"
    shown = run("explain", "--config", path, "-", stdin=request)
    assert "✓ route 2  → crm" in shown.output
    assert "- large orders  → ads" in shown.output
    assert "consent      filtered: no recorded consent to advertising" in shown.output
    shown = run("explain", "--config", path, "-", stdin="GET /init?shop_id=x\n\n")
    assert "no event: the gateway responds to such reads itself" in shown.output


NAMED = orjson.dumps({
    "source": {"id": "x"}, "session": {"id": "s"},
    "events": [{"type": "\x1b[31m", "properties": {"\x1b[31m": 1}}],
}).decode()  # fmt: skip
"""An event of Tracardi whose names contain control characters."""


@pytest.mark.parametrize(
    ("options", "request_"),
    [
        (("explain",), f"POST /\x1b[31m HTTP/1.1\r\n\r\n{BODY}"),
        (("explain", "--path", "/\x1b[31m"), BODY),
        (("translate", "--from", "tracardi", "--to", "growlytics"), NAMED),
    ],
)
def test_no_request_controls_the_terminal(
    tmp_path: Path, options: tuple[str, ...], request_: str
) -> None:
    """Control characters of a request, which may be an attacker's, are not printed."""
    command, *rest = options
    chosen = ["--config", str(config(tmp_path))] if command == "explain" else []
    shown = run(command, *chosen, *rest, "-", stdin=request_)
    assert shown.output
    assert "\x1b" not in shown.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--from", "shpo"), "there is no source 'shpo'; did you mean shop?"),
        (("--path", "/psuh", "--from", "shop"), "did you mean /push?"),
        (
            ("--config", str(FIRST), "--consent", "x"),
            "does not store consent; set retention in [consent] first",
        ),
        (("--ip", "nope"), "'nope' is not an IP address; write \"203.0.113.7\""),
        (("--from", "shop"), "several endpoints accept this body: "),
        (("--from", "shop"), "; give the --path"),
        (("--header", "host"), "the header 'host' has no colon; write NAME:VALUE"),
    ],
)
def test_explain_reports_wrong_options(tmp_path: Path, options: tuple[str, ...], said: str) -> None:
    """A wrong option prints a sentence without a traceback."""
    shown = run("explain", "--config", config(tmp_path), *options, "-", stdin=BODY)
    assert shown.exit_code != 0
    assert said in shown.output
    assert "Traceback" not in shown.output


@pytest.mark.parametrize("credential", ["Bearer ***", "***"])
def test_a_test_passes(tmp_path: Path, credential: str) -> None:
    """A test passes if destinations, requests and reasons for withholding are as expected."""
    more = f"""
withheld = {{ ads = "no recorded consent to advertising" }}
[tests.expect.crm]
method = "POST"
path = "/event/track"
headers = {{ Authorization = "{credential}" }}
absent = ["properties.phone", "email"]
must_not_contain = ["bella@shop.example"]
body = '{{"name": "Order Completed", "properties": {{"total": 120.5, "order_id": "A-1"}}}}'
"""
    shown = test(tmp_path, more)
    assert shown.exit_code == 0, shown.output
    assert shown.output == "✓ an order\n\n1 test passed\n"


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (
            'expect = ["crm", "ads"]',
            "ads: gets nothing: large orders: consent: no recorded consent to",
        ),
        ("expect = []", "crm: gets a request, but should get nothing"),
        ('withheld = { ads = "too small" }', "ads: gets nothing for another reason"),
        ('withheld = { ads = "too small" }', '- reason  "too small"'),
        ('rejected = "credential"', "the request is not rejected: its events are accepted"),
        ("expect.crm = [{}, {}]", "crm: gets 1 requests, not 2"),
        ('expect.crm.path = "/event"', '- path  "/event"'),
        ('expect.crm.path = "/event"', '+ path  "/event/track"'),
        ('expect.crm.method = "PUT"', '+ method  "POST"'),
        ('expect.crm.headers.x-y = "z"', '- x-y  "z"'),
        ('expect.crm.headers.x-y = "***"', '- x-y  "***"'),
        ('expect.crm.headers.content-type = "***"', '- content-type  "***"'),
        ("expect.crm.body.properties.total = 120", "- properties.total  120"),
        ("expect.crm.body.properties.total = 120", "+ properties.total  120.5"),
        ("expect.crm.body.properties.products = []", "- properties.products"),
        ('expect.crm = { exact = true, body.name = "x" }', "+ properties.order_id"),
        ('expect.crm.absent = ["properties.products.price"]', "has fields that must be absent"),
        ('expect.crm.must_not_contain = ["A-1"]', "contains 'A-1', which it must not"),
    ],
)
def test_a_test_fails_with_a_difference(tmp_path: Path, more: str, said: str) -> None:
    """A failed test shows each destination's difference with its paths."""
    shown = test(tmp_path, more)
    assert shown.exit_code != 0
    assert said in shown.output
    assert max(map(len, shown.output.splitlines())) < 120


def test_a_failing_test_can_be_explained(tmp_path: Path) -> None:
    """A failed test names its line; ``--explain`` adds every route's decision."""
    shown = test(tmp_path, "expect = []")
    assert f"{tmp_path}/gateway.toml:21" in shown.output
    assert "✓ route 2" not in shown.output
    assert "✓ route 2" in test(tmp_path, "expect = []", "--explain").output


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("", "expects nothing; add expect, withheld or rejected"),
        ('expect = ["crn"]', "expect: there is no destination 'crn'; did you mean crm?"),
        ('expect = "crm"', "must be a list of destinations, or a table of them"),
        ("expect.crm.bdy = 1", "expect: crm: bdy: unknown key; did you mean body?"),
        ('withheld.crn = "x"', "withheld: there is no destination 'crn'"),
        ('expect = ["crm"]\nwithheld.crm = "x"', "names crm, and so does expect"),
        (
            'expect = []\nrejected = "x"\nwithheld.crm = "x"',
            "rejected: excludes expect and withheld; remove one",
        ),
        ("expects = []", "unknown key; did you mean expect?"),
        ('expect = []\nfile = "x.json"', "file: excludes body; remove one of the two"),
        (
            "expect = []\nconsented = [{ a = 1 }]",
            'consented: must be a list of categories; write ["',
        ),
        ('expect = []\nip = "nope"', 'ip: is not an IP address; write "203.0.113.7"'),
        ('expect = []\nat = "noon"', "is not a time; write 2025-06-01T12:00:00Z"),
    ],
)
def test_mistakes_in_a_test_are_found(tmp_path: Path, more: str, said: str) -> None:
    """A mistake in a test is reported with place, key and correction."""
    shown = run("check", "-c", config(tmp_path, TEST + more))
    assert shown.exit_code == 1
    assert said in shown.output
    assert "[[tests]] #1" in shown.output


def test_recorded_consent_needs_retention(tmp_path: Path) -> None:
    """A test with recorded consent is an error if [consent] has no retention."""
    text = config(tmp_path, TEST + 'expect = []\nconsented = ["advertising"]\n').read_text()
    (tmp_path / "gateway.toml").write_text(text.replace('retention = "1d"', ""))
    shown = run("test", "-c", tmp_path / "gateway.toml")
    assert "consented: needs retention in [consent]; set it" in shown.output


def test_tests_can_have_a_file_of_their_own(tmp_path: Path) -> None:
    """A test file can include the configuration, and read bodies from files beside it."""
    config(tmp_path)
    (tmp_path / "order.json").write_text(BODY)
    tests = tmp_path / "tests.toml"
    tests.write_text(
        'include = ["gateway.toml"]\n[[tests]]\nname = "an order"\nfrom = "shop"\npath = "/push"\n'
        'file = "order.json"\nexpect = ["crm"]\n'
    )
    assert run("test", "-c", tests).exit_code == 0
    (tmp_path / "order.json").unlink()
    shown = run("test", "-c", tests)
    assert "file order.json: no such file or directory; correct the path" in shown.output


def test_there_must_be_a_test(tmp_path: Path) -> None:
    """A file without tests fails, and so does a ``--name`` that matches no test."""
    shown = run("test", "-c", config(tmp_path))
    assert shown.exit_code == 1
    assert "has no tests; add one" in shown.output
    shown = test(tmp_path, "expect = []", "--name", "nonesuch")
    assert shown.exit_code == 2
    assert "there is no test 'nonesuch'; known: " in shown.output


def test_two_tests_of_one_name_are_both_run(tmp_path: Path) -> None:
    """Tests with the same name all run, and one failure fails the command."""
    shown = run("test", "-c", config(tmp_path, f'{TEST}expect = ["crm"]{TEST}expect = []'))
    assert shown.exit_code == 1
    assert "1 of 2 tests failed" in shown.output


def test_an_unset_size_is_an_error_that_names_its_variable(tmp_path: Path) -> None:
    """An unset URL gets a placeholder; an unset size is an error that names the variable."""
    text = config(tmp_path, f'{TEST}expect = ["crm"]').read_text()
    text = text.replace('api_key = "${CRM_KEY}"', 'api_key = "${CRM_KEY}"\nurl = "${CRM_URL}"')
    (tmp_path / "gateway.toml").write_text(text)
    assert run("test", "-c", tmp_path / "gateway.toml").exit_code == 0
    (tmp_path / "gateway.toml").write_text(f'[server]\nmax_body = "${{MOST}}"\n{text}')
    shown = run("test", "-c", tmp_path / "gateway.toml")
    assert shown.exit_code == 2
    assert "[server] max_body: is not a size;" in shown.output
    assert "MOST is not set; set it, or write ${MOST:-default}" in shown.output


def test_variables_that_are_set_are_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable that is set keeps its value, and its value is never printed."""
    monkeypatch.setenv("SHOP_ID", "canary-9f8e")
    body = BODY.replace("value-of-SHOP_ID", "canary-9f8e")
    shown = run("explain", "--config", config(tmp_path), "--path", "/push", "-", stdin=body)
    assert "✓ route 2  → crm" in shown.output
    assert "canary-9f8e" not in shown.output


def test_a_key_within_a_longer_word_hides_the_word(tmp_path: Path) -> None:
    """A word of the request that contains a key is hidden whole; no half of a token is printed."""
    text = CONFIG.replace("${CRM_KEY}", "crm-key-1")
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    order = orjson.dumps(orjson.loads(BODY) | {"order_id": "crm-key-1234", "promo": "x"}).decode()
    found = run("explain", "-c", path, "--path", "/push", "-", stdin=order)
    assert found.exit_code == 0, found.output
    assert "***" in found.stdout
    assert "crm-key" not in found.stdout
    assert "***234" not in found.stdout


@pytest.mark.parametrize(
    ("action", "said"),
    [
        ("drop", "no event: the event is about a person who must not be tracked; it is dropped"),
        ("refuse", "no event: the event is about a person who must not be tracked"),
    ],
)
def test_a_person_on_the_suppression_list_is_explained(
    tmp_path: Path, action: str, said: str
) -> None:
    """A request that is only about somebody on the list says what happens to it."""
    (tmp_path / "left.txt").write_text("device-1\n")
    path = config(tmp_path, f'[suppression]\nfile = "left.txt"\naction = "{action}"\n')
    found = run("explain", "-c", path, "--path", "/push", "-", stdin=BODY)
    assert found.exit_code == 0, found.output
    assert said in " ".join(found.stdout.split())
    assert ("response: 200" in found.stdout) == (action == "drop")


def test_a_suppressed_event_of_several_goes_nowhere(tmp_path: Path) -> None:
    """Of a batch, the explanation says which events go nowhere; tests expect the same."""
    (tmp_path / "left.txt").write_text("anna\n")
    path = tmp_path / "gateway.toml"
    path.write_text(SEVERAL)
    found = run("test", "-c", path)
    assert found.exit_code == 0, found.output
    calls = [CALL | {"userId": user} for user in ("bert", "anna")]
    batch = orjson.dumps({"batch": calls, "writeKey": "k"})
    found = run("explain", "-c", path, "--path", "/v1/batch", "-", stdin=batch.decode())
    said = " ".join(found.stdout.split())
    assert "goes nowhere: the event is about a person who must not be tracked" in said
    assert said.count("crm (chrts) gets") == 1


CALL = {"type": "track", "event": "Seen"}
SEVERAL = """
[suppression]
file = "left.txt"
[sources.pages]
vendor = "segment"
keys = "any"
[destinations.crm]
vendor = "chrts"
api_key = "key-1"
[[routes]]
to = ["crm"]
[[tests]]
name = "only the other one arrives"
path = "/v1/batch"
body = { batch = [
    { type = "track", event = "Seen", userId = "bert" },
    { type = "track", event = "Seen", userId = "anna" },
], writeKey = "k" }
expect.crm.body = { uid = "bert" }
"""
