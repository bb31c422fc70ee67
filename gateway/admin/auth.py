"""Who may call the admin API: by its own names, with the token, and on nobody else's behalf."""

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
"""The header of every call that changes something. A page of another origin can send it only after
a preflight (https://fetch.spec.whatwg.org/#cors-preflight-fetch), which is never granted."""
OPEN = frozenset({"/healthz", "/readyz", "/api/v1/openapi.json"})
"""What needs no token, beside the console's own files: none of it says anything of the events."""
REASONS = {401: "token", 403: "origin", 421: "host"}
"""Why somebody is turned away, by the status that they read."""
QUIET = 60.0
"""Seconds in which those who are turned away for the same reason are logged once."""
_PORT = re.compile(r":[0-9]*\Z")

log = structlog.get_logger()


class RefusalLog:
    """Those who were turned away: each is counted, and now and then one is logged.

    Args:
        counts: how many, by why.
        clock: tells the time, in seconds.
    """

    def __init__(self, counts: Counter[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = counts
        self._lines = LogLimit(1, QUIET, clock)

    def note(self, request: web.Request, problem: ApiProblem) -> None:
        """Note that *request* met *problem*.

        One without any token is how everybody begins who opens the console, and is not logged.
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
    """Return the middleware that turns others away.

    Args:
        started: the configuration with which the address was opened.
        present: returns the one in effect, which a reload may have changed.
        refusals: notes those whom it turns away.
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
    """Check that a call may be made.

    Raises:
        Problem: it may not.
    """
    check_host(http, admin)
    if http.path.startswith("/api/") or http.path == "/metrics":
        check_intent(http)
        if http.path not in OPEN:
            check_token(http, admin)


def in_force(started: AdminConfig, present: AdminConfig | None) -> AdminConfig:
    """Return whom to let in.

    The address stays the one that was opened, whatever a reload says of it, so that a token that
    it needs is not forgotten by a configuration that would need none at another address.

    Raises:
        Problem: the configuration has no admin API any more.
    """
    if present is None:
        raise ApiProblem(503, "the configuration has no [admin] any more; this ends when it stops")
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
    name = _PORT.sub("", host)
    if name == "localhost" or name in admin.hosts or _is_address(name):
        return
    what = f"called as {name!r}, which is none of its names; add it to hosts in [admin]"
    raise ApiProblem(421, what)


def _is_address(name: str) -> bool:
    """Tell whether *name* is an address as RFC 3986, section 3.2.2 writes it in a URL.

    A zone, as in ``fe80::1%eth0``, means something on the caller's machine only, and no client
    sends it (RFC 6874 is withdrawn): one that does is refused.
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
    """Check that no page of another origin makes a browser change something.

    Raises:
        Problem: it may be one.
    """
    if http.method in SAFE:
        return
    if http.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise ApiProblem(403, "pages of other origins may not call this")
    if http.headers.get(CSRF_HEADER) != "1":
        raise ApiProblem(403, f"calls that change something need the header {CSRF_HEADER}: 1")


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
        raise ApiProblem(401, what, headers={"www-authenticate": 'Bearer realm="gateway admin"'})
