"""The list of accepted mutants is up to date."""

from pathlib import Path

from tests.mutation.__main__ import ROOT, MutationRun, accepted


def test_every_accepted_mutant_can_still_be_made(tmp_path: Path) -> None:
    """Each mutant in ``accepted.txt`` can be made from the present code."""
    assert accepted() <= {one.name for one in MutationRun(ROOT, tmp_path, workers=1).all()}
