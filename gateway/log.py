"""Structured logs: JSON lines in a pipe, colours on a terminal."""

import logging
import sys

import orjson
import structlog


def configure(*, level: int = logging.INFO) -> None:
    """Set up structlog for the process; one line per event, on standard error.

    What libraries log becomes such lines too.
    """
    logging.basicConfig(handlers=[_Libraries()], level=logging.WARNING, force=True)
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if sys.stderr.isatty():
        structlog.configure(
            processors=[*shared, structlog.dev.ConsoleRenderer()],
            wrapper_class=structlog.make_filtering_bound_logger(level),
            logger_factory=structlog.PrintLoggerFactory(sys.stderr),
            cache_logger_on_first_use=True,
        )
        return
    structlog.configure(
        processors=[
            *shared,
            structlog.processors.format_exc_info,
            structlog.processors.JSONRenderer(serializer=orjson.dumps),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.BytesLoggerFactory(sys.stderr.buffer),
        cache_logger_on_first_use=True,
    )


class _Libraries(logging.Handler):
    """Takes what libraries log through the standard library."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write one line; of what a client sent, nothing but what was wrong with it.

        The server's own complaints quote the request, which may hold a credential.
        """
        error = record.exc_info[1] if record.exc_info else None
        if type(error).__module__.startswith("aiohttp."):
            structlog.get_logger().debug("unreadable_request", error=type(error).__name__)
            return
        structlog.get_logger().log(
            record.levelno, "library", of=record.name, said=record.getMessage(), exc_info=error
        )
