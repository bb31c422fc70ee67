"""Conditions of routes in CEL: syntax, types, analysis, evaluation."""

import importlib

from gateway.empty_modules import empty_modules

# The library imports its command, and that typer and prompt-toolkit, which `make run` does not
# install.
with empty_modules("cel.cli"):
    importlib.import_module("cel")
