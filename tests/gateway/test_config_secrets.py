"""References to environment variables and files, and the secrets read through them."""

from pathlib import Path

import pytest

from tests.gateway.config_loading import FINE, AcmeOutput, problems, read

CANARY = "canary-5f2d9c"


def token(folder: Path, text: str, environ: dict[str, str] | None = None) -> str:
    """Return the destination's credential when *text* is written for it."""
    config = read(folder, FINE.replace("crm-token", text), environ)
    settings = config.destinations["crm"].settings
    assert isinstance(settings, AcmeOutput.Config)
    return settings.token.get_secret_value()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("${KEY}", "k-1"),
        ("a-${KEY}-${KEY}", "a-k-1-k-1"),
        ("${KEY:-other}", "k-1"),
        ("${NONE:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("$${KEY}", "${KEY}"),
        ("$KEY", "$KEY"),
        ("${NONE:-with space/and:colon}", "with space/and:colon"),
    ],
)
def test_variables_are_replaced(tmp_path: Path, text: str, value: str) -> None:
    """``${NAME}`` is the variable, ``:-`` gives a default, ``$${`` is a plain ``${``."""
    assert token(tmp_path, text, {"KEY": "k-1", "EMPTY": ""}) == value


def test_variables_work_in_any_text(tmp_path: Path) -> None:
    """URLs, numbers, lists and destination names may contain variables."""
    text = FINE.replace('["shop-key"]', '["${A}", "${B:-b}"]').replace('["crm"]', '["${TO}"]')
    text = text.replace("token =", 'concurrency = "${N}"\nurl = "${URL}"\ntoken =')
    environ = {"A": "a", "TO": "crm", "N": "3", "URL": "http://127.0.0.1:9100/acme"}
    config = read(tmp_path, text, environ)
    keys = config.sources["shop"].keys
    assert [key.get_secret_value() for key in keys if not isinstance(key, str)] == ["a", "b"]
    crm = config.destinations["crm"]
    assert (crm.concurrency, crm.settings.url) == (3, "http://127.0.0.1:9100/acme")
    assert config.routes[0].to == ("crm",)


def test_a_variable_that_is_not_set_is_named(tmp_path: Path) -> None:
    """An unset variable is reported once, with its table and key."""
    text = FINE.replace("crm-token", "${CRM_TOKEN}").replace("token =", 'url = "${URL}"\ntoken =')
    assert problems(tmp_path, text) == [
        (
            "gateway.toml:7: [destinations.crm] url: the environment variable URL is not set; set "
            "it, or write a default: ${URL:-...}"
        ),
        (
            "gateway.toml:8: [destinations.crm] token: the environment variable CRM_TOKEN is not "
            "set; set it, or write a default: ${CRM_TOKEN:-...}"
        ),
    ]


def test_a_broken_reference_is_a_problem(tmp_path: Path) -> None:
    """A ``${`` that starts no valid reference is a problem."""
    (problem,) = problems(tmp_path, FINE.replace("crm-token", "${9KEY}"))
    assert "[destinations.crm] token: has an invalid reference; write ${NAME}" in problem
    (problem,) = problems(tmp_path, FINE.replace("crm-token", "${KEY:-${OTHER}}"))
    assert "the default of KEY contains a reference, which is not resolved" in problem


def test_a_secret_can_be_in_a_file(tmp_path: Path) -> None:
    """``file:`` reads a credential and strips white space, also inside a variable's value."""
    (tmp_path / "token").write_text(f"\n {CANARY} \n")
    assert token(tmp_path, f"file:{tmp_path}/token") == CANARY
    assert token(tmp_path, "file:${DIR}/token", {"DIR": str(tmp_path)}) == CANARY
    assert token(tmp_path, "${KEY}", {"KEY": f"file:{tmp_path}/token"}) == CANARY
    text = FINE.replace("shop-key", f"file:{tmp_path}/token")
    keys = read(tmp_path, text).sources["shop"].keys
    assert [key.get_secret_value() for key in keys if not isinstance(key, str)] == [CANARY]


def test_only_credentials_are_read_from_files(tmp_path: Path) -> None:
    """In a key that is no credential, ``file:`` is plain text."""
    config = read(tmp_path, FINE + 'names = ["file:*"]\n')
    assert config.routes[0].names == ("file:*",)


def test_a_missing_or_empty_secret_file_is_a_problem(tmp_path: Path) -> None:
    """A secret file that is missing, empty or not UTF-8 is a problem."""
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name, said in (
        ("missing", f"cannot read the secret in {tmp_path}/missing: No such file"),
        ("empty", "the credential is empty"),
        ("binary", f"cannot read the secret in {tmp_path}/binary: it is not UTF-8 text"),
    ):
        (problem,) = problems(tmp_path, FINE.replace("crm-token", f"file:{tmp_path}/{name}"))
        assert f"[destinations.crm] token: {said}" in problem


