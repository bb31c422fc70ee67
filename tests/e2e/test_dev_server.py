"""The application that `make dev` gives to aiohttp-devtools."""

from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from gateway.server import create_app
from tests.e2e.configs import base_config, destination, source

ROUTE = '[[routes]]\nto = ["chrts"]\n'
NOWHERE = "http://127.0.0.1:9"
EVENT = {"userId": "u", "event": "Signed Up", "writeKey": "any"}


async def test_the_application_runs_the_gateway_and_sends_calls_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The application starts the configured gateway, redirects calls to it, and stops it."""
    path = tmp_path / "gateway.toml"
    path.write_text(
        base_config(tmp_path) + source("segment") + destination("chrts", NOWHERE) + ROUTE
    )
    monkeypatch.setenv("GATEWAY_CONFIG", str(path))
    monkeypatch.setattr("gateway.observability.log.configure", lambda: None)
    runner = web.AppRunner(create_app())
    with capture_logs() as logs:
        try:
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0).start()
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1/track"
            async with (
                aiohttp.ClientSession() as session,
                session.post(url, json=EVENT, allow_redirects=False) as sent_on,
                session.post(sent_on.headers["location"], json=EVENT) as response,
            ):
                assert (sent_on.status, response.status) == (307, 200), await response.text()
        finally:
            await runner.cleanup()
    said = [line["event"] for line in logs]
    assert (said[0], said[-1]) == ("ready", "stopped")


async def test_a_gateway_that_cannot_start_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An invalid file, or a spool that another gateway has, ends the process with one log line."""
    path = tmp_path / "gateway.toml"
    monkeypatch.setenv("GATEWAY_CONFIG", str(path))
    monkeypatch.setattr("gateway.observability.log.configure", lambda: None)
    path.write_text("[server]\nlisten = 1\n")
    with capture_logs() as logs, pytest.raises(SystemExit):
        create_app()
    assert [line["event"] for line in logs] == ["start_failed"]
    assert "[server] listen: must be text" in logs[0]["reason"]
    path.write_text(
        base_config(tmp_path) + source("segment") + destination("chrts", NOWHERE) + ROUTE
    )
    first, second = web.AppRunner(create_app()), web.AppRunner(create_app())
    try:
        await first.setup()
        with capture_logs() as logs, pytest.raises(SystemExit):
            await second.setup()
    finally:
        await second.cleanup()
        await first.cleanup()
    assert [line["event"] for line in logs] == ["start_failed"]
    assert "another gateway process uses this spool folder" in logs[0]["reason"]
