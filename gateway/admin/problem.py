"""What goes wrong, said as RFC 9457 has it."""

from collections.abc import Sequence
from http import HTTPStatus

import msgspec
import orjson
import structlog
from aiohttp import web
from aiohttp.typedefs import Handler

from gateway.errors import ConfigError, GatewayError, SpoolError, TraceError

CONTENT_TYPE = "application/problem+json"
SERVER_ERROR = 500

log = structlog.get_logger()


class ProblemDetails(msgspec.Struct, frozen=True, omit_defaults=True):
    """What went wrong (RFC 9457)."""

    title: str
    """The status in words."""
    status: int
    detail: str
    """What is wrong, and what to do."""
    problems: tuple[str, ...] = ()
    """Where there are several: each, such as the findings in a configuration file."""


class Problem(Exception):
    """A request that ends in an error, on purpose.

    Attributes:
        status: of the answer.
        detail: what is wrong, and what to do.
        problems: each of them, where there are several.
        headers: of the answer.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        problems: Sequence[str] = (),
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail
        self.problems = tuple(problems)
        self.headers = headers or {}

    def answer(self) -> web.Response:
        """Return the problem as an answer."""
        title = HTTPStatus(self.status).phrase
        said = ProblemDetails(title, self.status, self.detail, self.problems)
        return web.Response(
            status=self.status,
            body=orjson.dumps(msgspec.to_builtins(said)),
            headers={**self.headers, "content-type": CONTENT_TYPE},
        )


@web.middleware
async def as_problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer whatever goes wrong as a problem; what nobody foresaw is logged."""
    try:
        return await handler(request)
    except Problem as problem:
        return problem.answer()
    except ConfigError as error:
        detail = "the configuration file has problems; nothing has changed"
        return Problem(422, detail, problems=error.problems).answer()
    except (SpoolError, TraceError) as error:
        return Problem(503, str(error)).answer()
    except GatewayError as error:
        return Problem(409, str(error)).answer()
    except web.HTTPException as error:
        kept = {k: v for k, v in error.headers.items() if k.lower() in {"allow", "location"}}
        if error.status < HTTPStatus.BAD_REQUEST:
            raise
        return Problem(error.status, _detail(request, error), headers=kept).answer()
    except Exception as error:
        if isinstance(error, RecursionError) and request.body_exists:
            # The parser has no other bound.
            detail = "the body is nested too deeply to be read; send it with fewer levels"
            return Problem(HTTPStatus.BAD_REQUEST, detail).answer()
        log.exception("admin_failed", method=request.method, path=request.path)
        detail = "the gateway made a mistake; its log has the details"
        return Problem(SERVER_ERROR, detail).answer()


def _detail(request: web.Request, error: web.HTTPException) -> str:
    if error.status == HTTPStatus.NOT_FOUND:
        return f"there is nothing at {request.path}; /api/v1/openapi.json lists what there is"
    if isinstance(error, web.HTTPMethodNotAllowed):
        return f"{request.path} takes {', '.join(sorted(error.allowed_methods))} only"
    return error.reason
