"""The distribution of this tree, built once."""

from pathlib import Path

import pytest

from tests.release.distribution import Distribution, build


@pytest.fixture(scope="session")
def distribution(tmp_path_factory: pytest.TempPathFactory) -> Distribution:
    """Return the distribution, built as `make dist` builds it."""
    folder = tmp_path_factory.mktemp("dist")
    build(Path(__file__).parents[2], folder)
    (sdist,) = folder.glob("*.tar.gz")
    (wheel,) = folder.glob("*.whl")
    return Distribution(sdist, wheel)
