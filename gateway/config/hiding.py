"""What hides the credentials of a configuration wherever they stand."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.config.environment import References
from gateway.config.load import read
from gateway.config.models import Config
from gateway.config.problems import Report
from gateway.errors import ConfigError
from gateway.plugins import Registry
from gateway.redact import Redactor


class Hiding(NamedTuple):
    """What hides the credentials of a file, as far as they can be known here."""

    redactor: Redactor
    missing: Sequence[str]
    """Variables that are not set here, and files of secrets that cannot be read."""
    wrong: bool
    """The file has mistakes, for which some of its credentials may not have been found."""


def redactor_of(config: Config) -> Redactor:
    """Return what hides every credential of *config*."""
    settings = (
        config.sources, config.destinations, config.routes, config.trace, config.admin,
        config.alerts,
    )  # fmt: skip
    alerts = {} if config.alerts is None else config.alerts.headers
    headers = (*config.trace.otlp_headers.values(), *alerts.values())
    sent = [value.get_secret_value() for value in headers]
    return Redactor(settings, [value.rpartition(" ")[2] for value in sent])


def load_hiding(path: Path, registry: Registry, environ: Mapping[str, str] = os.environ) -> Hiding:
    """Return what hides the credentials of the configuration in *path*.

    The file may have mistakes: whatever its variables stand for is hidden then.

    Args:
        path: a TOML file.
        registry: the vendors that it may name.
        environ: what ``${NAME}`` refers to; not everything need be set.
    """
    report = Report()
    references = References(environ, report, stand_ins=True)
    try:
        redactor, wrong = redactor_of(read(path, registry, references, report)), False
    except ConfigError:
        redactor, wrong = Redactor(None, report.secrets), True
    return Hiding(redactor, sorted(set(references.missing)), wrong)
