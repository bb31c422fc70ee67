"""What docs/routing.md shows is tried: its configurations, its conditions, its steps."""

import re
import tomllib
from pathlib import Path

import pytest

from gateway.config import load as load_config
from gateway.config.steps import STEPS
from gateway.plugins import load
from gateway.routing.study import Study

PAGE = (Path(__file__).parent.parent / "docs/routing.md").read_text()
SHOWN = re.findall(r"^```toml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
CONDITIONS = re.findall(r"^```cel\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
STEPS_SHOWN = re.findall(r"^\| `(\{ .*? \})` \|", PAGE, re.MULTILINE)


@pytest.mark.parametrize("text", [text for text in SHOWN if "[[routes]]" in text])
def test_routes_on_the_page_load(text: str, tmp_path: Path) -> None:
    """Each configuration is right and raises no doubt, beside sources and destinations."""
    shown = tomllib.loads(text)
    names = {name for route in shown["routes"] for name in route["to"]}
    text += '[sources.shop]\nvendor = "chrts"\nkeys = ["key"]\n'
    text += "".join(f'[destinations.{n}]\nvendor = "chrts"\napi_key = "key"\n' for n in names)
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    config = load_config(path, load(), {})
    assert len(config.routes) == len(shown["routes"])
    assert config.warnings == ()


@pytest.mark.parametrize("text", [line for block in CONDITIONS for line in block.splitlines()])
def test_conditions_on_the_page_can_be_used(text: str) -> None:
    """Each condition is right and raises no doubt."""
    study = Study(text)
    assert not study.problems
    assert not study.doubts


def test_every_step_is_on_the_page(tmp_path: Path) -> None:
    """The table shows each step once, as it may be written."""
    (tmp_path / "countries.csv").write_text("DE,Germany\n")
    assert len(STEPS_SHOWN) == len(STEPS)
    for text in STEPS_SHOWN:
        step = tomllib.loads(f"step = {text}")["step"]
        (word,) = (key for key in step if key in STEPS)
        assert STEPS[word].model_validate(step)
