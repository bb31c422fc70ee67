"""Set-up of all tests: uvloop, servers for many tests, and tables printed at the end of the run."""

import asyncio
from collections.abc import Callable, Iterator

import pytest
import trustme
import uvloop
from hypothesis import settings

from tests.cluster.servers import NatsServers, nats_servers
from tests.s3_server import S3Server

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


def pytest_configure(config: pytest.Config) -> None:
    """Register the marker of tests that run on both event loops."""
    config.addinivalue_line("markers", "both_loops: run on uvloop and on asyncio's own loop")


def pytest_asyncio_loop_factories(
    item: pytest.Item,
) -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Run tests on uvloop, as the gateway does; marked tests also run on asyncio's loop."""
    loops: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {"uvloop": uvloop.new_event_loop}
    if item.get_closest_marker("both_loops"):
        loops["asyncio"] = asyncio.new_event_loop
    return loops


@pytest.fixture(scope="session")
def certificate_authority() -> trustme.CA:
    """Return a certificate authority that only the tests trust."""
    return trustme.CA()


@pytest.fixture(scope="session")
def nats_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServers]:
    """Run three NATS servers with JetStream.

    Each test uses names of its own, and leaves all three running and ready.
    """
    with nats_servers(tmp_path_factory.mktemp("nats")) as servers:
        yield servers


@pytest.fixture(scope="session")
def nats_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServers]:
    """Run one NATS server with JetStream, for tests of gateways; each uses a name of its own."""
    with nats_servers(tmp_path_factory.mktemp("nats"), 1) as server:
        yield server


@pytest.fixture(scope="session")
def s3_server() -> Iterator[S3Server]:
    """Run a server of the S3 API; each test uses buckets of its own, and leaves it running."""
    server = S3Server()
    yield server
    server.stop()
