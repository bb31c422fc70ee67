"""Proxy, added headers and certificate files of a destination in the configuration."""

import subprocess
from pathlib import Path

import pytest
import trustme

from gateway.config import DestinationConfig
from gateway.config.docstrings import documented_keys
from gateway.config.loader.load import load
from gateway.config.models import Delivery, redactor_of
from gateway.config.proxy import environment_proxy
from gateway.config.types import TAKEN_HEADERS
from tests.gateway.config_loading import FINE, problems, read, registry

CANARY = "canary-51ab7e"
HOW = 'write one like "http://HOST:PORT", or "" to connect directly'


def with_lines(*lines: str) -> str:
    """Return a configuration with *lines* in its destination."""
    return FINE.replace("token =", "\n".join((*lines, "token =")))


def destination(folder: Path, *lines: str, **environ: str) -> DestinationConfig:
    """Return the destination with *lines* in its table."""
    return read(folder, with_lines(*lines), environ).destinations["crm"]


def proxy_of(found: DestinationConfig) -> str | None:
    """Return the URL of a destination's proxy."""
    return None if found.proxy is None else found.proxy.get_secret_value()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an authority, a client's certificate, and wrong files."""
    folder = tmp_path_factory.mktemp("pem")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    issued, other = (authority.issue_cert(f"{name}@a.example") for name in ("one", "other"))
    issued.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    issued.private_key_and_cert_chain_pem.write_to_path(folder / "both.pem")
    other.private_key_pem.write_to_path(folder / "other.pem")
    (folder / "text.pem").write_text("hello\n")
    encrypt = ("openssl", "ec", "-in", "key.pem", "-aes256", "-passout", "pass:x", "-out", "locked")
    subprocess.run(encrypt, cwd=folder, check=True, capture_output=True)
    return folder


def test_a_proxy_may_have_its_password_from_anywhere(tmp_path: Path) -> None:
    """A proxy's URL is a credential: variables are replaced, and ``file:`` is read."""
    url = f"http://gate:{CANARY}@proxy.example:3128"
    (tmp_path / "proxy").write_text(f"{url}\n")
    found = [
        destination(tmp_path, f'proxy = "{url}"'),
        destination(tmp_path, f'proxy = "{url.replace(CANARY, "${PASSWORD}")}"', PASSWORD=CANARY),
        destination(tmp_path, f'proxy = "file:{tmp_path}/proxy"'),
        destination(tmp_path, HTTPS_PROXY=url),
    ]
    assert [proxy_of(one) for one in found] == [url] * 4
    assert CANARY not in repr(found)


@pytest.mark.parametrize(
    ("environ", "proxy"),
    [
        ({"HTTPS_PROXY": "http://a:1"}, "http://a:1"),
        ({"https_proxy": "http://a:1", "HTTPS_PROXY": "http://b:1"}, "http://a:1"),
        ({"HTTPS_PROXY": "a:1"}, "http://a:1"),
        ({"HTTPS_PROXY": " "}, None),
        ({"HTTP_PROXY": "http://a:1"}, None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "*"}, None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "x.example, acme.example"}, None),
        ({"HTTPS_PROXY": "http://a:1", "no_proxy": ".acme.example"}, None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "api.acme.example:443"}, None),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "api.acme.example:444"}, "http://a:1"),
        ({"HTTPS_PROXY": "http://a:1", "NO_PROXY": "me.example,cme.example,,"}, "http://a:1"),
    ],
)
def test_the_environment_may_name_a_proxy(
    tmp_path: Path, environ: dict[str, str], proxy: str | None
) -> None:
    """The variables work as in curl, and ``proxy = ""`` overrules them."""
    assert proxy_of(destination(tmp_path, **environ)) == proxy
    assert proxy_of(destination(tmp_path, 'proxy = ""', **environ)) == ""
    assert proxy_of(destination(tmp_path, 'proxy = "http://own:1"', **environ)) == "http://own:1"


@pytest.mark.parametrize(
    ("url", "excepted", "direct"),
    [
        ("http://10.1.2.3/a", "10.0.0.0/8", True),
        ("http://11.1.2.3/a", "10.0.0.0/8", False),
        ("http://10.1.2.3:81/a", "10.1.2.3:81", True),
        ("http://10.1.2.3:81/a", "10.1.2.3:80", False),
        ("http://[fd00::1]/a", "fd00::/8", True),
        ("http://[fd00::1]/a", "[fd00::1]", True),
        ("http://API.Acme.Example./a", "*.acme.example", True),
        ("http://localhost:8080/a", "", True),
        ("http://127.0.0.2/a", "", True),
        ("http://[::1]:8080/a", "", True),
        ("http://localhost.example/a", "", False),
    ],
)
def test_exceptions_from_a_proxy(url: str, excepted: str, *, direct: bool) -> None:
    """``NO_PROXY`` knows names, addresses and networks; this machine needs no proxy."""
    environ = {"HTTP_PROXY": "http://a:1", "NO_PROXY": excepted}
    assert (environment_proxy(url, environ) is None) is direct


