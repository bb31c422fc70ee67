"""What a vendor that writes files asks of the gateway."""

from msgspec import Struct


class FileRules(Struct, frozen=True):
    """Where the bodies of requests are written, and when a file is closed."""

    folder: str
    """An absolute path."""
    rotate_bytes: int
    """Size at which a file is closed, before compression."""
    rotate_every: float
    """Seconds after its first line at which a file is closed."""
    gzip: bool
    """Whether closed files are compressed."""
