"""Authorize calls of the admin API by host name, token and origin."""

import hmac
import ipaddress
import re
import time
from collections import Counter
from collections.abc import Callable

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin.context import ApiProblem
from gateway.config.operations import AdminConfig
from gateway.log_limit import LogLimit

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "x-gateway-admin"
"""Required in every call that changes something. A page of another origin can send it only after a
preflight (https://fetch.spec.whatwg.org/#cors-preflight-fetch), which is never granted."""
OPEN = frozenset({"/healthz", "/readyz", "/api/v1/openapi.json"})
"""Paths that need no token, in addition to the console's files; none reveals anything about
events."""
REASONS = {401: "token", 403: "origin", 421: "host"}
"""Reasons of rejections by status."""
QUIET = 60.0
"""Seconds between two log lines about rejections for the same reason."""
_PORT = re.compile(r":[0-9]*\Z")

log = structlog.get_logger()


class RefusalLog:
    """Counts rejected calls, and logs some of them.

    Args:
        counts: the counter, by reason.
        clock: returns seconds; monotonic.
    """

    def __init__(self, counts: Counter[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = counts
        self._lines = LogLimit(1, QUIET, clock)

    def note(self, request: web.Request, problem: ApiProblem) -> None:
        """Record that *request* was rejected with *problem*.

        Calls without a token are not logged: everybody who opens the console begins with one.
        """
        why = REASONS.get(problem.status)
        if why is None:
            return
        if why == "token" and "authorization" not in request.headers:
            why = "no_token"
        self._counts[why] += 1
        if why != "no_token" and self._lines.take(why):
            log.warning(
                "admin_refused",
                reason=problem.detail,
                address=request.remote,
                path=request.path,
                times=self._counts[why],
            )


def auth_middleware(
    started: AdminConfig, present: Callable[[], AdminConfig | None], refusals: RefusalLog
) -> Middleware:
    """Return the middleware that rejects unauthorized calls.

    Args:
        started: the configuration at the start, whose address is open.
        present: returns the configuration in effect, which a reload may have changed.
        refusals: records rejected calls.
    """

    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            check(request, in_force(started, present()))
        except ApiProblem as problem:
            refusals.note(request, problem)
            raise
        return await handler(request)

    return guarded


def check(http: web.Request, admin: AdminConfig) -> None:
    """Check that a call is authorized.

    Raises:
        ApiProblem: it is not.
    """
    check_host(http, admin)
    if http.path.startswith("/api/") or http.path == "/metrics":
        check_intent(http)
        if http.path not in OPEN:
            check_token(http, admin)


def in_force(started: AdminConfig, present: AdminConfig | None) -> AdminConfig:
    """Return the configuration to authorize calls with.

    The open address stays the one from the start, whatever a reload says. So its token stays
    required even if the new configuration has none because its new address would need none.

    Raises:
        ApiProblem: the configuration no longer has an admin API.
    """
    if present is None:
        raise ApiProblem(
            503, "the configuration no longer has [admin]; the API ends when the gateway stops"
        )
    if present.token is None and not started.address.loopback:
        return present.model_copy(update={"token": started.token})
    return present


def check_host(http: web.Request, admin: AdminConfig) -> None:
    """Check that the gateway is called under one of its own names.

    This prevents DNS rebinding: a web page whose name is made to resolve to the gateway would have
    the same origin as the gateway. Its requests have that name in ``host``; IP addresses are safe.

    Raises:
        ApiProblem: the name is unknown.
    """
    host = http.headers.get("host", "").lower()
    name = _PORT.sub("", host)
    if name == "localhost" or name in admin.hosts or _is_address(name):
        return
    what = f"called as {name!r}, which is not a known name; add it to hosts in [admin]"
    raise ApiProblem(421, what)


def _is_address(name: str) -> bool:
    """Return whether *name* is an IP address as RFC 3986, section 3.2.2 writes it in a URL.

    A zone, as in ``fe80::1%eth0``, has a meaning only on the caller's machine, and no client sends
    it (RFC 6874 is withdrawn); it is rejected.
    """
    bare = name.removeprefix("[").removesuffix("]")
    try:
        found = ipaddress.ip_address(bare)
    except ValueError:
        return False
    if isinstance(found, ipaddress.IPv4Address):
        return name == bare
    return found.scope_id is None and name == f"[{bare}]"


def check_intent(http: web.Request) -> None:
    """Check that a changing call does not come from a page of another origin.

    Raises:
        ApiProblem: it may.
    """
    if http.method in SAFE:
        return
    if http.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise ApiProblem(403, "web pages of other origins must not call this")
    if http.headers.get(CSRF_HEADER) != "1":
        raise ApiProblem(403, f"this call needs the header {CSRF_HEADER}: 1")


def check_token(http: web.Request, admin: AdminConfig) -> None:
    """Check the token of a call.

    Raises:
        ApiProblem: it is missing or wrong.
    """
    if admin.token is None:
        return
    scheme, _, token = http.headers.get("authorization", "").partition(" ")
    known = admin.token.get_secret_value().encode()
    shown = token.strip().encode("utf-8", "surrogateescape")
    if scheme.lower() != "bearer" or not hmac.compare_digest(shown, known):
        what = "the token in [admin] is required; send it as authorization: Bearer TOKEN"
        raise ApiProblem(401, what, headers={"www-authenticate": 'Bearer realm="gateway admin"'})