def test_a_plain_header_is_shown_and_a_credential_is_not(tmp_path: Path) -> None:
    """A header's value is a credential by its origin, its name, its length, or a scheme before it.

    It is shown to operators under the names of harmless headers only.
    """
    (tmp_path / "key").write_text(f"{CANARY}-file\n")
    headers = (
        f'X-Tenant = "shop", x-team = "${{TEAM}}", x-key = "file:{tmp_path}/key", '
        f'X-Api-Key = "{CANARY}-named", x-signed = "Bearer ${{KEY}}", '
        f'x-as = "Bearer {CANARY}-scheme", x-acme = "{CANARY}-long", Accept-Language = "en-GB, en"'
    )
    text = with_lines(f"headers = {{ {headers} }}")
    config = read(tmp_path, text, {"TEAM": f"{CANARY}-team", "KEY": f"{CANARY}-key"})
    crm = config.destinations["crm"]
    names = ["x-tenant", "x-team", "x-key", "x-api-key", "x-signed", "x-as"]
    names += ["x-acme", "accept-language"]
    assert list(crm.headers) == names
    assert crm.headers["x-tenant"] == "shop"
    assert CANARY not in repr(crm)
    said = " ".join(
        f"{CANARY}-{which}" for which in ("file", "named", "team", "key", "scheme", "long")
    )
    assert redactor_of(config).text(f"shop {said}") == "shop *** *** *** *** *** ***"
    assert crm.shown_headers() == dict.fromkeys(names, "***") | {"accept-language": "en-GB, en"}
    assert {f"{CANARY}-key", f"{CANARY}-file", "crm-token"} <= set(crm.secrets())


def test_equal_files_are_no_change(tmp_path: Path, pem: Path) -> None:
    """A destination differs exactly if the content of one of its files does."""
    for name in ("cert.pem", "key.pem"):
        (tmp_path / name).write_bytes((pem / name).read_bytes())
    lines = (f'cert = "{tmp_path}/cert.pem"', f'key = "{tmp_path}/key.pem"')
    one, other = destination(tmp_path, *lines), destination(tmp_path, *lines)
    assert one == other
    assert [path.name for path in read(tmp_path, with_lines(*lines)).files.read] == [
        "gateway.toml", "cert.pem", "key.pem",
    ]  # fmt: skip
    (tmp_path / "cert.pem").write_bytes((pem / "both.pem").read_bytes())
    assert destination(tmp_path, *lines) != one


