"""Check who may use the admin API."""

from gateway.config.loader.report import ConfigReport
from gateway.config.operations import AdminConfig
from gateway.config.types import NAME

SHORTEST_TOKEN = 16
"""Characters; ``openssl rand -hex 16`` prints 32."""
TOO_SHORT = f"is too short; use at least {SHORTEST_TOKEN} characters"


def check_admin(admin: AdminConfig, report: ConfigReport) -> None:
    """Report missing, short and equal tokens, and names and keys that have no effect."""
    if not admin.guarded and not admin.address.loopback:
        what = (
            f"is required on {admin.listen}, which other machines can reach; set it, or listen on "
            f"a loopback address"
        )
        report.problem("admin", "token", what)
    seen, secret = _check_tokens(admin, report), admin.proxy_secret
    if secret is not None and len(secret.get_secret_value()) < SHORTEST_TOKEN:
        report.problem("admin", "proxy_secret", TOO_SHORT)
    elif secret is not None and (same := seen.get(secret.get_secret_value())):
        what = f"is the same as {same}, whose owner could call as anybody; give it its own"
        report.problem("admin", "proxy_secret", what)
    for key in ("proxy_operators", "proxy_operator_groups"):
        if getattr(admin, key) and secret is None:
            report.problem("admin", key, "has no effect without proxy_secret; set it too")


def _check_tokens(admin: AdminConfig, report: ConfigReport) -> dict[str, str]:
    """Report what is wrong with tokens; return the key of each."""
    seen: dict[str, str] = {}
    names: set[str] = set()
    for name, role, token in admin.tokens():
        key = "token" if admin.token is not None and not names else f"{role}s.{name}"
        if len(token) < SHORTEST_TOKEN:
            report.problem("admin", key, TOO_SHORT)
        elif token in seen:
            report.problem("admin", key, f"is the same as {seen[token]}; give each its own")
        if not NAME.fullmatch(name):
            what = "is not a name; use a-z, 0-9, '_' and '-', and begin with a letter or digit"
            report.problem("admin", key, what)
        elif name in names:
            what = f"there is another token called {name}; choose another name"
            report.problem("admin", key, what)
        seen.setdefault(token, key)
        names.add(name)
    return seen
