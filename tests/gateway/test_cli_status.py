"""How `gateway status` prints problems."""

import pytest

from gateway.cli.output import WIDTH, console
from gateway.cli.status import MOST_DETAIL, print_destinations, print_findings
from gateway.observability.health_model import DestinationHealth, HealthFinding


def test_what_a_vendor_says_stays_in_its_place(capsys: pytest.CaptureFixture[str]) -> None:
    """A vendor's answer is cut, without line breaks and without control characters."""
    detail = "\x1b[2Jgone\n" + "x" * 1000
    finding = HealthFinding("error", "destination", "crm", "crm fails", "look", detail, "page")
    print_findings([finding], console())
    said = capsys.readouterr().out
    assert "\x1b" not in said
    assert said.count("x") < MOST_DETAIL
    assert said.splitlines()[:2] == ["  ✗ crm fails", "    look"]


def test_a_problem_names_what_it_is_about(capsys: pytest.CaptureFixture[str]) -> None:
    """A headline that lacks the name of its destination begins with it."""
    finding = HealthFinding("error", "destination", "crm", "Key refused", "fix it", "", "page")
    print_findings([finding], console())
    assert capsys.readouterr().out.splitlines()[0] == "  ✗ crm: Key refused"


def test_long_names_fold_and_figures_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    """A long name folds; figures and states stay on one line."""
    name = "a-destination-with-a-very-long-name-that-nobody-can-pronounce"
    one = DestinationHealth(
        name, "growlytics", "refused", "", "", "", None, "", 1_234_567, 7_654_321, 125.0, 12.5,
        0.25, 0.5,
    )  # fmt: skip
    print_destinations([one], console())
    lines = capsys.readouterr().out.splitlines()
    row = next(line for line in lines if "growlytics" in line)
    assert row.split()[2:] == ["refused", "12.5/s", "50%", "1,234,567", "2", "minutes", "7,654,321"]
    assert max(map(len, lines)) <= WIDTH
