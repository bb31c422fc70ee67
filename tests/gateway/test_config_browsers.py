"""Origins, proxies and cookies in the configuration file."""

from pathlib import Path
from typing import Any

import pytest

from gateway.config.types import YEAR
from tests.gateway.config_loading import FINE, problems, read

SOURCE = "[sources.shop]\n"


def source(lines: str) -> str:
    """Return a valid file with *lines* in its source."""
    return FINE.replace(SOURCE, f"{SOURCE}{lines}\n")


def destination(lines: str) -> str:
    """Return a valid file with *lines* in its destination."""
    return FINE.replace("[[routes]]", f"{lines}\n[[routes]]")


def server(lines: str) -> str:
    """Return a valid file with *lines* in [server]."""
    return f"{FINE}[server]\n{lines}\n"


def test_everything_about_browsers_arrives(tmp_path: Path) -> None:
    """Origins, proxies and cookies reach the models, with origins spelled as browsers do."""
    text = source(
        'origins = ["https://Shop.example/", "http://localhost:3000", "https://a.example:443",\n'
        '  "http://[::1]:80", "capacitor://localhost"]\n'
        'client = "user"\ncookie = "__Host-id"\ncookie_max_age = "30d"'
    ) + ('[server]\ntrusted_proxies = ["10.0.0.0/8", "FD00::/8", "192.0.2.1"]\n'
         'proxy_header = "forwarded"\n')  # fmt: skip
    config = read(tmp_path, text)
    shop = config.sources["shop"]
    assert shop.origins == (
        "https://shop.example", "http://localhost:3000", "https://a.example", "http://[::1]",
        "capacitor://localhost",
    )  # fmt: skip
    assert (shop.client, shop.cookie, shop.cookie_max_age) == ("user", "__Host-id", 30 * 86400)
    assert config.server.trusted_proxies == ("10.0.0.0/8", "fd00::/8", "192.0.2.1/32")
    assert config.server.proxy_header == "forwarded"
    assert config.warnings == ()


def test_browser_settings_have_safe_defaults(tmp_path: Path) -> None:
    """By default no proxy is trusted, no cookie is set, and the vendor decides on origins."""
    config = read(tmp_path, FINE)
    shop = config.sources["shop"]
    assert (config.server.trusted_proxies, config.server.proxy_header) == ((), "x-forwarded-for")
    assert (shop.origins, shop.client, shop.cookie, shop.cookie_domain) == (None, "auto", "", "")
    assert shop.cookie_max_age == YEAR


@pytest.mark.parametrize(
    ("said", "holds"),
    [('"X-Real-IP"', "x-real-ip"), ('"field"', "field"), ('""', ""), ("false", "")],
)
def test_client_ip_names_a_header_a_field_or_nothing(tmp_path: Path, said: str, holds: str) -> None:
    """``client_ip`` names a header, the vendor's field, or nothing."""
    config = read(tmp_path, destination(f"client_ip = {said}"))
    assert config.destinations["crm"].client_ip == holds
    assert read(tmp_path, FINE).destinations["crm"].client_ip == "x-forwarded-for"


def test_headers_that_pages_send_are_in_lower_case(tmp_path: Path) -> None:
    """Names in ``browser_headers`` are read in lower case."""
    config = read(tmp_path, source('browser_headers = ["X-Shop-Version"]'))
    assert config.sources["shop"].browser_headers == ("x-shop-version",)


@pytest.mark.parametrize(("said", "origins"), [('"*"', "*"), ("[]", ())])
def test_all_origins_and_none(tmp_path: Path, said: str, origins: Any) -> None:
    """``"*"`` allows every origin, and an empty list allows none."""
    assert read(tmp_path, source(f"origins = {said}")).sources["shop"].origins == origins


