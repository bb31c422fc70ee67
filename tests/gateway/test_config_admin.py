"""The admin API in the configuration file."""

from pathlib import Path

import pytest

from tests.gateway.config_loading import FINE, problems, read

LONG = "0123456789abcdef"


def admin(lines: str) -> str:
    """Return a valid file with *lines* in [admin]."""
    return f"{FINE}[admin]\n{lines}\n"


def test_without_its_table_the_admin_api_is_off(tmp_path: Path) -> None:
    """Without [admin], the admin API is off."""
    assert read(tmp_path, FINE).admin is None


def test_an_empty_table_is_enough(tmp_path: Path) -> None:
    """An empty [admin] listens on loopback, without a token and without further hosts."""
    found = read(tmp_path, admin("")).admin
    assert found is not None
    assert (found.address.loopback, found.token, found.hosts) == (True, None, ())


@pytest.mark.parametrize("listen", [":8081", "0.0.0.0:8081", "10.0.0.7:8081", "gateway.example:1"])
def test_other_machines_need_a_token(tmp_path: Path, listen: str) -> None:
    """An address that other machines can reach requires a token."""
    (found,) = problems(tmp_path, admin(f'listen = "{listen}"'))
    assert (
        f"[admin] token: is required on {listen}, which other machines can reach; set it" in found
    )
    assert read(tmp_path, admin(f'listen = "{listen}"\ntoken = "{LONG}"')).admin is not None


@pytest.mark.parametrize("key", ["operators.alice", "viewers.bob", "proxy_secret"])
def test_other_credentials_do_as_well(tmp_path: Path, key: str) -> None:
    """A token with a name, or a proxy's secret, from a file, is enough for any address."""
    (tmp_path / "secret").write_text(f"{LONG}\n")
    lines = f'listen = "0.0.0.0:8081"\n{key} = "file:{tmp_path}/secret"'
    found = read(tmp_path, admin(lines)).admin
    assert found is not None
    assert found.guarded
    assert LONG not in repr(found)


def test_a_token_may_be_a_reference(tmp_path: Path) -> None:
    """The token may come from the environment or a file, and is not shown."""
    (tmp_path / "token").write_text(f"{LONG}-file\n")
    for said, expected in (("${TOKEN}", LONG), (f"file:{tmp_path}/token", f"{LONG}-file")):
        found = read(tmp_path, admin(f'token = "{said}"'), {"TOKEN": LONG}).admin
        assert found is not None
        assert found.token is not None
        assert found.token.get_secret_value() == expected
        assert LONG not in repr(found)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ('token = "tiny"', "token: is too short; use at least 16 characters"),
        ('token = ""', "token: the credential is empty"),
        ('listen = "8081"', "listen: is not an address to listen on"),
        (
            'hosts = ["https://gateway.example"]',
            "hosts: must have host names without scheme, port or path",
        ),
        ('hosts = "gateway.example"', "hosts: must be a list of host names"),
        ("port = 1", "port: unknown key"),
        ('operators = { alice = "tiny" }', "operators.alice: is too short; use at least 16"),
        ('viewers = { "A B" = "0123456789abcdef" }', "viewers.A B: is not a name; use a-z, 0-9"),
        ('operators = ["0123456789abcdef"]', "operators: must be a table"),
        (
            f'token = "{LONG}"\nviewers = {{ bob = "{LONG}" }}',
            "viewers.bob: is the same as token; give each its own",
        ),
        (
            f'token = "{LONG}"\nviewers = {{ admin = "{LONG}2" }}',
            "viewers.admin: there is another token called admin; choose another name",
        ),
        (
            f'viewers = {{ bob = "{LONG}" }}\nproxy_secret = "{LONG}"',
            "proxy_secret: is the same as viewers.bob, whose owner could call as anybody",
        ),
        ('proxy_secret = "tiny"', "proxy_secret: is too short; use at least 16 characters"),
        ('proxy_user_header = "a b"', "proxy_user_header: is not the name of a header"),
        ('proxy_operators = ["bob"]', "proxy_operators: has no effect without proxy_secret"),
        ('proxy_operator_groups = ["g"]', "proxy_operator_groups: has no effect without proxy_se"),
    ],
)
def test_mistakes_are_reported(tmp_path: Path, lines: str, said: str) -> None:
    """Each mistake in [admin] is reported with its key, without the token."""
    (found,) = problems(tmp_path, admin(lines))
    assert said in found
    assert '"tiny"' not in found
