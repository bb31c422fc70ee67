"""A gateway whose files go to a bucket: what operators see, and what a reload mends."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main
from tests.e2e.admin import Admin, administered
from tests.e2e.configs import ADMIN, PROMPT_RETRIES, base_config, route, source
from tests.e2e.test_health import health, is_in, send
from tests.s3_server import AccessKey, S3Server

pytestmark = pytest.mark.xdist_group("s3")

KEY = "api_chrts_test"
CHECK = ("check", "--connect", "--config")


def setup(folder: Path, bucket: str, key: AccessKey, storage: str) -> str:
    """Return a configuration with a file destination that uploads each file at once."""
    return (
        base_config(folder, server="metrics = true")
        + ADMIN
        + source("chrts", KEY, name="shop")
        + '[destinations.archive]\nvendor = "file"\npath = "archive"\nrotate_bytes = 1\n'
        + f'{PROMPT_RETRIES}\n[destinations.archive.upload]\nbucket = "{bucket}"\n'
        + f'endpoint = "{storage}"\naccess_key = "{key.access_key}"\n'
        + f'secret_key = "{key.secret_key}"\n'
        + route("archive")
    )


async def metrics(admin: Admin) -> set[str]:
    """Return the lines of the metrics."""
    async with admin.running.client.get(f"{admin.running.url}/metrics") as answer:
        return set((await answer.text()).splitlines())


async def uploaded(s3_server: S3Server, bucket: str, count: int) -> None:
    """Wait until a bucket has *count* objects."""
    while len(s3_server.objects(bucket)) < count:  # noqa: ASYNC110 - the server is a thread
        await asyncio.sleep(0.01)


async def test_a_refused_key_is_seen_and_mended_by_a_reload(
    tmp_path: Path, s3_server: S3Server
) -> None:
    """Events are accepted with a wrong key; health names it, and a reload uploads all files."""
    bucket, key = s3_server.bucket(), s3_server.user()
    wrong = key._replace(secret_key=key.secret_key[::-1])
    path = tmp_path / "gateway.toml"
    async with administered(tmp_path, setup(tmp_path, bucket, wrong, s3_server.url)) as admin:
        assert await send(admin, 2) == [200, 200]
        found = await health(admin, is_in("refused"))
        (finding,) = found["findings"]
        assert finding["headline"].startswith("archive cannot upload its files: HTTP 403: Signat")
        assert "access_key, secret_key" in finding["cure"]
        await health(admin, lambda one: "2 files (" in one["findings"][0]["headline"])
        lines = await metrics(admin)
        assert 'cdp_gateway_upload_waiting_files{destination="archive"} 2.0' in lines
        assert 'cdp_gateway_uploads_total{destination="archive",outcome="uploaded"} 0.0' in lines
        checked = await asyncio.to_thread(CliRunner().invoke, main, [*CHECK, str(path)])
        assert checked.exit_code == 1
        assert "[destinations.archive] upload: HTTP 403: SignatureDoesNotMatch" in checked.output
        path.write_text(setup(tmp_path, bucket, key, s3_server.url))
        assert (await admin.post("/config/reload"))["changed"] == ["destinations.archive"]
        await uploaded(s3_server, bucket, 2)
        await health(admin, lambda one: one["state"] == "healthy")
        assert await send(admin, 1) == [200]
        await uploaded(s3_server, bucket, 3)
        checked = await asyncio.to_thread(CliRunner().invoke, main, [*CHECK, str(path)])
        assert checked.exit_code == 0, checked.output
        assert f"Buckets {bucket} at {s3_server.url}" in " ".join(checked.output.split())
        assert key.secret_key not in checked.output
    assert len(s3_server.objects(bucket)) == 3
