"""Wheel and sdist are complete, agree, and run in an environment with nothing else."""

import asyncio
import re
import subprocess
import zipfile
from asyncio.subprocess import PIPE
from pathlib import Path

import aiohttp
import orjson
import pytest

from tests.docs.pages import ROOT
from tests.e2e.running import PATIENCE
from tests.release.distribution import Distribution, build, environment, install, run
from tests.release.project import PYPROJECT, VERSION

pytestmark = pytest.mark.xdist_group("distribution")

README_CALL = re.compile(r"curl -i http://127\.0\.0\.1:8080(/\S+) .*? -d '(\{.*?\})'\n", re.DOTALL)


def test_the_wheel_has_every_file_of_its_packages(distribution: Distribution) -> None:
    """The wheel has the packages' files: plugins, loss tables, the console, what is copied."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--"]
    copied = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    wanted = set()
    for folder in ("gateway", "plugins", *copied):
        files = subprocess.run([*listed, folder], cwd=ROOT, check=True, capture_output=True).stdout
        for file in filter(None, files.decode().split("\0")):
            wanted.add(copied.get(folder, folder) + file.removeprefix(folder))
    with zipfile.ZipFile(distribution.wheel) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert found == wanted
    assert {"gateway/admin/web/main.js", "plugins/segment/losses.toml", "gateway/py.typed"} < found


def test_the_sdist_builds_the_same_wheel(distribution: Distribution, tmp_path: Path) -> None:
    """The wheel that is built from the sdist is the one that the tree builds, byte for byte."""
    build(ROOT, tmp_path, "--wheel")
    assert (tmp_path / distribution.wheel.name).read_bytes() == distribution.wheel.read_bytes()


async def test_the_wheel_runs_in_an_environment_of_its_own(
    distribution: Distribution, tmp_path: Path
) -> None:
    """Installed alone, it checks the first configuration and answers the README's request."""
    programs = install(tmp_path, distribution.wheel)
    assert run(programs / "gateway", "--version", cwd=tmp_path).strip() == VERSION
    schema = run(programs / "gateway", "schema", cwd=tmp_path)
    assert schema == (ROOT / "config/gateway.schema.json").read_text()
    config = tmp_path / "gateway.toml"
    config.write_text((ROOT / "config/gateway.toml").read_text().replace(":8080", ":0"))
    config.write_text(config.read_text().replace(":8081", ":0"))
    run(programs / "gateway", "check", "--config", config, cwd=tmp_path)
    call = README_CALL.search((ROOT / "README.md").read_text())
    assert call is not None
    process = await asyncio.create_subprocess_exec(
        programs / "gateway", "run", "--config", config,
        stderr=PIPE, cwd=tmp_path, env=environment(),
    )  # fmt: skip
    try:
        async with asyncio.timeout(PATIENCE), aiohttp.ClientSession() as client:
            url, admin = await _addresses(process)
            head = {"content-type": "application/json"}
            async with client.post(url + call[1], data=call[2], headers=head) as answer:
                assert await answer.json() == {"status": "success"}
            async with client.get(f"{admin}/console/main.js") as page:
                assert await page.text() == (ROOT / "gateway/admin/web/main.js").read_text()
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _addresses(process: asyncio.subprocess.Process) -> tuple[str, str]:
    """Return the addresses for events and of the console."""
    found = dict[str, str]()
    assert process.stderr is not None
    async for text in process.stderr:
        line = orjson.loads(text)
        if "port" in line:
            found[line["event"]] = f"http://{line['host']}:{line['port']}"
        if "listening" in found:
            return found["listening"], found["admin_listening"]
    pytest.fail("it ended before it listened")
