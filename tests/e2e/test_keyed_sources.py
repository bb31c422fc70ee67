"""Several sources of one vendor at one address: the key chooses the source."""

import asyncio
from pathlib import Path
from typing import Any

from tests.e2e.configs import base_config, destination
from tests.e2e.process import gateway_process
from tests.e2e.raw_http import OK, Got, vendor
from tests.e2e.running import running, sandboxed
from tests.e2e.test_reload import hang_up


def sources(of: str, more: str = "") -> str:
    """Return two sources of a vendor: one routes to chrts, the other to growlytics."""
    return (
        f'[sources.a]\nvendor = "{of}"\nkeys = ["key-a", "key-a2"]\n{more}\n'
        f'[sources.b]\nvendor = "{of}"\nkeys = ["key-b"]\n'
        '[[routes]]\nfrom = ["a"]\nto = ["chrts"]\n[[routes]]\nfrom = ["b"]\nto = ["growlytics"]\n'
    )


def config(folder: Path, of: str, sandbox: str, more: str = "") -> str:
    """Return a configuration of both sources and both destinations."""
    return (
        base_config(folder)
        + f"{destination('chrts', sandbox)}{destination('growlytics', sandbox)}{sources(of, more)}"
    )


def push(key: str) -> dict[str, Any]:
    """Return a PersonaClick view with *key*."""
    return {
        "shop_id": key, "did": f"did-{key}", "seance": "s", "stream": "web", "event": "view",
        "items": [{"id": "1"}],
    }  # fmt: skip


async def test_a_key_in_the_body_chooses_the_source(tmp_path: Path) -> None:
    """An event takes the routes of the source that lists its key; an unknown key is refused."""
    async with running(tmp_path, lambda sandbox: config(tmp_path, "personaclick", sandbox)) as run:
        statuses = []
        for key in ("key-a", "key-b", "key-a2", "neither"):
            async with run.client.post(f"{run.url}/push", json=push(key)) as answer:
                statuses.append(answer.status)
        assert statuses == [200, 200, 200, 403]
        await run.watch.until(lambda w: len(w.settled) == 3)
        found = {(event.anonymous_id, to) for event, to, _ in run.watch.settled}
        assert found == {
            ("did-key-a", "chrts"), ("did-key-a2", "chrts"), ("did-key-b", "growlytics"),
        }  # fmt: skip


async def test_a_key_in_a_header_chooses_the_source(tmp_path: Path) -> None:
    """A key in a header chooses too, and an unknown key gets the vendor's refusal."""
    async with running(tmp_path, lambda sandbox: config(tmp_path, "chrts", sandbox)) as run:
        for key, status in (("key-b", 200), ("key-a", 200), ("neither", 401)):
            async with run.client.post(
                f"{run.url}/event/track", json={"uid": key, "name": "n"},
                headers={"authorization": f"Bearer {key}"},
            ) as answer:  # fmt: skip
                assert answer.status == status
                assert "code" in await answer.json()
        await run.watch.until(lambda w: len(w.settled) == 2)
        found = {(event.user_id, to) for event, to, _ in run.watch.settled}
        assert found == {("key-a", "chrts"), ("key-b", "growlytics")}


async def test_a_key_chooses_the_relay_address(tmp_path: Path) -> None:
    """A read goes to the relay address of its key's source; a source without one refuses it."""
    async with vendor() as upstream:
        more = f'url = "{upstream.url}"'
        async with running(
            tmp_path, lambda sandbox: config(tmp_path, "personaclick", sandbox, more)
        ) as run:
            for key, status in (("key-a", 200), ("key-b", 501), ("neither", 403)):
                async with run.client.get(f"{run.url}/profile?shop_id={key}") as answer:
                    assert answer.status == status
        assert len(upstream.got) == 1


async def test_a_reload_changes_keys_and_relay_addresses(tmp_path: Path) -> None:
    """SIGHUP changes keys and relay addresses; calls in progress end as they began."""
    async with sandboxed() as (sandbox, client), vendor() as one, vendor() as two:
        release = asyncio.Event()

        async def slow(got: Got, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if not got.line.startswith("GET /search"):
                writer.write(OK)
                return
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nslow")
            await release.wait()
            writer.write(b"ly")

        one.script = slow
        path = tmp_path / "gateway.toml"
        path.write_text(config(tmp_path, "personaclick", sandbox, f'url = "{one.url}"'))
        async with gateway_process(path) as gateway:
            url = f"{gateway.url}/profile?shop_id="
            async with client.get(f"{url}key-a") as answer:
                assert await answer.read() == b"ok"
            path.write_text(
                config(tmp_path, "personaclick", sandbox, f'url = "{two.url}"')
                .replace('"key-a2"', '"key-a3"')
                .replace('["key-b"]', '["key-a2"]')
            )
            async with client.get(f"{gateway.url}/search?shop_id=key-a") as under_way:
                await hang_up(gateway, "reloaded")
                release.set()
                assert await under_way.read() == b"slowly"
            for key, status in (("key-a", 200), ("key-a3", 200), ("key-a2", 501), ("key-b", 403)):
                async with client.get(f"{url}{key}") as answer:
                    assert answer.status == status
        assert (len(one.got), len(two.got)) == (2, 2)
