"""What the configuration file may say of traces and log lines."""

from pathlib import Path

from pydantic import Field

from gateway.config.quantities import DAY, KIB, MIB, Duration, Size
from gateway.config.tables import Table


class TraceConfig(Table):
    """What is kept of every event's way, for those who ask where it went."""

    on: bool = True
    """Whether anything is traced."""
    path: Path | None = None
    """The file; `traces.db` in the spool's folder where this is left out."""
    keep: Duration = Field(default=7 * DAY, gt=0)
    """How long traces are kept."""
    max_size: Size = Field(default=512 * MIB, ge=MIB)
    """How much of the disk they may take; past it the oldest go."""
    successes_per_second: int = Field(default=50, ge=0)
    """How many requests are traced every second; of those that come on top, only what goes wrong
    is. So are requests that are refused for their credential or their address."""
    bodies: Size = Field(default=64 * KIB, ge=0)
    """How much is kept of each body, received or sent; 0 keeps none."""

    def file(self, spool: Path) -> Path:
        """Return the file; *spool* is the spool's folder."""
        return self.path or spool / "traces.db"


class LogConfig(Table):
    """What is written to standard error."""

    successes_per_second: int = Field(default=50, ge=0)
    """How many requests, and how many deliveries, get a line every second; of those that come on
    top, only what goes wrong does. So are requests that are refused for their credential or their
    address."""
