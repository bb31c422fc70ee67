"""`gateway init`: the questions, and the configuration that it writes."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.cli.first_config import FirstConfig
from gateway.config.loader.load import load
from gateway.plugin.registry import load_plugins
from tests.example_plugins.acme import acme

VENDORS = load_plugins().formats
OUTPUTS = sorted(load_plugins().outputs)


def gateway(*args: str | Path, stdin: str = "") -> Result:
    """Run a command and return its result."""
    return CliRunner().invoke(main, [str(arg) for arg in args], input=stdin)


def init(path: Path, inputs: Sequence[str], outputs: Sequence[str]) -> Result:
    """Run ``gateway init`` unattended."""
    flags = [f"--from={name}" for name in inputs] + [f"--to={name}" for name in outputs]
    return gateway("init", "-c", path, *flags)


@pytest.mark.parametrize("vendor", VENDORS)
def test_the_result_passes_check_and_its_own_tests(vendor: str, tmp_path: Path) -> None:
    """Whatever the vendors, the written file is valid as it is and its tests pass."""
    path = tmp_path / "new" / "gateway.toml"
    made = init(path, [vendor], OUTPUTS)
    assert made.exit_code == 0, made.output
    checked = gateway("check", "-c", path)
    assert checked.exit_code == 0, checked.output
    assert "Warnings" not in checked.stdout
    tested = gateway("test", "-c", path)
    assert (tested.exit_code, "1 test passed" in tested.stdout) == (0, True), tested.output


def test_all_vendors_at_once_are_valid(tmp_path: Path) -> None:
    """All vendors can be sources and destinations of one file; it names their variables."""
    path = tmp_path / "gateway.toml"
    made = init(path, VENDORS, OUTPUTS)
    assert made.exit_code == 0, made.output
    assert "TRACARDI_SOURCE_ID" in made.stdout
    config = load(path, load_plugins(), {"CHRTS_API_KEY": "our-key", "CHRTS_CLIENT_KEY": "theirs"})
    assert (list(config.sources), list(config.destinations)) == (VENDORS, OUTPUTS)
    assert config.destinations["chrts"].settings.api_key.get_secret_value() == "our-key"  # type: ignore[attr-defined]
    assert [key.get_secret_value() for key in config.sources["chrts"].keys] == ["theirs"]  # type: ignore[union-attr]
    assert len(config.tests) == len(VENDORS)


def test_it_asks_until_the_vendors_exist(tmp_path: Path) -> None:
    """Without flags it asks for both lists; an unknown vendor is asked again with a hint."""
    path = tmp_path / "gateway.toml"
    asked = gateway("init", "-c", path, stdin="segmnt\nsegment, chrts\n\nquartic\n")
    assert asked.exit_code == 0, asked.output
    assert "there is no vendor 'segmnt'; did you mean segment?" in asked.output
    config = load(path, load_plugins(), {})
    assert list(config.sources) == ["segment", "chrts"]
    assert list(config.destinations) == ["quartic"]


def test_a_test_expects_only_the_destinations_that_get_the_example(tmp_path: Path) -> None:
    """A destination that declines the example is not expected by its test."""
    path = tmp_path / "gateway.toml"
    assert init(path, ["segment"], ["quartic", "chrts"]).exit_code == 0
    assert 'expect = ["chrts"]' in path.read_text()


def test_without_answers_nothing_is_written(tmp_path: Path) -> None:
    """At the end of the input it stops, names the flags, and writes nothing."""
    path = tmp_path / "gateway.toml"
    found = gateway("init", "-c", path, "--from", "chrts")
    assert found.exit_code == 1
    assert "nothing was written; name the vendors with --from and --to" in found.output
    assert not path.exists()


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    """A file that exists stays as it is."""
    path = tmp_path / "gateway.toml"
    path.write_text("# mine\n")
    found = init(path, ["chrts"], ["chrts"])
    assert found.exit_code == 1
    assert f"{path} already exists; name another file with -c" in found.output
    assert path.read_text() == "# mine\n"


@pytest.mark.parametrize("below", ["gateway.toml", "more/gateway.toml"])
def test_a_place_that_cannot_be_written_is_named(below: str, tmp_path: Path) -> None:
    """Where no file can be made, the error says where and why."""
    (tmp_path / "file").touch()
    found = init(tmp_path / "file" / below, ["chrts"], ["segment"])
    assert found.exit_code == 1
    assert found.stderr.startswith(f"Error: cannot write {tmp_path}/file")
    assert "not a " in found.stderr.lower()


def test_an_unknown_vendor_in_a_flag_is_an_error(tmp_path: Path) -> None:
    """A flag with an unknown vendor names the option and the closest vendor."""
    found = init(tmp_path / "gateway.toml", ["chrts"], ["quartik"])
    assert found.exit_code == 2
    assert "--to: there is no vendor 'quartik'; did you mean quartic?" in found.output


def test_a_vendor_without_a_sandbox_has_an_address_to_fill_in(tmp_path: Path) -> None:
    """A vendor of a plugin without a sandbox gets its own settings, and no sandbox's address."""
    path = tmp_path / "gateway.toml"
    registry = load_plugins([acme])
    bare = replace(registry, sandboxes={})
    path.write_text(FirstConfig(path, bare, ["acme"], ["acme"]).text())
    assert "127.0.0.1:9100" not in path.read_text()
    config = load(path, registry, {"ACME_CLIENT_KEY": "theirs"})
    assert list(config.destinations) == ["acme"]
