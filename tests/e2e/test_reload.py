"""A new configuration takes effect while events flow."""

import asyncio
import os
import re
import signal
from pathlib import Path

import trustme

from tests.e2e.configs import base_config, destination
from tests.e2e.process import GatewayProcess, gateway_process
from tests.e2e.running import PATIENCE, sandboxed
from tests.e2e.test_crash import HEADERS, arrived, post


def write(folder: Path, sandbox: str, vendors: list[str], source: str = "shop") -> Path:
    """Write a configuration that delivers to *vendors*."""
    path = folder / "gateway.toml"
    names = ", ".join(f'"{vendor}"' for vendor in vendors)
    path.write_text(
        base_config(folder)
        + f'[sources.{source}]\nvendor = "chrts"\nkeys = ["api_chrts_test"]\n'
        + "".join(destination(vendor, sandbox) for vendor in vendors)
        + f"[[routes]]\nto = [{names}]\n"
    )
    return path


async def hang_up(gateway: GatewayProcess, event: str) -> dict[str, object]:
    """Send SIGHUP, and wait for the next log line of *event*."""
    gateway.lines.clear()
    gateway.process.send_signal(signal.SIGHUP)
    return await gateway.saw(event)


async def test_destinations_come_and_go_under_load(tmp_path: Path) -> None:
    """Destinations are added and removed under load; no event and no response is lost."""
    async with sandboxed() as (sandbox, client):
        path = write(tmp_path, sandbox, ["chrts", "growlytics"])
        async with gateway_process(path) as gateway:
            stop, sent = asyncio.Event(), 0

            async def load_on() -> None:
                nonlocal sent
                while not stop.is_set():
                    await post(client, gateway.url, sent)
                    sent += 1

            loading = asyncio.get_running_loop().create_task(load_on())
            await arrived(client, sandbox, "growlytics", 20)
            write(tmp_path, sandbox, ["chrts", "growlytics", "quartic"])
            line = await hang_up(gateway, "reloaded")
            assert line["added"] == ["destinations.quartic"]
            write(tmp_path, sandbox, ["chrts"])
            line = await hang_up(gateway, "reloaded")
            assert line["removed"] == ["destinations.growlytics", "destinations.quartic"]
            after = sent
            await arrived(client, sandbox, "chrts", after + 20)
            stop.set()
            await loading
            numbers = await arrived(client, sandbox, "chrts", sent)
            assert sorted(numbers) == list(range(sent))
            for user in range(5):
                mine = [number for number in numbers if number % 5 == user]
                assert mine == sorted(mine)


async def test_a_changed_destination_keeps_its_cursor(tmp_path: Path) -> None:
    """A destination whose settings change keeps its cursor: no event is lost or sent twice."""
    async with sandboxed() as (sandbox, client):
        path = write(tmp_path, sandbox, ["chrts"])
        async with gateway_process(path) as gateway:
            for number in range(10):
                await post(client, gateway.url, number)
            path.write_text(path.read_text().replace("api_chrts_sandbox", "api_chrts_other"))
            assert (await hang_up(gateway, "reloaded"))["changed"] == ["destinations.chrts"]
            for number in range(10, 20):
                await post(client, gateway.url, number)
            numbers = await arrived(client, sandbox, "chrts", 20)
            assert sorted(numbers) == list(range(20))
            async with client.get(f"{sandbox}/_sandbox/requests") as answer:
                keys = [entry["headers"]["authorization"] for entry in await answer.json()]
            assert keys[-1] == "Bearer api_chrts_other"
            assert keys[0] == "Bearer api_chrts_sandbox"


async def test_sources_change_without_a_restart(tmp_path: Path) -> None:
    """After a reload a new key is accepted and an old one refused, on the same connection."""
    async with sandboxed() as (sandbox, client):
        path = write(tmp_path, sandbox, ["chrts"])
        async with gateway_process(path) as gateway:
            await post(client, gateway.url, 0)
            path.write_text(path.read_text().replace('["api_chrts_test"]', '["another"]'))
            await hang_up(gateway, "reloaded")
            body = {"uid": "u", "name": "n"}
            url = f"{gateway.url}/event/track"
            async with client.post(url, json=body, headers=HEADERS) as answer:
                assert answer.status == 401
            headers = {"authorization": "Bearer another"}
            async with client.post(url, json=body, headers=headers) as answer:
                assert answer.status == 200


