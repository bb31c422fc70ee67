"""Conditions of routes in CEL: syntax, types, analysis, evaluation."""

import importlib

from gateway.stand_ins import stand_ins

# The library imports its command, and that typer and prompt-toolkit, which `make run` does not
# install.
with stand_ins("cel.cli"):
    importlib.import_module("cel")
