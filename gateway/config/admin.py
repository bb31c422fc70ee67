"""What the configuration file may say of the admin API and the console."""

from typing import Annotated

from pydantic import BeforeValidator, SecretStr

from gateway.config.listening import Address, address, listening
from gateway.config.problems import Report
from gateway.config.tables import Table

SHORTEST_TOKEN = 16
"""Characters; `openssl rand -hex 16` gives twice as many."""


def _names(value: object) -> object:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        raise ValueError('must be a list of host names; write hosts = ["gateway.example"]')
    if any(not name or set(name) & set(":/@ ") for name in value):
        raise ValueError('takes bare host names such as "gateway.example", no scheme, port or path')
    return tuple(name.lower() for name in value)


class AdminConfig(Table):
    """The admin API and the console, on an address of their own; there are none without it."""

    listen: Annotated[str, BeforeValidator(listening)] = "127.0.0.1:8081"
    """Host and port to listen on, as in `[server]`."""
    token: SecretStr | None = None
    """What callers must show. It may be left out on a loopback address only, where everybody on
    this machine may then do everything."""
    hosts: Annotated[tuple[str, ...], BeforeValidator(_names)] = ()
    """The host names under which it is called, beside `localhost` and plain addresses, such as
    `["gateway.example"]` behind a reverse proxy. Calls by other names are refused, so that no web
    page can reach it by a name of its own."""

    @property
    def address(self) -> Address:
        """Return the host and the port to listen on."""
        return address(self.listen)


def check_admin(admin: AdminConfig, report: Report) -> None:
    """Report an admin API that others could use, or that cannot listen."""
    token = admin.token.get_secret_value() if admin.token else None
    if token is None and not admin.address.loopback:
        what = (
            f"is needed on {admin.listen}, which other machines reach; add one, or listen on a "
            f"loopback address"
        )
        report.problem("admin", "token", what)
    if token is not None and len(token) < SHORTEST_TOKEN:
        what = f"is too short to be safe; use at least {SHORTEST_TOKEN} characters"
        report.problem("admin", "token", what)
