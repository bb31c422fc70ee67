"""A third-party package beside the gateway's wheel, in an environment with nothing else."""

import re
import shutil
from pathlib import Path

import pytest

from tests.docs.pages import ROOT
from tests.release.distribution import Distribution, build, ended, install, run

EXAMPLES = {name: ROOT / "tests/example_plugins" / name for name in ("acme", "amplitude")}
pytestmark = pytest.mark.xdist_group("distribution")


@pytest.fixture(scope="module")
def stranger(distribution: Distribution, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an environment with the gateway, its kit and the example packages."""
    folder = tmp_path_factory.mktemp("stranger")
    hidden = shutil.ignore_patterns("__pycache__", ".*")
    for name, example in EXAMPLES.items():
        source = shutil.copytree(example, folder / f"{name}-source", ignore=hidden)
        build(source, folder, "--wheel")
    install(folder, f"{distribution.wheel}[testing]", *folder.glob("*.whl"))
    return folder


@pytest.mark.parametrize(
    ("name", "endpoint", "source"),
    [
        ("acme", "POST /v1/events", "acme.example"),
        ("amplitude", "POST /2/httpapi", "amplitude.com/docs"),
    ],
)
def test_a_package_is_found_by_its_entry_point(
    name: str, endpoint: str, source: str, stranger: Path
) -> None:
    """``gateway plugins`` lists an installed package with its parts, endpoint and source."""
    said = run(stranger / "venv/bin/gateway", "plugins", cwd=stranger)
    block = re.search(rf"^{name}\n((?:  .*\n?)+)", said, re.MULTILINE)
    assert block, said
    for fact in ("input, output, sandbox", endpoint, source):
        assert fact in block[1]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_kit_runs_outside_of_the_repository(name: str, stranger: Path) -> None:
    """The package's tests pass with only the wheel and its extra `testing`."""
    folder = stranger / f"{name}-tests"
    folder.mkdir()
    shutil.copy(EXAMPLES[name] / f"test_{name}.py", folder)
    shutil.copytree(EXAMPLES[name] / "samples", folder / "samples")
    said = run(stranger / "venv/bin/python", "-m", "pytest", "-q", f"test_{name}.py", cwd=folder)
    assert re.search(r"\d{3} passed", said), said


@pytest.mark.parametrize("half", ["", "--output-only", "--input-only"])
def test_a_new_vendor_passes_its_own_tests(half: str, stranger: Path) -> None:
    """The tests that `gateway new-vendor` writes pass, and notice every mutant."""
    python, folder = stranger / "venv/bin/python", stranger / f"my_shop{half}"
    command = (stranger / "venv/bin/gateway", "new-vendor", "my_shop", "--into", folder)
    run(*command, *filter(None, [half]), cwd=stranger)
    assert "Acme" not in "".join(path.read_text() for path in folder.rglob("*.*") if path.is_file())
    assert (folder / "my_shop/input.py").exists() == (half != "--output-only")
    assert (folder / "my_shop/output.py").exists() == (half != "--input-only")
    assert re.search(r"\d{2,3} passed", run(python, "-m", "pytest", "-q", cwd=folder))
    hunt = run(python, "-m", "pytest", "-q", "-p", "gateway.testing.mutation", cwd=folder)
    assert re.search(r"^\d+ mutants noticed, .* 0 wrong", hunt, re.MULTILINE), hunt


def test_an_extra_that_is_missing_is_named(stranger: Path) -> None:
    """A configured collector or upload without its extra names the extra to install."""
    (stranger / "gateway.toml").write_text(
        '[trace]\notlp_url = "http://127.0.0.1:4318/v1/traces"\n[sources.a]\nvendor = "chrts"\n'
        'keys = ["key"]\n[destinations.b]\nvendor = "chrts"\napi_key = "key"\n'
        '[destinations.c]\nvendor = "file"\npath = "c"\nupload = { bucket = "shop" }\n'
        '[[routes]]\nto = ["b", "c"]\n'
    )
    done = ended(stranger / "venv/bin/gateway", "check", "-c", "gateway.toml", cwd=stranger)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == 1, said
    assert "[trace] otlp_url: needs the extra otel; run pip install 'cdp-gateway[otel]'" in said
    assert "upload: needs the extra s3; run pip install 'cdp-gateway[s3]'" in said


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("json", "there is already a Python module 'json'"),
        ("acme", "there is already a vendor 'acme'"),
        ("class", "cannot be a module's name"),
        ("My-Shop", "cannot be a module's name"),
        ("tests", "tests is not empty"),
    ],
)
def test_an_invalid_name_is_refused(stranger: Path, name: str, why: str) -> None:
    """A vendor name that is taken or invalid, or a folder that is not empty, is refused."""
    (stranger / "tests").mkdir(exist_ok=True)
    (stranger / "tests/mine.txt").touch()
    done = ended(stranger / "venv/bin/gateway", "new-vendor", name, cwd=stranger)
    assert done.returncode == 1
    assert why in done.stderr
    assert "Traceback" not in done.stderr
