"""Segment's samples cover the rows that vendors share."""

from pathlib import Path

import pytest

from gateway.mapping import Row
from gateway.plugin import prefixed
from gateway.plugin.spec import PRODUCT_PROPERTY_ROWS, PROPERTY_ROWS, TRAIT_ROWS
from gateway.testing import load_samples, request_of
from gateway.testing.samples import paths_in
from plugins.segment.input import SegmentInput
from plugins.segment.mapping import TRACK

SAMPLES = Path(__file__).parents[1] / "vendors/segment"


def test_every_shared_row_is_marked() -> None:
    """A shared row is marked in every table, and a vendor's own row is not."""
    for row in (*PROPERTY_ROWS, *PRODUCT_PROPERTY_ROWS, *TRAIT_ROWS):
        assert row.shared, row
    assert all(row.shared for row in prefixed("data", "properties", PROPERTY_ROWS))
    own = [row for row in TRACK.flat() if not row.wire.startswith(("properties", "context"))]
    assert own
    assert not any(row.shared for row in own)


@pytest.mark.parametrize(("place", "rows"), [("properties", PROPERTY_ROWS), ("traits", TRAIT_ROWS)])
def test_every_shared_row_has_a_sample(place: str, rows: tuple[Row, ...]) -> None:
    """Segment's samples contain each shared row and each of its synonyms."""
    seen: set[str] = set()
    for sample in load_samples(SAMPLES).values():
        seen.update(paths_in(SegmentInput().decode(request_of(sample))))
    wanted = {path for row in prefixed(place, "", rows) for path in row.synonyms}
    assert {path for path in wanted if not path.endswith("*")} - seen == set()