HTTP = "proxy: is not an http URL, and other kinds of proxies are not used; " + HOW
PARTS = f"proxy: is not a scheme, a host and a port; {HOW}"
FRAMES = "which the gateway sets itself; remove it"
PORT = "proxy: has a port that is not a number from 1 to 65535"
VALUE = "headers: x-a: the header's value must be printable ASCII on one line"
UNREAD = (
    "cannot read the secret in nowhere: No such file or directory; correct the path or the file"
)
MISSING = "no such file or directory; correct the path"
CERT = 'cert = "PEM/cert.pem"'


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (['proxy = "https://p:1"'], HTTP),
        (['proxy = "p.example"'], HTTP),
        ([f'proxy = "http://me:{CANARY}@p:99999"'], f"{PORT}; {HOW}"),
        (['proxy = "http://p:0"'], f"{PORT}; {HOW}"),
        (['proxy = "http://[::1"'], f"proxy: is not a URL; {HOW}"),
        ([f'proxy = "http://me:{CANARY}@p:1/a"'], PARTS),
        ([f'proxy = "http://me:{CANARY}@"'], PARTS),
        (['proxy = "http://a b:1"'], f"proxy: has a host that is not a name or an address; {HOW}"),
        (["proxy = 3128"], "proxy: must be text; put it in quotes"),
        (['proxy = "file:nowhere"'], f"proxy: {UNREAD}"),
        (
            ['headers = ["x-a"]'],
            'headers: must be a table; write headers = { x-tenant = "shop-1" }',
        ),
        (["headers = { x-a = 1 }"], "headers: x-a must be text; put it in quotes"),
        (
            [f'headers = {{ "x a" = "{CANARY}" }}'],
            "headers: 'x a' is not a header name; write x-tenant = \"...\"",
        ),
        (['headers = { x-a = "1", X-A = "2" }'], "headers: X-A occurs twice; keep one of them"),
        (
            ['headers = { Host = "a" }'],
            "headers: cannot have Host, which names the vendor's server; write that into url",
        ),
        (['headers = { content-length = "1" }'], f"headers: cannot have content-length, {FRAMES}"),
        (
            [f'headers = {{ Authorization = "Bearer {CANARY}" }}'],
            (
                "headers: cannot have Authorization, which is for the vendor's key; set that in "
                "its own keys"
            ),
        ),
        (
            [f'headers = {{ proxy-authorization = "{CANARY}" }}'],
            (
                "headers: cannot have proxy-authorization, which is for the proxy; write user and "
                "password into the URL of proxy"
            ),
        ),
        (
            ['headers = { X-Forwarded-For = "::1" }'],
            "headers: cannot have x-forwarded-for, which client_ip sets; remove it",
        ),
        ([f'headers = {{ x-a = "{CANARY}\\r\\nhost: b" }}'], VALUE),
        ([f'headers = {{ x-a = "{CANARY}\\u0000" }}'], VALUE),
        (
            ['headers = { X-A = "" }'],
            "headers: X-A: the header's value is empty; write one, or remove the header",
        ),
        (
            ['headers = { x-a = " " }'],
            "headers: x-a: the header's value is empty; write one, or remove the header",
        ),
        (['headers = { x-a = "file:nowhere" }'], f"headers.x-a: {UNREAD}"),
        (['ca = ""'], "ca: is empty; name a file, or remove it"),
        (['cert = ""'], "cert: is empty; name a file, or remove it"),
        ([CERT, 'key = ""'], "key: is empty; name a file, or remove it"),
        (['ca = "PEM/none"'], f"ca: cannot read PEM/none: {MISSING}"),
        (['ca = "PEM/"'], "ca: cannot read PEM: is a directory; correct the path"),
        (['ca = "PEM/text.pem"'], "ca: PEM/text.pem has no certificate; name a file in PEM format"),
        (['key = "PEM/key.pem"'], "key: has no certificate; name its file in cert, or remove key"),
        (
            ['cert = "PEM/key.pem"'],
            "cert: PEM/key.pem has no certificate; name a file in PEM format",
        ),
        ([CERT], "cert: PEM/cert.pem has no private key; add it, or name its file in key"),
        ([CERT, 'key = "PEM/none"'], f"key: cannot read PEM/none: {MISSING}"),
        (
            [CERT, 'key = "PEM/text.pem"'],
            "key: PEM/text.pem has no private key; name a file in PEM format",
        ),
        (
            [CERT, 'key = "PEM/locked"'],
            "key: PEM/locked is encrypted; write it without a passphrase, readable only to you",
        ),
        (
            [CERT, 'key = "PEM/other.pem"'],
            "key: PEM/other.pem is the private key of another certificate than PEM/cert.pem",
        ),
    ],
)
def test_a_mistake_is_one_sentence(
    tmp_path: Path, pem: Path, lines: list[str], problem: str
) -> None:
    """A mistake is one sentence with file, line, table and key, and without credentials."""
    (said,) = problems(tmp_path, with_lines(*(line.replace("PEM", str(pem)) for line in lines)))
    expected = f"gateway.toml:{6 + len(lines)}: [destinations.crm] {problem}"
    assert said.replace(str(pem), "PEM") == expected
    assert CANARY not in said


@pytest.mark.parametrize("url", ["https://[a.example", "https://a.example:x"])
def test_an_invalid_url_is_a_problem_where_the_environment_has_a_proxy(
    tmp_path: Path, url: str
) -> None:
    """An invalid ``url`` of a destination or of alerts is reported, with any environment."""
    environ = {"HTTPS_PROXY": "http://a:1", "NO_PROXY": "b.example"}
    text = with_lines(f'url = "{url}"') + f'[alerts]\nurl = "{url}"\n'
    said = problems(tmp_path, text, environ)
    places = [one.split(" ")[1:3] for one in said]
    assert places == [["[destinations.crm]", "url:"], ["[alerts]", "url:"]]


def test_every_wrong_header_is_reported(tmp_path: Path) -> None:
    """All wrong headers of a destination are reported at once, each in a sentence of its own."""
    lines = 'headers = { Host = "a", "x a" = "1", x-b = 1, x-c = "1", TE = "x" }'
    said = [one.partition("headers: ")[2] for one in problems(tmp_path, with_lines(lines))]
    assert said == [
        "cannot have Host, which names the vendor's server; write that into url",
        "'x a' is not a header name; write x-tenant = \"...\"",
        "x-b must be text; put it in quotes",
        f"cannot have TE, {FRAMES}",
    ]