async def test_an_invalid_configuration_changes_nothing(tmp_path: Path) -> None:
    """An invalid configuration is logged with its problems, and the gateway goes on as before."""
    async with sandboxed() as (sandbox, client):
        path = write(tmp_path, sandbox, ["chrts"])
        async with gateway_process(path) as gateway:
            good = path.read_text()
            path.write_text(good.replace("api_key", "api_kye"))
            line = await hang_up(gateway, "reload_failed")
            assert "api_kye" in str(line["problems"])
            await post(client, gateway.url, 1)
            async with asyncio.timeout(PATIENCE):
                assert await arrived(client, sandbox, "chrts", 1) == [1]
            path.write_text(re.sub('api_key = ".*"', 'api_key = "file:nowhere/key"', good))
            line = await hang_up(gateway, "reload_failed")
            assert "api_key: cannot read the secret in nowhere/key: No such" in str(
                line["problems"]
            )


async def until_reloaded(gateway: GatewayProcess, **wanted: object) -> None:
    """Wait until a reload's log line contains *wanted*."""
    async with asyncio.timeout(PATIENCE):
        while True:
            line = await gateway.saw("reloaded")
            if wanted.items() <= line.items():
                return
            gateway.lines.remove(line)


async def test_a_watched_configuration_is_reloaded_when_it_changes(tmp_path: Path) -> None:
    """With --watch, a changed, included or new file takes effect."""
    async with sandboxed() as (sandbox, client):
        path = write(tmp_path, sandbox, ["chrts"])
        path.write_text('include = ["more/*.toml"]\n' + path.read_text())
        (tmp_path / "more").mkdir()
        async with gateway_process(path, "--watch") as gateway:
            await gateway.saw("watching_files")
            further = tmp_path / "more" / "growlytics.toml"
            further.write_text(destination("growlytics", sandbox))
            await until_reloaded(gateway, added=["destinations.growlytics"])
            replaced = tmp_path / "more" / "new"
            replaced.write_text(further.read_text() + '[[routes]]\nto = ["growlytics"]\n')
            replaced.rename(further)
            await until_reloaded(gateway, routes=2)
            await post(client, gateway.url, 0)
            assert await arrived(client, sandbox, "growlytics", 1) == [0]
            gateway.lines.clear()
            further.write_text("[[routes]]\nto = 1\n")
            assert "growlytics.toml:2" in str((await gateway.saw("reload_failed"))["problems"])


async def test_a_missing_file_takes_effect_when_it_appears(tmp_path: Path) -> None:
    """With --watch, a missing file takes effect when it appears, even with an old timestamp."""
    async with sandboxed() as (sandbox, _):
        path = write(tmp_path, sandbox, ["chrts"])
        async with gateway_process(path, "--watch") as gateway:
            await gateway.saw("watching_files")
            path.write_text('include = ["more.toml"]\n' + path.read_text())
            line = await gateway.saw("reload_failed")
            assert "there is no file" in str(line["problems"])
            old = tmp_path / "kept" / "more.toml"
            old.parent.mkdir()
            old.write_text(destination("growlytics", sandbox))
            os.utime(old, (0, 0))
            old.rename(tmp_path / "more.toml")
            await until_reloaded(gateway, added=["destinations.growlytics"])


async def test_a_watched_certificate_is_reloaded(tmp_path: Path) -> None:
    """With --watch, a certificate takes effect when it appears, and when it is renewed."""
    made = tmp_path / "issued"
    made.mkdir()
    for name in ("old.pem", "new.pem"):
        trustme.CA().cert_pem.write_to_path(made / name)
    async with sandboxed() as (sandbox, _):
        path = write(tmp_path, sandbox, ["chrts"])
        async with gateway_process(path, "--watch") as gateway:
            await gateway.saw("watching_files")
            line = f'ca = "{tmp_path}/ca.pem"\nvendor = "chrts"\nurl'
            path.write_text(path.read_text().replace('vendor = "chrts"\nurl', line))
            assert "ca: cannot read" in str((await gateway.saw("reload_failed"))["problems"])
            for name in ("old.pem", "new.pem"):
                (made / name).rename(tmp_path / "ca.pem")
                await until_reloaded(gateway, changed=["destinations.chrts"])
                gateway.lines.clear()
