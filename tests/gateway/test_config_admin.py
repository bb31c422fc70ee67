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
    ],
)
def test_mistakes_are_reported(tmp_path: Path, lines: str, said: str) -> None:
    """Each mistake in [admin] is reported with its key, without the token."""
    (found,) = problems(tmp_path, admin(lines))
    assert said in found
    assert '"tiny"' not in found
