"""The comparison with programs of others, as far as it runs without them."""

import shutil
from pathlib import Path

import pytest

from tests.bench.peers.__main__ import available
from tests.bench.peers.programs import PEERS


def test_a_program_that_cannot_be_had_takes_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without a package manager, each program is left out with one line that says why."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    assert available(tmp_path) == {}
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(PEERS)
    for peer, line in zip(PEERS, lines, strict=True):
        assert line.startswith(f"{peer.name} is left out: ")
        assert line.endswith(" is not installed")
