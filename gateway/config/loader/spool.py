"""Check the ``[spool]`` table as a whole: contradictions, and the files that it names."""

import re
from pathlib import Path

from gateway.config.loader.report import ConfigReport
from gateway.config.spool import CLUSTER_KEYS, SpoolConfig
from gateway.config.tls_files import TlsFileError, read_tls_files

_CREDENTIALS = ("user", "nkey_seed", "creds")
"""The ways to tell NATS who the gateway is; one of them is used."""
_SEED = re.compile(r"SU[A-Z2-7]{56}")
_PARTS = ("BEGIN NATS USER JWT", "BEGIN USER NKEY SEED")


def check_spool(spool: SpoolConfig, report: ConfigReport, *, stand_ins: bool) -> None:
    """Report keys of a cluster that cannot work; with *stand_ins* credentials are not looked at."""

    def problem(key: str, what: str) -> None:
        report.problem("spool", key, what, only=True)

    given = [key for key in CLUSTER_KEYS if key in spool.model_fields_set]
    if not spool.url:
        for key in given:
            problem(key, "is for a log in NATS, which needs url; add url, or remove it")
        return
    if spool.retain is not None:
        problem("retain", "is for a log in a folder: NATS deletes what is delivered; remove it")
    if bool(spool.user) != (spool.password is not None):
        one, other = ("user", "password") if spool.user else ("password", "user")
        problem(one, f"has no {other}; add it, or remove {one}")
    used = [key for key in _CREDENTIALS if getattr(spool, key)]
    for key in used[1:]:
        problem(key, f"is used instead of {used[0]}; remove one of them")
    if spool.key is not None and spool.cert is None:
        problem("key", "has no certificate; name its file in cert, or remove key")
    files = [key for key in ("ca", "cert", "key") if getattr(spool, key) is not None]
    if files and spool.url.startswith("nats:"):
        problem(files[0], "has no effect with a nats url; write tls:// in url")
    if not stand_ins:
        _check_credentials(spool, report)


def _check_credentials(spool: SpoolConfig, report: ConfigReport) -> None:
    try:
        read_tls_files(spool.ca, spool.cert, spool.key)
    except TlsFileError as error:
        report.problem("spool", error.key, str(error))
    seed = spool.nkey_seed
    if seed is not None and not _SEED.fullmatch(seed.get_secret_value()):
        what = "is not the seed of a user's nkey, which begins with SU; copy it whole"
        report.problem("spool", "nkey_seed", what)
    if spool.creds is not None and (wrong := _creds_problem(spool.creds)):
        report.problem("spool", "creds", wrong)


def _creds_problem(path: Path) -> str | None:
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or "it is not UTF-8 text").lower()
        return f"cannot read {path}: {reason}; correct the path"
    if not all(part in text for part in _PARTS):
        return f"{path} is not a credentials file of NATS; make one with nsc generate creds"
    return None
