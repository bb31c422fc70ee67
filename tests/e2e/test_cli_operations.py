"""Commands that call the running gateway: `destinations` and `reload`."""

import asyncio
import socket
import threading
from importlib.metadata import version
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result
from structlog.testing import capture_logs

from gateway.cli import main
from tests.e2e.admin import TOKEN, Admin, administered


def config(folder: Path, url: str, token: str = TOKEN) -> Path:
    """Return the path of a file whose ``[admin]`` names the admin API at *url*."""
    path = folder / "operator.toml"
    path.write_text(f'[admin]\nlisten = "{url.removeprefix("http://")}"\ntoken = "{token}"\n')
    return path


async def run(admin: Admin, folder: Path, *args: str, token: str = TOKEN) -> Result:
    """Run a command beside the gateway; it finds it by its own file."""
    path = config(folder, admin.url, token)
    with capture_logs():  # the gateway's log would be among the command's output
        return await asyncio.to_thread(CliRunner().invoke, main, [*args, "-c", str(path)])


async def test_pausing_lasts_until_resuming(tmp_path: Path) -> None:
    """``pause`` stops the named destinations and says what waits; ``resume`` ends it."""
    async with administered(tmp_path) as admin:
        teams = admin.running.gateway.teams
        paused = await run(admin, tmp_path, "destinations", "pause", "crm", "mail")
        assert paused.exit_code == 0, paused.output
        assert teams["crm"].paused
        assert teams["mail"].paused
        assert paused.stdout.splitlines() == [
            "crm is paused; 0 deliveries wait until `gateway destinations resume crm`",
            "mail is paused; 0 deliveries wait until `gateway destinations resume mail`",
        ]
        resumed = await run(admin, tmp_path, "destinations", "resume", "crm")
        assert resumed.stdout == "crm is resumed; 0 deliveries are pending\n"
        assert (teams["crm"].paused, teams["mail"].paused) == (False, True)


async def test_draining_attempts_now(tmp_path: Path) -> None:
    """``drain`` starts at once; a paused destination is an error that names the way out."""
    async with administered(tmp_path) as admin:
        drained = await run(admin, tmp_path, "destinations", "drain", "crm")
        assert drained.stdout == "crm is drained from now on; 0 deliveries are pending\n"
        await run(admin, tmp_path, "destinations", "pause", "crm")
        refused = await run(admin, tmp_path, "destinations", "drain", "crm")
        assert refused.exit_code == 1
        assert "Error: crm is paused; resume it, then drain it" in refused.stderr


async def test_an_unknown_destination_is_an_error(tmp_path: Path) -> None:
    """An unknown destination exits with 2 and names the closest."""
    async with administered(tmp_path) as admin:
        found = await run(admin, tmp_path, "destinations", "pause", "cmr")
        assert found.exit_code == 2
        assert "there is no destination 'cmr'; did you mean crm?" in found.stderr


async def test_a_healthy_gateway_exits_with_0(tmp_path: Path) -> None:
    """``status`` of a healthy gateway prints one screen and exits with 0."""
    async with administered(tmp_path) as admin:
        found = await run(admin, tmp_path, "status")
        assert found.exit_code == 0, found.output
        said = [" ".join(line.split()) for line in found.stdout.splitlines()]
        assert said[0] == "healthy: Everything is healthy"
        assert said[1].startswith(f"version {version('cdp-gateway')}, up for ")
        assert "; accepts events" in " ".join(said)
        assert "shop chrts accepting 0/s 0/s" in said
        assert "crm chrts healthy 0/s 0% 0 0" in said
        assert "Problems" not in said
        assert "accepting, 0.0% used" in said
        assert len(said) <= 24


async def test_a_problem_exits_with_1_and_has_its_cure(tmp_path: Path) -> None:
    """``status`` prints each problem with its cure, and exits with 1; so does its JSON."""
    async with administered(tmp_path) as admin:
        await run(admin, tmp_path, "destinations", "pause", "mail")
        found = await run(admin, tmp_path, "status")
        assert found.exit_code == 1
        said = [" ".join(line.split()) for line in found.stdout.splitlines()]
        assert said[0] == "attention: mail is paused by an operator, 0 pending: resume mail"
        at = said.index("Problems")
        assert said[at + 1 : at + 3] == [
            "! mail is paused by an operator, 0 pending",
            "resume mail",
        ]
        assert "mail growlytics paused 0/s 0% 0 0" in said
        as_json = await run(admin, tmp_path, "status", "--json")
        assert as_json.exit_code == 1
        report = orjson.loads(as_json.stdout)
        assert report["health"]["state"] == "attention"
        assert report["status"]["ready"] is True


async def test_destinations_are_listed_with_their_problems(tmp_path: Path) -> None:
    """``destinations list`` has a line for each, then what to do; as JSON, all that is known."""
    async with administered(tmp_path) as admin:
        await run(admin, tmp_path, "destinations", "pause", "mail")
        found = await run(admin, tmp_path, "destinations", "list")
        assert found.exit_code == 0, found.output
        said = [" ".join(line.split()) for line in found.stdout.splitlines()]
        assert "crm chrts healthy 0/s 0% 0 0" in said
        assert said[-1] == "resume mail"
        listed = orjson.loads((await run(admin, tmp_path, "destinations", "list", "--json")).stdout)
        assert [(one["name"], one["state"]) for one in listed] == [
            ("crm", "healthy"),
            ("mail", "paused"),
        ]