def test_a_leading_dot_of_a_domain_is_dropped(tmp_path: Path) -> None:
    """A leading dot of ``cookie_domain`` is removed."""
    text = source('cookie = "id"\ncookie_domain = ".Shop.example"')
    assert read(tmp_path, text).sources["shop"].cookie_domain == "shop.example"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (source('origins = "https://shop.example"'), "[sources.shop] origins: must be a list or"),
        (source('origins = ["*"]'), '[sources.shop] origins: has "*" in a list'),
        (source('origins = ["null"]'), '[sources.shop] origins: cannot have "null"'),
        (
            source('origins = ["shop.example"]'),
            "[sources.shop] origins: must have origins with a scheme",
        ),
        (
            source('origins = ["https://*.shop.example"]'),
            "[sources.shop] origins: must have origins with a",
        ),
        (
            source('origins = ["https://shop.example/a"]'),
            "[sources.shop] origins: must have origins with a",
        ),
        (source("origins = [3]"), "[sources.shop] origins: must have origins with a scheme"),
        (
            source('client = "browser"'),
            ("[sources.shop] client: must be 'auto', 'user' or 'server'"),
        ),
        (source('cookie = "my id"'), "[sources.shop] cookie: is not a cookie name"),
        (source('cookie = ""'), "[sources.shop] cookie: is not a cookie name"),
        (
            source('cookie = "id"\ncookie_domain = "https://a.example"'),
            ("[sources.shop] cookie_domain: is not a domain"),
        ),
        (
            source('cookie = "id"\ncookie_domain = "example"'),
            "[sources.shop] cookie_domain: is not a",
        ),
        (
            source('cookie = "__Host-id"\ncookie_domain = "a.example"'),
            ("[sources.shop] cookie_domain: is not allowed: browsers reject a __Host- cookie"),
        ),
        (
            source('cookie = "id"\ncookie_max_age = "0s"'),
            ("[sources.shop] cookie_max_age: must be more than 0"),
        ),
        (server('trusted_proxies = "10.0.0.0/8"'), "[server] trusted_proxies: must be a list of"),
        (server('trusted_proxies = ["*"]'), "[server] trusted_proxies: has '*', which is not a"),
        (
            server('trusted_proxies = ["proxy.example"]'),
            ("[server] trusted_proxies: has 'proxy.example', which is not a network"),
        ),
        (
            server('trusted_proxies = ["10.1.2.3/8"]'),
            (
                "[server] trusted_proxies: has "
                "'10.1.2.3/8', which is an address in a network; write \"10.0.0.0/8\""
            ),
        ),
        (
            server('trusted_proxies = ["300.0.0.0/8"]'),
            ("[server] trusted_proxies: has '300.0.0.0/8', which is not a network"),
        ),
        (source('browser_headers = "x-own"'), "[sources.shop] browser_headers: must be a list of"),
        (
            source('browser_headers = ["*"]'),
            "[sources.shop] browser_headers: cannot have a wildcard",
        ),
        (
            source('browser_headers = ["a b"]'),
            "[sources.shop] browser_headers: has 'a b', which is not",
        ),
        (destination('client_ip = "a b"'), "[destinations.crm] client_ip: must be the name of a"),
        (
            destination('client_ip = "Host"'),
            "[destinations.crm] client_ip: cannot be host, which has",
        ),
        (destination("client_ip = true"), "[destinations.crm] client_ip: must be the name of a"),
        (
            server('proxy_header = "x-real-ip"'),
            ("[server] proxy_header: must be 'x-forwarded-for' or 'forwarded'"),
        ),
    ],
)
def test_a_mistake_says_what_to_write(tmp_path: Path, text: str, said: str) -> None:
    """A mistake is reported once, at its table and key, with the allowed values."""
    (problem,) = problems(tmp_path, text)
    assert problem.partition(": ")[2].startswith(said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (source('cookie_domain = "a.example"'), "[sources.shop] cookie_domain: has no effect"),
        (
            source('cookie = "id"\nclient = "server"'),
            "[sources.shop] cookie: has no effect with client",
        ),
        (
            source('cookie = "id"\norigins = "*"'),
            "[sources.shop] cookie: has no effect with origins",
        ),
        (server('trusted_proxies = ["0.0.0.0/0"]'), "[server] trusted_proxies: trusts everybody"),
        (server('trusted_proxies = ["::/0"]'), "[server] trusted_proxies: trusts everybody"),
        (server('proxy_header = "forwarded"'), "[server] proxy_header: has no effect without"),
        (
            server("max_connections = 9\nmax_connections_per_client = 10"),
            ("[server] max_connections_per_client: is more than max_connections"),
        ),
        (server('max_bodies = "1KiB"'), "[server] max_bodies: is less than max_body"),
    ],
)
def test_ineffective_settings_are_warnings(tmp_path: Path, text: str, said: str) -> None:
    """Settings that browsers ignore, or that trust every proxy, draw a warning."""
    (warning,) = read(tmp_path, text).warnings
    assert warning.partition(": ")[2].startswith(said)
