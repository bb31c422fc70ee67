"""The project's own facts, as pyproject.toml has them."""

import tomllib
from typing import Any, Final

from tests.docs.pages import ROOT

PYPROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())
VERSION: Final[str] = PYPROJECT["project"]["version"]
