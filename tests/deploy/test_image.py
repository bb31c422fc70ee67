"""The image runs as its page says."""

import os
import re
import signal
import time
from pathlib import Path

import pytest

from tests.deploy.debian import LIMIT, nspawn
from tests.deploy.dockerfile import build, instructions
from tests.docs.pages import ROOT

pytestmark = pytest.mark.xdist_group("deploy")

DOCKERFILE = ROOT / "config/deploy/Dockerfile"
SECRETS = {
    "admin_token": "a-token-of-sixteen-characters",
    "personaclick_shop_id": "shop-1",
    "chrts_api_key": "key-1",
}
POST = """
import json, urllib.request
event = {"event": "view", "shop_id": "shop-1", "did": "d", "seance": "s", "items": [{"id": "1"}]}
head = {"content-type": "application/json"}
call = urllib.request.Request("http://127.0.0.1:8080/push", json.dumps(event).encode(), head)
print(urllib.request.urlopen(call, timeout=5).read().decode())
"""


def test_the_image_serves_events_as_an_unprivileged_user(
    debian: Path, checkout: Path, roots: Path, tmp_path: Path
) -> None:
    """With an extra it accepts events on a read-only root, is healthy, and stops with status 0."""
    added = {"PACKAGES": "cdp-gateway[cluster]"}
    image = build(checkout / "config/deploy/Dockerfile", checkout, debian, roots, added)
    assert not (image.root / "opt/cdp-gateway/bin/pip").exists()
    assert list(image.root.glob("opt/cdp-gateway/lib/python3*/site-packages/nkeys")), added
    secrets, log = tmp_path / "secrets", tmp_path / "log"
    secrets.mkdir()
    for name, value in SECRETS.items():
        (secrets / name).write_text(value)
    spool = tmp_path / "spool"
    spool.mkdir()
    os.chown(spool, int(image.user), int(image.user))
    options = [
        "--read-only", f"--user={image.user}", f"--chdir={image.folder}",
        f"--bind={spool}:{image.volumes[0]}", f"--bind-ro={secrets}:/run/secrets",
        f"--bind-ro={checkout}/config/deploy:/etc/cdp-gateway",
        *(f"--setenv={name}={value}" for name, value in image.variables.items()),
    ]  # fmt: skip
    with nspawn(image.root, *options, *image.command, log=log) as running:
        end = time.monotonic() + LIMIT
        while (healthy := running.call(image.health)).returncode != 0:
            assert time.monotonic() < end, f"{healthy.stderr}\n{log.read_text()}"
            time.sleep(0.1)
        posted = running.call(["python3", "-c", POST])
        assert posted.stdout.strip() == '{"status":"success"}', posted.stderr
        os.kill(running.pid, getattr(signal, image.stop_signal))
        assert running.nspawn.wait(LIMIT) == 0, log.read_text()
    assert '"event":"stopped"' in log.read_text()


def test_no_secret_and_no_test_is_in_the_image() -> None:
    """The image is built from the package's own files: no secrets, no tests, no documentation."""
    ignored = (ROOT / ".dockerignore").read_text()
    allowed = set(re.findall(r"^!(\S+)", ignored, re.MULTILINE))
    assert allowed == {
        "gateway", "plugins", "config/presets", "tests/example_plugins", "pyproject.toml",
        "requirements.lock", "requirements.run.lock", "README.md", "LICENSE",
    }  # fmt: skip


def test_the_page_names_the_base_and_the_user() -> None:
    """docs/deploy/docker.md names the base, the user and the ports of the Dockerfile."""
    page = (ROOT / "docs/deploy/docker.md").read_text()
    said = dict(instructions(DOCKERFILE.read_text()))
    assert f"| base | `{said['FROM']}`" in page
    assert f"| user | {said['USER']}," in page
    assert all(port in page for port in said["EXPOSE"].split())
