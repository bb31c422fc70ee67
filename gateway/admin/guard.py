"""Who may call the admin API: by its own names, with the token, and on nobody else's behalf."""

import hmac
import ipaddress
from collections.abc import Callable

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin.problem import Problem
from gateway.config.admin import AdminConfig

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
MARK = "x-gateway-admin"
"""The header of every call that changes something. A page of another origin can send it only after
a preflight (https://fetch.spec.whatwg.org/#cors-preflight-fetch), which is never granted."""
OPEN = frozenset({"/healthz", "/readyz", "/api/v1/openapi.json"})
"""What needs no token, beside the console's own files: none of it says anything of the events."""


def guard(started: AdminConfig, present: Callable[[], AdminConfig | None]) -> Middleware:
    """Return the middleware that turns others away.

    Args:
        started: the configuration with which the address was opened.
        present: returns the one in effect, which a reload may have changed.
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        admin = in_force(started, present())
        check_host(request, admin)
        if request.path.startswith("/api/") or request.path == "/metrics":
            check_intent(request)
            if request.path not in OPEN:
                check_token(request, admin)
        return await handler(request)

    return guarded


def in_force(started: AdminConfig, present: AdminConfig | None) -> AdminConfig:
    """Return whom to let in.

    The address stays the one that was opened, whatever a reload says of it, so that a token that
    it needs is not forgotten by a configuration that would need none at another address.

    Raises:
        Problem: the configuration has no admin API any more.
    """
    if present is None:
        raise Problem(503, "the configuration has no [admin] any more; this ends when it stops")
    if present.token is None and not started.address.loopback:
        return present.model_copy(update={"token": started.token})
    return present


def check_host(http: web.Request, admin: AdminConfig) -> None:
    """Check that the gateway is called by a name of its own.

    A web page whose name is made to lead here would be of the same origin as what it asks for
    ("DNS rebinding"); it comes with that name in ``host``. An address is no such name.

    Raises:
        Problem: it is not.
    """
    host = http.headers.get("host", "").lower()
    name = host.rpartition(":")[0] if host.rpartition(":")[2].isdigit() else host
    if name == "localhost" or name in admin.hosts or _is_address(name):
        return
    what = f"called as {name!r}, which is none of its names; add it to hosts in [admin]"
    raise Problem(421, what)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True


def check_intent(http: web.Request) -> None:
    """Check that no page of another origin makes a browser change something.

    Raises:
        Problem: it may be one.
    """
    if http.method in SAFE:
        return
    if http.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Problem(403, "pages of other origins may not call this")
    if http.headers.get(MARK) != "1":
        raise Problem(403, f"calls that change something need the header {MARK}: 1")


def check_token(http: web.Request, admin: AdminConfig) -> None:
    """Check the token of a call.

    Raises:
        Problem: there is none, or another one.
    """
    if admin.token is None:
        return
    scheme, _, token = http.headers.get("authorization", "").partition(" ")
    known = admin.token.get_secret_value().encode()
    shown = token.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown, known):
        what = "the token of [admin] is needed; send it as authorization: Bearer TOKEN"
        raise Problem(401, what, headers={"www-authenticate": 'Bearer realm="gateway admin"'})
