"""The service of systemd works as its page says."""

import re
import shutil
from pathlib import Path

import pytest

from tests.deploy.debian import Running, copy_root, machine
from tests.docs.pages import ROOT

pytestmark = pytest.mark.xdist_group("deploy")

PAGE = ROOT / "docs/deploy/systemd.md"
CLONE = "/usr/local/src/cdp-gateway"
MOST_EXPOSED = 2.0
"""The highest exposure that `systemd-analyze security` may tell, of 10."""


def _log(running: Running) -> str:
    return running.run("journalctl --unit cdp-gateway --output cat").stdout


def test_the_page_leads_from_a_clean_debian_to_a_service_behind_nginx(
    debian: Path, checkout: Path, roots: Path, tmp_path: Path
) -> None:
    """The page's commands, as they stand there, end with the answer of a vendor through nginx."""
    root = copy_root(debian, roots / "root")
    shutil.copytree(checkout, root / CLONE.lstrip("/"))
    with machine(root, tmp_path / "console") as running:
        answers = []
        for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(), re.DOTALL):
            online = "apt-get" in block
            said = running.run(f"set -e\n{block}", CLONE, online=online)
            assert said.returncode == 0, f"{block}\n{said.stdout}\n{said.stderr}\n{_log(running)}"
            answers.append(said.stdout)
        *_, accepted, traced = answers
        assert accepted == '{"status":"success"}'
        assert "crm" in traced
        _nginx_hides_health_pages_and_lets_refusals_pass(running)
        _the_service_is_hardened(running)
        _the_service_is_reloaded_and_restarted(running)


def _nginx_hides_health_pages_and_lets_refusals_pass(running: Running) -> None:
    status = "curl --silent --output /dev/null --write-out '%{http_code}'"
    assert running.run(f"{status} http://127.0.0.1/readyz").stdout == "404"
    large = "head --bytes 1500000 /dev/zero | tr '\\0' x | curl --silent --data-binary @- http://127.0.0.1/push"
    assert running.run(large).stdout.startswith('{"status":"error"'), running.run(large).stdout


def _the_service_is_hardened(running: Running) -> None:
    said = running.run("systemd-analyze security cdp-gateway | tail -n 2").stdout
    level = re.search(r"exposure level for cdp-gateway.service: ([\d.]+)", said)
    assert level, said
    assert float(level[1]) <= MOST_EXPOSED
    verified = running.run("systemd-analyze verify /etc/systemd/system/cdp-gateway.service")
    assert (verified.returncode, verified.stderr) == (0, "")


def _the_service_is_reloaded_and_restarted(running: Running) -> None:
    """A reload takes effect, a crash is followed by a start, an invalid file by none."""
    assert running.run("systemctl reload cdp-gateway").returncode == 0, _log(running)
    pid = "systemctl show --property MainPID --value cdp-gateway"
    first = running.run(pid).stdout.strip()
    running.run(f"kill -9 {first}")
    ready = "curl --silent --fail --retry 20 --retry-delay 1 --retry-all-errors http://127.0.0.1:8080/readyz"
    assert running.run(ready).stdout == "ok\n", _log(running)
    assert running.run(pid).stdout.strip() not in {first, "0"}
    assert '"event":"reloaded"' in _log(running)
    stopped = running.run(
        "systemctl stop cdp-gateway && systemctl show --property Result --value cdp-gateway"
    )
    assert stopped.stdout == "success\n"
    running.run("echo 'nothing = 1' >> /etc/cdp-gateway/gateway.toml; systemctl start cdp-gateway")
    ended = "until systemctl is-failed --quiet cdp-gateway; do sleep 0.1; done"
    assert running.run(f"timeout 60 sh -c '{ended}'").returncode == 0, _log(running)
    said = running.run("systemctl show --property Result,NRestarts cdp-gateway").stdout
    assert set(said.split()) == {"Result=exit-code", "NRestarts=0"}
