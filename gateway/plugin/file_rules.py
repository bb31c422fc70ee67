"""What a vendor that writes files asks of the gateway."""

from msgspec import Struct

from gateway.plugin.settings import Secret


class UploadRules(Struct, frozen=True):
    """The bucket that complete files go to, of S3 or of a storage with the same API."""

    bucket: str
    prefix: str
    """What the names of objects begin with; ``%Y``, ``%m``, ``%d`` and ``%H`` stand for the time in
    the name of the file."""
    endpoint: str
    """The URL of the storage, without the bucket."""
    region: str
    access_key: Secret | None
    """None: the credentials of the environment, or of the machine."""
    secret_key: Secret | None
    max_waiting: int
    """Bytes of complete files from which nothing more is written."""


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
    upload: UploadRules | None = None
    """None if closed files stay where they are."""
