"""Structured logs: JSON lines in a pipe, colours on a terminal, never a credential."""

import logging
import sys
from collections.abc import Mapping, MutableMapping
from functools import lru_cache
from typing import Any

import structlog

from gateway.json_text import dumps
from gateway.redact import HIDDEN, Redactor, is_secret

NOTHING = Redactor()
QUOTING = frozenset({"event", "reason", "error", "message"})
"""Keys that may quote a vendor's response, truncated perhaps in the middle of a credential."""
FINDINGS = "problems"
"""The key of what is wrong with a configuration: ``api_key: cannot read ...`` holds no value."""


_is_secret_key = lru_cache(maxsize=1024)(is_secret)
"""Log keys are few, and each line has ten of them."""


class RedactionProcessor:
    """A structlog processor that redacts credentials in all values of a line, tracebacks included.

    It is the last processor before the renderer, where tracebacks are already text.

    Attributes:
        redactor: hides the configured credentials; a reload replaces it.
    """

    def __init__(self) -> None:
        self.redactor = NOTHING

    def __call__(
        self, logger: object, method: str, line: MutableMapping[str, Any]
    ) -> MutableMapping[str, Any]:
        """Return *line* without credentials."""
        del logger, method
        return {name: self.clean(name, value) for name, value in line.items()}

    def clean(self, name: str, value: Any) -> Any:
        """Return *value* without credentials; *name* is its key."""
        if isinstance(value, str):
            if _is_secret_key(name):
                return HIDDEN
            return self.redactor.text_short(value) if name in QUOTING else self.redactor.text(value)
        if isinstance(value, Mapping):
            return {key: self.clean(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            if name == FINDINGS:
                return [self.redactor.known(str(inner)) for inner in value]
            return [self.clean("", inner) for inner in value]
        if value is None or isinstance(value, bool | int | float):
            return value
        return self.redactor.text_short(str(value))


redaction = RedactionProcessor()
"""The processor of this process."""


class _Libraries(logging.Handler):
    """Passes on what libraries log with the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        """Log one line; of an HTTP parsing error only its type.

        The server's message quotes the request, which may contain a credential.
        """
        error = record.exc_info[1] if record.exc_info else None
        if type(error).__module__.startswith("aiohttp."):
            structlog.get_logger().debug("unreadable_request", error=type(error).__name__)
            return
        structlog.get_logger().log(
            record.levelno,
            "library",
            logger=record.name,
            message=record.getMessage(),
            exc_info=error,
        )


def configure(*, level: int = logging.INFO) -> None:
    """Set up structlog for the process: one line per event on standard error.

    Lines that libraries log with the standard library are included.
    """
    terminal = sys.stderr.isatty()
    renderer: structlog.typing.Processor = structlog.processors.JSONRenderer(dumps)
    if terminal:
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(exception_formatter=plain)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            redaction,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr)
        if terminal
        else structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)
