"""A spool in NATS in the configuration: servers, credentials, and keys that exclude each other."""

import sys
from pathlib import Path

import pytest
import trustme

from gateway.admin.status import tables
from gateway.config import SpoolConfig
from gateway.config.docstrings import documented_keys
from gateway.config.loader.load import load, load_spool
from gateway.config.models import redactor_of
from gateway.config.spool import CLUSTER_KEYS
from tests.cluster.access import by_credentials, new_seed
from tests.gateway.config_loading import FINE, problems, read, registry

CANARY = "canary-93be07"
URL = 'url = "tls://n1:4222,n2:4222"'
SERVERS = 'write one like "tls://n1.example:4222,n2.example:4222"'


def spool(*lines: str) -> str:
    """Return a configuration with *lines* in ``[spool]``."""
    return "\n".join(("[spool]", *lines)) + FINE


def test_servers_are_listed_with_commas(tmp_path: Path) -> None:
    """All servers have the scheme of the first; without ``url`` there are none."""
    found = read(tmp_path, spool('url = "tls://n1, tls://n2:4223,[::1]:4222"')).spool
    assert found.servers == ["tls://n1", "tls://n2:4223", "tls://[::1]:4222"]
    assert (found.name, found.shards, found.replicas, found.patience) == ("gateway", 16, 3, 10.0)
    assert read(tmp_path, spool()).spool.servers == []


def test_every_key_after_url_needs_it() -> None:
    """The keys that need ``url`` are those that stand after it in the reference."""
    keys = list(documented_keys(SpoolConfig))
    assert tuple(keys[keys.index("url") + 1 :]) == CLUSTER_KEYS


def test_credentials_come_from_variables_and_files(tmp_path: Path) -> None:
    """Password and seed may be variables or files; nothing shows them."""
    seed = new_seed().decode()
    (tmp_path / "seed").write_text(f"{seed}\n")
    text = spool(URL, f'nkey_seed = "file:{tmp_path}/seed"')
    by_nkey = read(tmp_path, text)
    text = spool('url = "${SERVERS}"', 'user = "${WHO}"', 'password = "${PASSWORD}"')
    environ = {"SERVERS": "nats://n1", "WHO": "gateway", "PASSWORD": CANARY}
    by_password = read(tmp_path, text, environ)
    assert by_nkey.spool.nkey_seed is not None
    assert by_nkey.spool.nkey_seed.get_secret_value() == seed
    assert by_password.spool.password is not None
    assert by_password.spool.password.get_secret_value() == CANARY
    assert (by_password.spool.user, by_password.spool.servers) == ("gateway", ["nats://n1"])
    for config, secret in ((by_nkey, seed), (by_password, CANARY)):
        assert secret not in repr(config)
        assert secret not in redactor_of(config).text(f"refused: {secret}")
        assert secret not in str(tables(config))


def test_files_are_read_when_the_configuration_is(tmp_path: Path) -> None:
    """Certificates and a credentials file that can be used are no problem."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    by_credentials(tmp_path)
    lines = (f'ca = "{tmp_path}/ca.pem"', f'creds = "{tmp_path}/gateway.creds"')
    found = read(tmp_path, spool(URL, *lines)).spool
    assert (found.ca, found.creds) == (tmp_path / "ca.pem", tmp_path / "gateway.creds")


@pytest.mark.parametrize(
    ("lines", "problem"),
    [
        (
            ['name = "shop"'],
            "name: is for a log in NATS, which needs url; add url, or remove it",
        ),
        (['url = "n1:4222"'], f"url: does not begin with nats:// or tls://; {SERVERS}"),
        (
            [f'url = "tls://gateway:{CANARY}@n1"'],
            "url: contains a user name or password; put them into user and password",
        ),
        (
            ['url = "tls://n1:99999"'],
            f"url: has a port that is not a number from 1 to 65535; {SERVERS}",
        ),
        (
            ['url = "tls://n1,"'],
            f"url: has an address that is not a host and a port; {SERVERS}",
        ),
        (
            ['url = "tls://n1/path"'],
            f"url: has an address that is not a host and a port; {SERVERS}",
        ),
        ([URL, 'name = "a.b"'], "name: is not a name; use letters, digits, '_' and '-'"),
        ([URL, "shards = 0"], "shards: must be at least 1"),
        (
            [URL, 'retain = "1h"'],
            "retain: is for a log in a folder: NATS deletes what is delivered; remove it",
        ),
        ([URL, 'user = "gateway"'], "user: has no password; add it, or remove user"),
        ([URL, f'password = "{CANARY}"'], "password: has no user; add it, or remove password"),
        (
            [URL, f'nkey_seed = "{CANARY}"'],
            "nkey_seed: is not the seed of a user's nkey, which begins with SU; copy it whole",
        ),
        (
            [URL, 'user = "a"', f'password = "{CANARY}"', f'nkey_seed = "SU{"A" * 56}"'],
            "nkey_seed: is used instead of user; remove one of them",
        ),
        ([URL, 'key = "k.pem"'], "key: has no certificate; name its file in cert, or remove key"),
        (
            ['url = "nats://n1"', 'ca = "{folder}/gateway.toml"'],
            "ca: has no effect with a nats url; write tls:// in url",
        ),
        (
            [URL, 'ca = "nowhere.pem"'],
            "ca: cannot read nowhere.pem: no such file or directory; correct the path",
        ),
        (
            [URL, 'creds = "nowhere.creds"'],
            "creds: cannot read nowhere.creds: no such file or directory; correct the path",
        ),
        (
            [URL, 'creds = "{folder}/gateway.toml"'],
            (
                "creds: {folder}/gateway.toml is not a credentials file of NATS; make one with nsc "
                "generate creds"
            ),
        ),
        (
            [URL, 'monitor = "n1:8222"'],
            (
                "monitor: does not begin with http:// or https://; write one like "
                '"http://n1.example:8222,n2.example:8222"'
            ),
        ),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, lines: list[str], problem: str) -> None:
    """A mistake is told with its place and its correction, and without credentials."""
    text = spool(*(line.replace("{folder}", str(tmp_path)) for line in lines))
    (said,) = problems(tmp_path, text)
    assert said.endswith(f"[spool] {problem.replace('{folder}', str(tmp_path))}")
    assert CANARY not in said


def test_the_client_is_an_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the client for NATS the problem says what to install."""
    monkeypatch.setitem(sys.modules, "nats", None)
    (said,) = problems(tmp_path, spool(URL))
    assert said.endswith(
        "[spool] url: needs the extra cluster; run pip install 'cdp-gateway[cluster]'"
    )


def test_commands_that_send_nothing_need_no_credentials(tmp_path: Path) -> None:
    """With placeholders nothing of NATS need be there; other commands read only the folder."""
    lines = ('url = "${NATS}"', 'nkey_seed = "${SEED}"', 'ca = "no.pem"', 'path = "here"')
    path = tmp_path / "gateway.toml"
    path.write_text(spool(*lines))
    assert load(path, registry(), {}, stand_ins=True).spool.servers == [
        "tls://value-of-NATS.example"
    ]
    assert load_spool(path, {"NATS": "tls://n1"}).path == Path("here")