WRONG = [
    FINE.replace("token =", f'tokn = "{CANARY}"\ntoken ='),
    FINE.replace("crm-token", CANARY).replace("token =", f'account = "bad-{CANARY}"\ntoken ='),
    FINE.replace("token =", 'account = "bad-${KEY}"\ntoken ='),
    FINE.replace("token =", 'timeout = "${KEY}"\ntoken ='),
    FINE.replace("token =", 'mode = "${KEY}"\ntoken ='),
    FINE.replace("token =", f'url = "{CANARY}"\ntoken ='),
    FINE.replace('"crm-token"', f'["{CANARY}"]'),
    FINE.replace('["shop-key"]', f'"{CANARY}"'),
    FINE.replace('["shop-key"]', f'["{CANARY}", 3]'),
    FINE.replace('["shop-key"]', f'["{CANARY}", ""]'),
    FINE.replace('["crm"]', '["${KEY}"]'),
    FINE.replace('"acme"', '"${KEY}"'),
    FINE + 'types = ["${KEY}"]\n',
    FINE + '[server]\nlisten = "${KEY}"\n',
    FINE.replace("crm-token", f"{CANARY}\n"),
]


@pytest.mark.parametrize("text", WRONG)
def test_no_problem_contains_a_secret(tmp_path: Path, text: str) -> None:
    """No problem contains a credential or a variable's value, even in a wrong place."""
    assert CANARY not in "\n".join(problems(tmp_path, text, {"KEY": CANARY}))


@pytest.mark.parametrize(
    "value", [f"{CANARY}\"'", f"{CANARY}\\", f"{CANARY}'", f"{CANARY}\nx", f"\u2028{CANARY}"]
)
@pytest.mark.parametrize(
    "text",
    [
        FINE.replace('"acme"', '"${KEY}"'),
        FINE.replace('"acme"', """'"${KEY}'"""),
        FINE.replace('["crm"]', '["${KEY}"]'),
        FINE.replace("[sources.shop]", '[sources.shop]\nmount = "${KEY}"'),
    ],
)
def test_no_problem_contains_a_quoted_secret(tmp_path: Path, text: str, value: str) -> None:
    """A variable's value is redacted even where a message escapes it or cuts it into lines."""
    assert CANARY not in "\n".join(problems(tmp_path, text, {"KEY": value}))


def test_a_configuration_shows_no_secret(tmp_path: Path) -> None:
    """The repr of a configuration contains no credential."""
    text = FINE.replace("crm-token", CANARY).replace("shop-key", CANARY)
    assert CANARY not in repr(read(tmp_path, text))


def test_the_path_of_a_secret_is_shown(tmp_path: Path) -> None:
    """A variable in the path of a secret's file is no secret: the message names the whole path."""
    for written, value, path in (
        ("${SECRETS}/crm", f"{tmp_path}/secrets", f"{tmp_path}/secrets/crm"),
        ("${SECRETS}/crm", "no-secrets", "no-secrets/crm"),
        ("${CRM}", f"{tmp_path}/crm", f"{tmp_path}/crm"),
    ):
        text = FINE.replace("crm-token", f"file:{written}")
        (problem,) = problems(tmp_path, text, {"SECRETS": value, "CRM": value})
        assert f"cannot read the secret in {path}: " in problem


@pytest.mark.parametrize("value", [CANARY, f"https://{CANARY}@hooks.example"])
@pytest.mark.parametrize("text", ['"crm-token"', '["shop-key"]'])
def test_a_credential_in_place_of_its_file_is_not_shown(
    tmp_path: Path, text: str, value: str
) -> None:
    """A variable after ``file:`` that is no path may be the credential itself."""
    wrong = FINE.replace(text, text.replace(text.strip('[]"'), "file:${KEY}"))
    (problem,) = problems(tmp_path, wrong, {"KEY": value})
    assert "cannot read the secret in ***: " in problem


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ('listen = "${A}"', "8080", 'write "127.0.0.1:8080"'),
        ('trusted_proxies = ["${A}"]', "10.0.0.1/8", "10.0.0.1/8"),
    ],
)
def test_the_value_of_a_public_variable_is_shown(
    tmp_path: Path, key: str, value: str, said: str
) -> None:
    """Addresses hold no credentials, so a message shows what a variable put there."""
    (problem,) = problems(tmp_path, f"[server]\n{key}\n{FINE}", {"A": value})
    assert said in problem


@pytest.mark.parametrize("content", ["a-token\nanother\n", "a-token\r\nanother"])
def test_a_credential_of_several_lines_is_a_problem(tmp_path: Path, content: str) -> None:
    """A credential must be one line, or every delivery would fail."""
    (tmp_path / "crm").write_text(content)
    (problem,) = problems(tmp_path, FINE.replace("crm-token", f"file:{tmp_path}/crm"))
    assert "token: the credential has several lines" in problem
    assert "another" not in problem


@pytest.mark.parametrize("value", ["a-token\n", "a-token\r\n", "\na-token", "a-token\nanother"])
def test_a_line_break_in_a_variable_with_a_credential_is_a_problem(
    tmp_path: Path, value: str
) -> None:
    """A variable's credential must be one line without a line break, also at its end."""
    (problem,) = problems(tmp_path, FINE.replace("crm-token", "${KEY}"), {"KEY": value})
    assert "token: the credential has several lines, or a line break at its end" in problem
    assert "a-token" not in problem
