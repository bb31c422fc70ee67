"""Routes with event names that no event has draw warnings."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from gateway.cli import main

CONFIG = """
[spool]
path = "spool"
[sources.shop]
vendor = "segment"
keys = "any"
[destinations.crm]
vendor = "chrts"
api_key = "k"
[[routes]]
to = ["crm"]
names = [{names}]
"""


def checked(folder: Path, *names: str) -> str:
    """Return the output of `gateway check` for a route of *names*, on one line."""
    path = folder / "gateway.toml"
    path.write_text(CONFIG.format(names=", ".join(f'"{name}"' for name in names)))
    shown = CliRunner().invoke(main, ["check", "-c", str(path)])
    assert shown.exit_code == 0, shown.output
    return " ".join(shown.output.split())


@pytest.mark.parametrize(
    ("name", "neutral"),
    [
        ("Order Compleeted", "Order Completed"),
        ("order completed", "Order Completed"),
        ("Product View", "Product Viewed"),
        ("purchase", "Order Completed"),
        ("eventTransaction", "Order Completed"),
        ("product-details-page-view", "Product Viewed"),
        ("Segment Consent Preference Updated", "Consent Preference Updated"),
        ("order_completed", "'Order Completed'"),
        ("ORDER COMPLETED", "'Order Completed'"),
        ("order_compleeted", "Order Completed"),
        ("orderCompleted", "'Order Completed'"),
        ("cart-updated", "'Cart Updated'"),
        ("Completed Order", "'Order Completed'"),
        ("Aplication Opened", "Application Opened"),
        ("profile-update", 'types = ["identify"]'),
        ("page-view", 'types = ["page"]'),
        ("identify", 'types = ["identify"]'),
        ("Ordr *", "did you mean Order?"),
        ("Prodct*", "did you mean Product?"),
        ("order *", "'Order Cancelled'"),
        ("event*", "'Product Clicked'"),
        ("product-*", "'Product Viewed'"),
    ],
)
def test_an_unknown_event_name_is_a_warning(tmp_path: Path, name: str, neutral: str) -> None:
    """A misspelt name, or a vendor's name, draws a warning with the neutral name."""
    said = checked(tmp_path, name)
    assert f"'{name}' is" in said
    assert neutral in said.partition(f"'{name}' is")[2]


@pytest.mark.parametrize(
    "name",
    [
        "Order Completed", "Plan Upgraded", "Product *", "Cart Updated", "x", "Application Opened",
        "*", "Plan *", "*Viewed", "? *", "[OP]r*",
    ],
)  # fmt: skip
def test_a_custom_event_name_is_no_warning(tmp_path: Path, name: str) -> None:
    """Neutral names, patterns and custom names draw no warning."""
    assert f"'{name}' is" not in checked(tmp_path, name)
