# ruff: noqa: INP001 - docs is a folder of pages; this code only fills some of them
"""The thresholds of the health model, as docs/operations/health.md lists them."""

from docs.markdown import table
from gateway.observability import health_model, recent_traffic


def thresholds() -> str:
    """Return a table of the thresholds with their values."""
    share, least = health_model.FAILED_SHARE, health_model.FAILED_LEAST
    rows = (
        (
            "too many attempts or requests fail",
            f"{share:.0%} of those in a minute of traffic and at least {least}, or all of them",
        ),
        ("a minute of traffic", f"{recent_traffic.WINDOW:g} s, up to the last attempt or request"),
        (
            "a destination has recovered",
            (
                f"attempts succeed for {health_model.RECOVERED:g} s and none fails, or its circuit "
                "closes"
            ),
        ),
        ("behind", f"the oldest event that could be sent now waits for {health_model.BEHIND:g} s"),
        ("stopped by the vendor", f"a requested pause of {health_model.LONG_PAUSE:g} s or more"),
        ("a source forgets", f"{health_model.REMEMBERED:g} s after its last request"),
        ("the spool is filling", f"{health_model.FILLING:.0%} of `max_bytes`"),
    )
    return table(("what", "threshold"), rows)
