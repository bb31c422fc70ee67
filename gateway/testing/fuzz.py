"""A pytest plugin: the storm alone, as long as is asked for, and what it came to.

    python -m pytest -p gateway.testing.fuzz --payloads 100000

Of the collected tests only those of `AnythingSuite` that send whatever may come are run, each with
so many requests to its endpoint. The seed is printed; with ``--seed`` the same requests come again.
"""

import secrets
from collections.abc import Iterator
from typing import TypeAlias

import pytest

from gateway.testing.anything import STORM, TALLY

Row: TypeAlias = tuple[str, int, int, int, float]
"""An endpoint; its requests, those refused, the events of the others, and seconds."""
COLUMNS = ("endpoint", "requests", "refused", "events", "a second")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--payloads`` and ``--seed``."""
    parser.addoption("--payloads", type=int, default=1000, help="Requests to each endpoint.")
    drawn = secrets.randbelow(2**32)
    parser.addoption("--seed", type=int, default=drawn, help="Which ones; others each time.")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out all tests but the storms."""
    others = [item for item in items if getattr(item, "originalname", "") != STORM]
    config.hook.pytest_deselected(items=others)
    items[:] = [item for item in items if item not in others]


def pytest_report_header(config: pytest.Config) -> str:
    """Say which requests come."""
    return f"storm: --payloads {config.option.payloads} --seed {config.option.seed}"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print a line for each endpoint, and their sums."""
    rows = sorted(_rows(terminalreporter))
    if not rows:
        return
    names, sent, refused, events, seconds = zip(*rows, strict=True)
    sums = (sum(sent), sum(refused), sum(events), sum(seconds))
    rows.append((f"{len(names)} endpoints", *sums))
    width = max(len(row[0]) for row in rows)
    line = f"{{:<{width}}} {{:>10}} {{:>10}} {{:>10}} {{:>10}}".format
    terminalreporter.write_line(line(*COLUMNS))
    for name, *counts, took in rows:
        shown = (f"{count:,}" for count in counts)
        terminalreporter.write_line(line(name, *shown, f"{counts[0] / max(took, 0.001):,.0f}"))


def _rows(reporter: pytest.TerminalReporter) -> Iterator[Row]:
    for reports in reporter.stats.values():
        for report in reports:
            if getattr(report, "when", "") == "call":
                yield from (told for name, told in report.user_properties if name == TALLY)
