"""Tracking plans in the configuration: where schemas come from, and their mistakes."""

from pathlib import Path

import pytest

from tests.gateway.config_loading import FINE, problems, read

PLANNED = FINE.replace(
    "[destinations.crm]",
    """on_violation = "refuse"
[sources.shop.schemas]
"Order Completed" = "plan/order.json"
"Product *" = { properties = { properties = { required = ["products"] } } }
identify = true
[destinations.crm]""",
)


def test_schemas_are_inline_or_in_files(tmp_path: Path) -> None:
    """A schema is a table, a boolean, or a path relative to the configuration file."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "order.json").write_text('{"required": ["user_id"]}')
    plan = read(tmp_path, PLANNED).plans["shop"]
    assert plan.violations == "refuse"
    assert read(tmp_path, FINE).plans == {}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            '"plan/order.json"', '"plan/none.json"',
            ("gateway.toml:7: [sources.shop.schemas] Order Completed: its schema plan/none.json "
            "cannot be read: no such file or directory; correct the path or create the file"),
        ),
        (
            '["products"]', '"products"',
            ("gateway.toml:8: [sources.shop.schemas] Product *: its schema is not a JSON Schema: "
            "properties/properties/required must be a list"),
        ),
        (
            "identify = true", "identify = 1",
            ("gateway.toml:6: [sources.shop] schemas: must have a JSON Schema, or the path of "
            "one, for 'identify'"),
        ),
        (
            '"refuse"', '"drop"',
            ("gateway.toml:5: [sources.shop] on_violation: must be 'allow', 'drop-field' or "
            "'refuse'"),
        ),
    ],
)  # fmt: skip
def test_a_bad_schema_is_a_mistake_with_a_place(
    tmp_path: Path, old: str, new: str, problem: str
) -> None:
    """A mistake in a schema names file, line, table, event name and reason."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "order.json").write_text("{}")
    assert problems(tmp_path, PLANNED.replace(old, new)) == [problem]


def test_invalid_json_in_a_schema_file_is_a_problem(tmp_path: Path) -> None:
    """Invalid JSON in a schema file is reported with its line and column."""
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "order.json").write_text('{"required": }')
    (problem,) = problems(tmp_path, PLANNED)
    assert "its schema plan/order.json is not JSON: " in problem
    assert "line 1 column 14" in problem


def test_a_misspelt_field_in_a_schema_is_a_warning(tmp_path: Path) -> None:
    """A schema that names a misspelt field draws a warning with the right spelling."""
    text = PLANNED.replace("identify = true", 'identify = { required = ["userId"] }')
    (tmp_path / "plan").mkdir()
    (tmp_path / "plan" / "order.json").write_text("{}")
    (warning,) = read(tmp_path, text).warnings
    assert warning.endswith(
        "gateway.toml:9: [sources.shop.schemas] identify: its schema names 'userId', which is "
        "not a field of events; did you mean user_id?"
    )


def test_on_violation_without_schemas_is_a_warning(tmp_path: Path) -> None:
    """``on_violation`` without schemas draws a warning."""
    text = FINE.replace("[destinations.crm]", 'on_violation = "refuse"\n[destinations.crm]')
    (warning,) = read(tmp_path, text).warnings
    assert "[sources.shop] on_violation: has no effect without schemas" in warning
