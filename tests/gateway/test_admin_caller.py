"""Who calls the admin API, by token and by proxy."""

from typing import Any

import pytest
from pydantic import SecretStr

from gateway.admin.caller import ANYONE, SECRET_HEADER, Caller, identify
from gateway.config.operations import AdminConfig

TOKENS = {
    "operators": {"alice": SecretStr("alice-0123456789")},
    "viewers": {"grafana": SecretStr("grafana-01234567")},
}
PROXY: dict[str, Any] = {
    "proxy_secret": SecretStr("proxy-0123456789"),
    "proxy_operators": ("alice@shop.example",),
    "proxy_operator_groups": ("cdp-operators",),
}


def bearer(token: str) -> dict[str, str]:
    """Return the headers of a call with a token."""
    return {"authorization": f"Bearer {token}"}


def proxied(user: str, groups: str = "", shown: str = "proxy-0123456789") -> dict[str, str]:
    """Return the headers of a call through the proxy, which shows its secret."""
    return {SECRET_HEADER: shown, "x-forwarded-user": user, "x-forwarded-groups": groups}


@pytest.mark.parametrize(
    ("settings", "headers", "caller"),
    [
        ({}, {}, ANYONE),
        ({}, bearer("whatever"), ANYONE),
        ({"token": SecretStr("0123456789abcdef")}, bearer("0123456789abcdef"), "admin operator"),
        (TOKENS, bearer("alice-0123456789"), "alice operator"),
        (TOKENS, bearer("grafana-01234567"), "grafana viewer"),
        (TOKENS, {"authorization": "bearer   alice-0123456789 "}, "alice operator"),
        (TOKENS, {"authorization": "Basic alice-0123456789"}, None),
        (TOKENS, bearer("alice-012345678"), None),
        (TOKENS, bearer("\udcff"), None),
        (TOKENS, {}, None),
        (TOKENS, proxied("alice@shop.example"), None),
        (PROXY, {}, None),
        (PROXY, proxied("alice@shop.example"), "alice@shop.example operator"),
        (PROXY, proxied("bob@shop.example"), "bob@shop.example viewer"),
        (PROXY, proxied("bob@shop.example", "staff, cdp-operators"), "bob@shop.example operator"),
        (PROXY, proxied("cdp-operators", "alice@shop.example"), "cdp-operators viewer"),
        (PROXY, proxied("alice@shop.example", shown="guessed-01234567"), None),
        (PROXY, proxied(" "), None),
        (PROXY, proxied("J\udcf6rg"), None),
        (
            PROXY | {"proxy_operator_groups": ("",)},
            proxied("bob@shop.example"),
            "bob@shop.example viewer",
        ),
        (TOKENS | PROXY, proxied("bob") | bearer("an id token"), "bob viewer"),
        (TOKENS | PROXY, proxied("bob") | bearer("alice-0123456789"), "alice operator"),
    ],
)
def test_a_caller_is_known_by_token_or_proxy(
    settings: dict[str, Any], headers: dict[str, str], caller: Caller | str | None
) -> None:
    """A known token, or a known proxy that names a person, says name and role; all else nothing."""
    found = identify(headers, AdminConfig(**settings))
    named = f"{found.name} {found.role}" if found is not None and found.name else found
    assert named == caller


def test_the_headers_of_a_proxy_can_be_named() -> None:
    """The proxy's own headers for person and groups are read, and no others."""
    headers: dict[str, Any] = {
        "proxy_user_header": "Remote-User",
        "proxy_groups_header": "Remote-Groups",
    }
    admin = AdminConfig(**PROXY, **headers)
    secret = {SECRET_HEADER: "proxy-0123456789"}
    own = {"remote-user": "bob", "remote-groups": "cdp-operators"}
    assert identify(secret | own, admin) == Caller("bob", "operator", "proxy")
    assert identify(proxied("bob"), admin) is None
