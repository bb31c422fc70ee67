"""Sources that relay to their vendor, and destinations that use clients' keys."""

from pathlib import Path

import pytest

from tests.gateway.config_loading import FINE, AcmeInput, AcmeOutput, problems, read

URL = 'url = "https://api.acme.example"\n'
HORN = '[sources.other]\nvendor = "horn"\nkeys = ["h"]\nmount = "/h"\n'
LENT = FINE.replace('token = "crm-token"', 'credentials = "client"')
OPEN = FINE.replace('["shop-key"]', '"any"')


def source(lines: str, text: str = FINE) -> str:
    """Return *text* with *lines* in its first source."""
    return text.replace("[destinations.crm]", f"{lines}\n[destinations.crm]", 1)


def test_every_key_of_a_relay_arrives(tmp_path: Path) -> None:
    """All keys of a relay reach the models, and have defaults."""
    lines = URL + 'relay_as = "crm"\nrelay_timeout = "5s"\nrespond = "upstream"\n'
    shop = read(tmp_path, source(lines + 'respond_timeout = "200ms"\n')).sources["shop"]
    assert (shop.url, shop.relay_as, shop.relay_timeout) == ("https://api.acme.example", "crm", 5)
    assert (shop.respond, shop.respond_timeout) == ("upstream", 0.2)
    plain = read(tmp_path, FINE).sources["shop"]
    assert (plain.url, plain.relay_as, plain.relay_timeout) == ("", "", 30)
    assert (plain.respond, plain.respond_timeout) == ("accept", 1)


def test_client_credentials_need_no_key(tmp_path: Path) -> None:
    """With ``credentials = "client"`` a required key gets a placeholder."""
    crm = read(tmp_path, LENT).destinations["crm"]
    assert isinstance(crm.settings, AcmeOutput.Config)
    assert crm.settings.token.get_secret_value() == "-"
    assert crm.settings.backup is None


def test_sources_of_one_vendor_may_share_a_place(tmp_path: Path) -> None:
    """Sources of one vendor may share a path if their keys are disjoint."""
    more = '[sources.two]\nvendor = "acme"\nkeys = ["x", "y"]\n'
    assert len(read(tmp_path, FINE + more).sources) == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (source('url = "ftp://x"'), "[sources.shop] url: is not an http or https URL"),
        (source('url = "https://x/?a=1"'), "[sources.shop] url: must not contain ?"),
        (source('url = "https://u:p@x/"'), "[sources.shop] url: contains a user name or password"),
        (source('url = "http://localhost:8080/x"'), "[sources.shop] url: is this gateway's own"),
        (
            source(URL + 'relay_as = "crn"'),
            ("[sources.shop] relay_as: there is no destination 'crn'; did you mean crm?"),
        ),
        (
            source(URL + 'relay_as = "crm"', OPEN),
            (
                "[sources.shop] relay_as: would let "
                'everybody use its key; list the keys instead of keys = "any"'
            ),
        ),
        (
            FINE + HORN + URL + 'relay_as = "crm"',
            (
                "[sources.other] relay_as: [destinations.crm] has "
                "vendor acme; name one with vendor horn"
            ),
        ),
        (
            source(URL + 'relay_as = "crm"', LENT),
            ("[sources.shop] relay_as: [destinations.crm] has no key of its own; remove relay_as"),
        ),
        (
            FINE + HORN + 'respond = "upstream"',
            ("[sources.other] respond: needs a route to a destination of horn with passthrough"),
        ),
        (
            source(
                'respond = "upstream"',
                FINE.replace("[[routes]]", "passthrough = false\n[[routes]]"),
            ),
            "[sources.shop] respond: needs a route to a destination of acme ",
        ),
        (source("respond = true"), "[sources.shop] respond: must be 'accept' or 'upstream'"),
        (source('respond_timeout = "0s"'), "[sources.shop] respond_timeout: must be more than 0"),
        (
            LENT.replace("credentials", 'backup = "b"\ncredentials'),
            (
                "[destinations.crm] backup: "
                'is never sent with credentials = "client"; remove one of the two'
            ),
        ),
        (
            LENT.replace("credentials", "passthrough = false\ncredentials"),
            ('[destinations.crm] credentials: "client" needs passthrough'),
        ),
        (
            LENT + HORN,
            (
                '[destinations.crm] credentials: "client" accepts requests in the format of '
                "acme only, but a route leads here from [sources.other] of horn; list the sources"
            ),
        ),
        (
            FINE.replace("token =", 'credentials = "theirs"\ntoken ='),
            ("[destinations.crm] credentials: must be 'own' or 'client'"),
        ),
    ],
)
def test_one_mistake_is_one_sentence(tmp_path: Path, text: str, said: str) -> None:
    """A contradiction is reported once, at its table and key, with a correction."""
    (problem,) = problems(tmp_path, text)
    assert problem.partition(": ")[2].startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (source('relay_timeout = "1s"'), "[sources.shop] relay_timeout: has no effect without a"),
        (source('relay_as = "crm"'), "[sources.shop] relay_as: has no effect without a url"),
        (
            source('respond_timeout = "1s"'),
            ('[sources.shop] respond_timeout: has no effect without respond = "upstream"'),
        ),
        (
            source(URL + 'mount = "/h"') + HORN + URL,
            (
                "[sources.other] url: [sources.shop] has a url too, at the same mount and hosts: "
                "requests that are in neither vendor's documentation are not relayed"
            ),
        ),
    ],
)
def test_settings_without_effect_are_warnings(tmp_path: Path, text: str, said: str) -> None:
    """A key without effect, or ambiguous paths, draw a warning and do not stop the gateway."""
    if "sources.other" in text:
        text = text.replace('vendor = "horn"', 'vendor = "bell"')
    (warning,) = read(tmp_path, text).warnings
    assert warning.partition(": ")[2].startswith(said)


