"""The sandbox as a web application: every vendor under its own name, and the desk beside them."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Final

from aiohttp import web

from gateway.errors import ConfigError
from gateway.sandbox.desk import Desk
from gateway.sandbox.faults import Faults, UnknownVendorError
from gateway.sandbox.journal import Journal
from gateway.sandbox.rules import Sandbox
from gateway.sandbox.server import Server

LARGEST_BODY: Final = 16 * 1024 * 1024
"""Bytes, inflated; well above anything that the vendors document for events."""
JOURNAL_SIZE: Final = 100_000


def make_app(
    sandboxes: Iterable[Sandbox],
    keys: Mapping[str, str],
    *,
    journal: bool = True,
    journal_size: int = JOURNAL_SIZE,
) -> web.Application:
    """Return the sandbox, ready to be served.

    ``keys`` names for some vendors the one credential to accept; the others accept any.
    Without the ``journal`` nothing is remembered and the page stays empty, which is what a
    measurement wants. ``journal_size`` is in requests; the oldest are forgotten.

    Raises:
        ConfigError: two sandboxes share a name, or a key is for a vendor that is not here.
    """
    vendors = list(sandboxes)
    names = _checked_names(vendors, keys)
    faults = Faults(names)
    written = Journal(journal_size)
    arrivals = itertools.count(1)
    app = web.Application(client_max_size=LARGEST_BODY)
    desk = Desk(written, faults, names)
    app.add_routes(desk.routes())
    for vendor in vendors:
        server = Server(
            vendor, keys.get(vendor.name), faults, written if journal else None, arrivals
        )
        app.router.add_route("*", f"/{vendor.name}", server.serve)
        app.router.add_route("*", f"/{vendor.name}/{{path:.*}}", server.serve)
    app.router.add_route("*", "/{vendor}{path:.*}", desk.no_such_vendor)
    app.on_shutdown.append(desk.close)
    return app


def _checked_names(vendors: Iterable[Sandbox], keys: Mapping[str, str]) -> list[str]:
    counted = Counter(vendor.name for vendor in vendors)
    names = sorted(counted)
    problems = [f"two sandboxes are called {name!r}" for name in names if counted[name] > 1]
    problems += [
        f"a key: {UnknownVendorError(name, names)}" for name in keys if name not in counted
    ]
    if problems:
        raise ConfigError(problems)
    return names
