"""Read the list of people whose events are not processed."""

from pathlib import Path

from gateway.config.loader.report import ConfigReport
from gateway.person import SuppressionList, parse_suppressions


def read_suppressions(path: Path, report: ConfigReport) -> SuppressionList | None:
    """Return the list in *path*; report what is wrong and return None.

    Messages say nothing of its content.
    """
    try:
        return parse_suppressions(path.read_text("utf-8-sig"))
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        what = f"{path}: {reason}; correct the path or the file"
    except UnicodeDecodeError:
        what = f"{path}: it is not UTF-8 text; save it as UTF-8"
    except ValueError as error:
        what = f"{path}: {error}"
    report.problem("suppression", "file", what, only=True)
    return None
