"""``gateway check --connect`` prints what NATS servers let a gateway do."""

from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from tests.cluster.servers import NatsServers
from tests.gateway.test_cli import FINE


def check(folder: Path, servers: str, *args: str, more: str = "") -> Result:
    """Return the result of the command for these servers."""
    path = folder / "gateway.toml"
    path.write_text(f'[spool]\nurl = "{servers}"\nname = "t-cli"\nmax_bytes = "1MiB"\n{more}{FINE}')
    return CliRunner().invoke(main, ["check", "-c", str(path), *args])


def test_servers_and_warnings_are_printed(tmp_path: Path, nats_cluster: NatsServers) -> None:
    """Each server is named, what is promised less is a warning, and the status is 0."""
    ran = check(tmp_path, ",".join(nats_cluster.urls), "--connect")
    assert ran.exit_code == 0, ran.output
    for url in nats_cluster.urls:
        assert f"  {url}, version " in ran.stdout
    assert "  [spool] monitor: is not set, so nobody looked whether" in ran.stdout
    assert f"  spool      t-cli at {','.join(nats_cluster.urls)}, at most" in " ".join(
        ran.stdout.split("\n")
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_problems_end_with_status_1(
    tmp_path: Path, nats_cluster: NatsServers, *, as_json: bool
) -> None:
    """A problem with the servers is told like one of the configuration."""
    url, options = nats_cluster.urls[0], ["--json"] if as_json else []
    ran = check(tmp_path, url, "--connect", *options, more="replicas = 5\n")
    assert ran.exit_code == 1
    said = "[spool] replicas: NATS has too few servers for 5 replicas"
    if as_json:
        (problem,) = orjson.loads(ran.stdout)["problems"]
        assert problem.startswith(said)
    else:
        assert f"Problems with NATS\n  {said}" in ran.stdout


def test_nothing_is_sent_without_the_option(tmp_path: Path) -> None:
    """Without --connect a server that is away does not matter."""
    ran = check(tmp_path, "nats://127.0.0.1:1")
    assert ran.exit_code == 0, ran.output
    assert "NATS servers" not in ran.stdout
