"""Authorize calls of the admin API by host name, origin, caller and role."""

import ipaddress
import re
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from gateway.admin.caller import SECRET_HEADER, Caller, identify
from gateway.admin.context import ApiProblem
from gateway.config.operations import AdminConfig, Role
from gateway.log_limit import LogLimit

SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
CSRF_HEADER = "x-gateway-admin"
"""Required in every call that changes something. A page of another origin can send it only after a
preflight (https://fetch.spec.whatwg.org/#cors-preflight-fetch), which is never granted."""
OPEN = frozenset({"/healthz", "/readyz", "/api/v1/openapi.json"})
"""Paths that need no token, in addition to the console's files; none reveals anything about
events."""
CALLER = web.RequestKey("caller", Caller)
"""Who makes a request that passed the middleware."""
CREDENTIALS = (
    "token", "operators", "viewers", "proxy_secret", "proxy_user_header", "proxy_groups_header",
    "proxy_operators", "proxy_operator_groups",
)  # fmt: skip
"""Keys of ``[admin]`` that say who may call."""
QUIET = 60.0
"""Seconds between two log lines about rejections for the same reason."""
_PORT = re.compile(r":[0-9]*\Z")

log = structlog.get_logger()


class Unauthorized(ApiProblem):
    """A call that is not authorized.

    Attributes:
        why: the reason as a word, for the metric.
    """

    def __init__(self, status: int, why: str, detail: str, **more: Any) -> None:
        super().__init__(status, detail, **more)
        self.why = why


class RefusalLog:
    """Counts rejected calls, and logs some of them.

    Args:
        counts: the counter, by reason.
        clock: returns seconds; monotonic.
    """

    def __init__(self, counts: Counter[str], clock: Callable[[], float] = time.monotonic) -> None:
        self._counts = counts
        self._lines = LogLimit(1, QUIET, clock)

    def note(self, request: web.Request, problem: Unauthorized) -> None:
        """Record that *request* was rejected with *problem*.

        Calls without a token are not logged: everybody who opens the console begins with one.
        """
        why = problem.why
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
            return await handler(request)
        except Unauthorized as problem:
            refusals.note(request, problem)
            raise

    return guarded


def check(http: web.Request, admin: AdminConfig) -> None:
    """Check that a call is authorized, and note its caller; its endpoint checks the role.

    Raises:
        Unauthorized: it is not.
    """
    check_host(http, admin)
    if http.path.startswith("/api/") or http.path == "/metrics":
        check_intent(http)
        if http.path not in OPEN:
            http[CALLER] = caller_of(http, admin)


def check_again(http: web.Request, admin: AdminConfig) -> None:
    """Check that the caller of an earlier call is still the same, with the same role.

    Raises:
        Unauthorized: it is not.
    """
    caller = http[CALLER]
    found = identify(http.headers, admin)
    who = {"token": f"the token {caller.name}", "address": "access without a token"}.get(
        caller.via, f"the sign-in of {caller.name}"
    )
    if found is None or (found.name, found.via) != (caller.name, caller.via):
        raise Unauthorized(401, "token", f"{who} is no longer valid: the configuration has changed")
    if found.role != caller.role:
        raise Unauthorized(
            403, "role", f"{who} has changed from {caller.role} to {found.role}; connect again"
        )


def in_force(started: AdminConfig, present: AdminConfig | None) -> AdminConfig:
    """Return the configuration to authorize calls with.

    The open address stays the one from the start, whatever a reload says. So its tokens stay
    required even if the new configuration has none because its new address would need none.

    Raises:
        ApiProblem: the configuration no longer has an admin API.
    """
    if present is None:
        raise ApiProblem(
            503, "the configuration no longer has [admin]; the API ends when the gateway stops"
        )
    if not present.guarded and not started.address.loopback:
        return present.model_copy(update={key: getattr(started, key) for key in CREDENTIALS})
    return present


def check_host(http: web.Request, admin: AdminConfig) -> None:
    """Check that the gateway is called under one of its own names.

    This prevents DNS rebinding: a web page whose name is made to resolve to the gateway would have
    the same origin as the gateway. Its requests have that name in ``host``; IP addresses are safe.

    Raises:
        Unauthorized: the name is unknown.
    """
    host = http.headers.get("host", "").lower()
    name = _PORT.sub("", host)
    if name == "localhost" or name in admin.hosts or _is_address(name):
        return
    what = f"called as {name!r}, which is not a known name; add it to hosts in [admin]"
    raise Unauthorized(421, "host", what)


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
        Unauthorized: it may.
    """
    if http.method in SAFE:
        return
    if http.headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        raise Unauthorized(403, "origin", "web pages of other origins must not call this")
    if http.headers.get(CSRF_HEADER) != "1":
        raise Unauthorized(403, "origin", f"this call needs the header {CSRF_HEADER}: 1")


def caller_of(http: web.Request, admin: AdminConfig) -> Caller:
    """Return who makes a call.

    Raises:
        Unauthorized: it does not say so, or wrongly.
    """
    caller = identify(http.headers, admin)
    if caller is None:
        shown = {"authorization", SECRET_HEADER} & {name.lower() for name in http.headers}
        raise Unauthorized(
            401,
            "token" if shown else "no_token",
            "a token of [admin] is required; send it as authorization: Bearer TOKEN",
            headers={"www-authenticate": 'Bearer realm="gateway admin"'},
        )
    return caller


def check_role(caller: Caller, role: Role) -> None:
    """Check that a caller may make a call that needs *role*.

    Raises:
        Unauthorized: it may not.
    """
    if not caller.may(role):
        what = f"{caller.name} is a {caller.role}, and this needs an {role}"
        where = "proxy_operators" if caller.via == "proxy" else "operators"
        raise Unauthorized(403, "role", f"{what}; ask for a place among the {where} of [admin]")