def test_the_reference_lists_the_headers_that_cannot_be_added() -> None:
    """The description of ``headers`` has the name of every header that is refused."""
    described = documented_keys(Delivery)["headers"].description or ""
    assert [name for name in TAKEN_HEADERS if f"`{name}`" not in described] == []


def test_alerts_may_go_through_a_proxy(tmp_path: Path) -> None:
    """Alerts have a ``proxy`` too, or the environment's."""
    environ = {"HTTPS_PROXY": "http://a:1"}
    for lines, proxy in (("", "http://a:1"), ('proxy = ""\n', ""), ('proxy = "http://b:1"', None)):
        text = f'{FINE}[alerts]\nurl = "https://hooks.example/a"\n{lines}'
        alerts = read(tmp_path, text, environ).alerts
        assert alerts is not None
        assert alerts.proxy is not None
        assert alerts.proxy.get_secret_value() == (proxy if proxy is not None else "http://b:1")


def test_a_source_may_relay_through_a_proxy(tmp_path: Path) -> None:
    """A source's ``url`` is reached through a proxy if it is https, and else draws a warning."""
    environ = {"HTTPS_PROXY": "http://a:1", "HTTP_PROXY": "http://b:1"}
    for url, proxy, count in (("https", "http://a:1", 0), ("http", None, 1)):
        text = FINE.replace("keys =", f'url = "{url}://api.acme.example"\nkeys =')
        config = read(tmp_path, text, environ)
        found = config.sources["shop"].proxy
        assert (found and found.get_secret_value()) == proxy
        said = [one for one in config.warnings if "HTTP_PROXY is used only for https" in one]
        assert len(said) == count
    (tmp_path / "proxy").write_text(f"http://me:{CANARY}@b:1")
    own = FINE.replace(
        "keys =", f'url = "https://a.example"\nproxy = "file:{tmp_path}/proxy"\nkeys ='
    )
    config = read(tmp_path, own, environ)
    found = config.sources["shop"].proxy
    assert found is not None
    assert found.get_secret_value() == f"http://me:{CANARY}@b:1"
    assert CANARY not in redactor_of(config).text(f"it said {CANARY}")
    (said_so,) = problems(tmp_path, own.replace("https:", "http:"), environ)
    assert "[sources.shop] proxy: needs an https url; write https, or remove proxy" in said_so


def test_a_wrong_proxy_in_the_environment_is_named(tmp_path: Path) -> None:
    """A proxy that the environment names and that cannot be used names its variable."""
    (said,) = problems(tmp_path, FINE, {"https_proxy": f"socks5://me:{CANARY}@p:1"})
    assert "[destinations.crm] proxy: https_proxy in the environment is not an http URL" in said
    assert CANARY not in said


def test_the_headers_of_the_vendors_plugin_cannot_be_added(tmp_path: Path) -> None:
    """A header that the vendor's plugin sets, such as its key's, is a problem."""
    known = registry()

    class Signing(known.outputs["acme"]):  # type: ignore[name-defined, misc]  # a class at runtime
        """An output with a header of its own."""

        def headers(self) -> dict[str, str]:
            """Return the header of a key."""
            return {"x-acme-key": "1"}

    known.outputs["acme"] = Signing
    path = tmp_path / "gateway.toml"
    path.write_text(with_lines('headers = { X-Acme-Key = "2" }'))
    with pytest.raises(Exception, match="cannot have x-acme-key, which the plugin of acme sets"):
        load(path, known, {})


@pytest.mark.parametrize("key", ["ca", "cert"])
def test_certificates_without_tls_are_warnings(tmp_path: Path, pem: Path, key: str) -> None:
    """Certificate files have no effect with an ``http`` URL."""
    text = with_lines('url = "http://api.acme.example"', f'{key} = "{pem}/both.pem"')
    (said,) = read(tmp_path, text).warnings
    assert f"[destinations.crm] {key}: has no effect with an http url; write https" in said


def test_commands_that_send_nothing_need_no_files(tmp_path: Path) -> None:
    """Placeholders stand in for a missing proxy, and certificate files are not read."""
    path = tmp_path / "gateway.toml"
    for proxy in ("${PROXY}", "file:none", "http://me:${PASSWORD}@p:1"):
        path.write_text(with_lines(f'proxy = "{proxy}"', 'cert = "none.pem"', 'ca = "none"'))
        assert load(path, registry(), {}, stand_ins=True).destinations["crm"].tls is None
