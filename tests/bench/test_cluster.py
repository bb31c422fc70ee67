"""The bars of a cluster's figures."""

import pytest

from tests.bench.cluster import BARS, show


def test_the_median_of_the_rounds_must_keep_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    """A bar holds or is missed by the median, and each bar without a figure is named."""
    sqlite, servers, *others = BARS
    show({sqlite: [1.9, 2.0, 9.0], servers: [1.2, 1.4, 1.4], "of no bar": [500.0]}, 100)
    lines = capsys.readouterr().out.splitlines()
    ends = [line.split("│")[-2].strip() for line in lines if line.count("│") > 2]
    assert [end for end in ends if end] == ["holds", "MISSED", *["not measured" for _ in others]]