def test_relay_endpoints_are_the_configured_ones(tmp_path: Path) -> None:
    """Relay endpoints are the configured ones; by default the vendor's documented reads."""
    lines = URL + 'relay_as = "crm"\nsecrets = ["s-1"]\nrelay_endpoints = ["GET /a/{id}", "PUT /b"]'
    shop = read(tmp_path, source(lines)).sources["shop"]
    assert shop.relay_endpoints == ("GET /a/{id}", "PUT /b")
    assert [one.get_secret_value() for one in shop.secrets] == ["s-1"]
    plain = read(tmp_path, FINE).sources["shop"]
    assert (plain.relay_endpoints, plain.secrets) == (None, ())
    assert AcmeInput.documented_reads() == ("GET /acme/profile",)


@pytest.mark.parametrize(
    "endpoint",
    [
        "/a",
        "GET",
        "GET a",
        "get /a",
        "GET  /a",
        "GET /a?b=1",
        "GET /a/",
        "GET //a",
        "GET /*",
        "GET /a%2fb",
        "GET /a;b",
        "GET https://x/a",
        "GET /{}",
        "GET /a{b}",
        "",
    ],
)
def test_an_endpoint_is_a_method_and_a_path(tmp_path: Path, endpoint: str) -> None:
    """An endpoint that is not a method and a path is an error that shows what to write."""
    lines = URL + f'relay_as = "crm"\nrelay_endpoints = ["{endpoint}"]'
    (problem,) = problems(tmp_path, source(lines))
    assert f"relay_endpoints: has '{endpoint}', which is not a method and a path; write" in problem


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (URL + 'relay_endpoints = ["GET /a"]', "relay_endpoints: has no effect without relay_as"),
        (
            URL + 'relay_as = "crm"\nrelay_endpoints = []',
            "relay_as: has no effect: acme's documentation has no reads",
        ),
        ('secrets = ["a"]', "secrets: has no effect: acme has no second key; remove it"),
    ],
)
def test_relay_keys_without_effect_are_warnings(tmp_path: Path, lines: str, said: str) -> None:
    """A key without effect draws a warning."""
    (warning,) = read(tmp_path, source(lines)).warnings
    assert said in warning


@pytest.mark.parametrize("value", ['"any"', "[1]", '[""]', '"s"'])
def test_secrets_are_a_list(tmp_path: Path, value: str) -> None:
    """``secrets`` must be a list of texts; ``"any"`` is not allowed."""
    (problem,) = problems(tmp_path, source(f"secrets = {value}"))
    assert "[sources.shop] secrets: must be a list of secrets; write secrets" in problem
