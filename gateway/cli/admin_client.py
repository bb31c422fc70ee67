"""Call the admin API of the running gateway."""

import contextlib
import http.client
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from gateway.admin.auth import CSRF_HEADER
from gateway.admin.context import ProblemDetails
from gateway.admin.endpoint import PREFIX
from gateway.cli.errors import InvalidConfig, InvalidName
from gateway.cli.output import printable
from gateway.config.loader.load import load_admin
from gateway.http import header_value_problem

T = TypeVar("T")

TOKEN_VARIABLE = "GATEWAY_ADMIN_TOKEN"  # noqa: S105 - a name
"""The environment variable with the token of whoever runs the command."""
TIMEOUT = 60.0
"""Seconds to wait for an answer; a reload may take a while."""
NOT_FOUND = 404
UNAVAILABLE = 503
INVALID = 422

NO_ADMIN = """{path} has no [admin] table, so the running gateway cannot be asked; add

    [admin]
    listen = "127.0.0.1:8081"

and restart the gateway"""


UNNAMED = "[admin] of {path} has no token that commands could use; add one to operators"


class NoGateway(click.ClickException):
    """No gateway answers at the admin address."""


class TryAgain(click.ClickException):
    """The gateway cannot do it now, as when its spool is full."""


class AdminClient:
    """Calls the admin API at the address of a configuration's ``[admin]``.

    The token is that of the environment variable, else the first one of the table.

    Args:
        path: the configuration.
        timeout: seconds to wait for an answer.

    Raises:
        ConfigError: the file cannot be read, or its ``[admin]`` is invalid.
        click.ClickException: it has no ``[admin]``, or no token in it.
    """

    def __init__(self, path: Path, timeout: float = TIMEOUT) -> None:
        own = os.environ.get(TOKEN_VARIABLE, "").strip()
        admin = load_admin(path, secrets=not own)
        if admin is None:
            raise click.ClickException(NO_ADMIN.format(path=path))
        self._path = path
        self._timeout = timeout
        self._listen = admin.listen
        self._address = (admin.address.host or "127.0.0.1", admin.address.port)
        # the name "localhost" is always accepted, whatever the address is called
        self._headers = {"host": "localhost", CSRF_HEADER: "1"}
        tokens = [own] if own else [token for _, _, token in admin.tokens()]
        if tokens and header_value_problem(tokens[0]):
            where = TOKEN_VARIABLE if own else f"the first token in [admin] of {path}"
            raise click.ClickException(f"{where} must be one line of printable ASCII")
        if tokens:
            self._headers["authorization"] = f"Bearer {tokens[0]}"
        elif admin.guarded:
            raise click.ClickException(UNNAMED.format(path=path))

    def get(self, path: str, kind: type[T]) -> T:
        """Return the answer at *path*, such as ``/status``, as *kind*.

        Raises:
            NoGateway: no gateway answers.
            click.ClickException: it refuses the call.
        """
        return self._call("GET", path, kind)

    def post(self, path: str, kind: type[T], body: Any = None) -> T:
        """Post *body* as JSON to *path*, and return the answer as *kind*.

        Raises:
            NoGateway: no gateway answers.
            click.ClickException: it refuses the call.
        """
        return self._call("POST", path, kind, body)

    def _call(self, method: str, path: str, kind: type[T], body: Any = None) -> T:
        headers, sent = dict(self._headers), None
        if body is not None:
            headers["content-type"], sent = "application/json", msgspec.json.encode(body)
        with self._connection() as connection:
            connection.request(method, PREFIX + path, sent, headers)
            answer = connection.getresponse()
            text = answer.read()
        try:
            if answer.status == http.client.OK:
                return msgspec.json.decode(text, type=kind)
            problem = msgspec.json.decode(text, type=ProblemDetails)
        except msgspec.DecodeError as error:
            raise click.ClickException(
                f"{self._listen} is not the admin API of this version of the gateway "
                f"({error}); check [admin] listen in {self._path}"
            ) from error
        raise _refused(problem)

    @contextlib.contextmanager
    def _connection(self) -> Iterator[http.client.HTTPConnection]:
        connection = http.client.HTTPConnection(*self._address, timeout=self._timeout)
        try:
            yield connection
        except TimeoutError as error:
            seconds = f"{self._timeout:g} s"
            raise NoGateway(
                f"the gateway at {self._listen} does not answer within {seconds}; see its log"
            ) from error
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or error
            raise NoGateway(
                f"no gateway answers at {self._listen}, the [admin] listen of {self._path}: "
                f"{reason}; start it with `gateway run`, or name its configuration with -c"
            ) from error
        finally:
            connection.close()


_KINDS: dict[int, type[click.ClickException]] = {NOT_FOUND: InvalidName, UNAVAILABLE: TryAgain}


def _refused(problem: ProblemDetails) -> click.ClickException:
    """Return the error of a refused call, as other commands report it."""
    if problem.problems:
        return InvalidConfig([printable(one) for one in problem.problems])
    kind = _KINDS.get(problem.status, click.ClickException)
    return kind(printable(problem.detail))
