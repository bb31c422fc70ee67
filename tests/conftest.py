"""Shared set-up of all tests: uvloop, and tables that tests record for the end of the run."""

import asyncio
from collections.abc import Callable

import pytest
import uvloop
from hypothesis import settings

TABLE = "table"

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")  # the time of an example depends on the machine


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the tables that tests recorded with ``record_property("table", text)``."""
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, text in getattr(report, "user_properties", ()):
                if name == TABLE and getattr(report, "when", "") == "call":
                    terminalreporter.write_line("")
                    terminalreporter.write_line(text)


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests on uvloop, as the gateway does."""
    return {"uvloop": uvloop.new_event_loop}