async def test_a_reload_reports_what_changed(tmp_path: Path) -> None:
    """``reload`` prints the names of what changed, keys that need a restart, and warnings."""
    async with administered(tmp_path) as admin:
        file = admin.running.gateway.config.path
        text = file.read_text()
        new = text.replace("[destinations.mail]", "[destinations.post]")
        new = new.replace('"mail"', '"post"') + "[log]\nsuccess_rate_limit = 7\n"
        new += '[destinations.idle]\nvendor = "chrts"\napi_key = "idle-key"\n'
        file.write_text(new)
        found = await run(admin, tmp_path, "reload")
        assert found.exit_code == 0, found.output
        said = " ".join(found.stdout.split())
        assert f"{file} is in effect" in said
        names = "destinations.post, destinations.idle"
        assert f"added {names} changed routes.route 1 removed destinations.mail" in said
        assert "takes effect after a restart: [log] success_rate_limit" in said
        assert "[destinations.idle]: no route leads to it" in said
        again = await run(admin, tmp_path, "reload", "--json")
        report = orjson.loads(again.stdout)
        assert (report["added"], report["changed"], report["removed"]) == ([], [], [])
        assert any("[destinations.idle]" in one for one in report["warnings"])
        plain = await run(admin, tmp_path, "reload")
        assert "nothing was added, changed or removed" in plain.stdout
        due = "takes effect after a restart: [server] listen, [log] success_rate_limit"
        file.write_text(new.replace('listen = "127.0.0.1:0"', 'listen = "127.0.0.1:9"', 1))
        assert (await admin.get("/config/check"))["differs"] is True
        for command in ("reload", "status"):
            found = await run(admin, tmp_path, command)
            assert due in " ".join(found.stdout.split())


async def test_an_invalid_file_changes_nothing(tmp_path: Path) -> None:
    """``reload`` of an invalid file lists its problems, exits with 2, and changes nothing."""
    async with administered(tmp_path) as admin:
        file = admin.running.gateway.config.path
        file.write_text(file.read_text().replace('to = ["crm"', 'to = ["cmr"'))
        found = await run(admin, tmp_path, "reload")
        assert found.exit_code == 2
        assert "1 problem in the configuration:" in found.stderr
        assert "there is no destination 'cmr'; did you mean crm?" in found.stderr
        assert "crm" in admin.running.gateway.teams


async def test_a_wrong_token_is_one_sentence(tmp_path: Path) -> None:
    """A token other than the gateway's is refused, with what to do."""
    async with administered(tmp_path) as admin:
        found = await run(admin, tmp_path, "reload", token="another-token-of-16")  # noqa: S106 - opens nothing
        assert found.exit_code == 1
        assert "a token of [admin] is required" in found.stderr


async def test_a_token_of_ones_own_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``GATEWAY_ADMIN_TOKEN`` is sent in place of the file's tokens, if a header can carry it."""
    async with administered(tmp_path) as admin:
        monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", TOKEN)
        found = await run(admin, tmp_path, "destinations", "list", token="file:/nonexistent/token")  # noqa: S106 - opens nothing
        assert found.exit_code == 0, found.output
        monkeypatch.setenv("GATEWAY_ADMIN_TOKEN", f"{TOKEN}\n{TOKEN}")
        found = await run(admin, tmp_path, "status")
        assert "GATEWAY_ADMIN_TOKEN must be one line of printable ASCII" in found.stderr
        monkeypatch.delenv("GATEWAY_ADMIN_TOKEN")
        found = await run(admin, tmp_path, "destinations", "list", token="file:/nonexistent/token")  # noqa: S106 - opens nothing
        assert found.exit_code == 2
        assert "cannot read the secret in /nonexistent/token" in found.stderr


@pytest.mark.parametrize("command", [["reload"], ["destinations", "pause", "crm"]])
def test_without_a_gateway_the_address_is_named(command: list[str], tmp_path: Path) -> None:
    """Where no gateway listens, the error names the address, its key and what to do."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"127.0.0.1:{taken.getsockname()[1]}"
    path = config(tmp_path, url)
    found = CliRunner().invoke(main, [*command, "-c", str(path)])
    assert found.exit_code == 1
    assert f"no gateway answers at {url}, the [admin] listen of {path}" in found.stderr
    assert "start it with `gateway run`" in found.stderr


def test_without_an_admin_table_the_error_says_what_to_add(tmp_path: Path) -> None:
    """A configuration without ``[admin]`` cannot name the gateway; the error shows the table."""
    path = tmp_path / "gateway.toml"
    path.write_text('[server]\nlisten = "127.0.0.1:8080"\n')
    found = CliRunner().invoke(main, ["reload", "-c", str(path)])
    assert found.exit_code == 1
    assert "has no [admin] table" in found.stderr
    assert '[admin]\n    listen = "127.0.0.1:8081"' in found.stderr


def test_another_server_is_recognised(tmp_path: Path) -> None:
    """An address that answers otherwise than the admin API does is one sentence."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        path = config(tmp_path, f"127.0.0.1:{server.getsockname()[1]}")

        def answer() -> None:
            with server.accept()[0] as client:
                client.recv(65536)
                client.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnope")

        thread = threading.Thread(target=answer)
        thread.start()
        found = CliRunner().invoke(main, ["reload", "-c", str(path)])
        thread.join()
    assert found.exit_code == 1
    assert "is not the admin API of this version of the gateway" in found.stderr
