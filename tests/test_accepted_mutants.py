"""The list of mistakes in the core that no test need notice."""

from pathlib import Path

from tests.mutation.__main__ import ROOT, MutationRun, accepted


def test_every_accepted_mutant_can_still_be_made(tmp_path: Path) -> None:
    """``accepted.txt`` names no mutant of code that is gone or was renamed."""
    assert accepted() <= {one.name for one in MutationRun(ROOT, tmp_path, workers=1).all()}
