"""A file destination that uploads, without a gateway around it."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from gateway.config import DestinationConfig
from gateway.delivery.file_transport import FileTransport
from gateway.delivery.file_uploads import FileUploads
from gateway.plugin.file_rules import FileRules
from plugins.http.file_output import FileOutput, FileSettings
from tests.s3_server import AccessKey

OWN = frozenset({"compression", "rotate_bytes"})


class UploadDestination:
    """Opens transports that upload.

    Args:
        folder: of its files.
        endpoint: of the storage.
        bucket: its name.
        key: the credentials; None for those of the environment.
        delivery: keys that every destination may have.
        settings: `OWN` settings, and those of ``upload``.
    """

    def __init__(
        self,
        folder: Path,
        endpoint: str,
        bucket: str,
        key: AccessKey | None,
        delivery: Mapping[str, object] = {},
        **settings: object,
    ) -> None:
        own = {name: settings.pop(name) for name in OWN & settings.keys()}
        upload = {"bucket": bucket, "endpoint": endpoint, **settings}
        upload |= {} if key is None else key._asdict()
        told = FileSettings.model_validate({"path": str(folder), "upload": upload} | own)
        rules = FileOutput(told).files
        assert rules is not None
        self.rules: FileRules = rules
        prompt = {"retry_min": 0.01, "retry_max": 0.05}
        self.config = DestinationConfig.model_validate(
            {"vendor": "file", "settings": told, **prompt, **delivery}
        )

    @asynccontextmanager
    async def open(self) -> AsyncIterator[tuple[FileTransport, FileUploads]]:
        """Yield a transport and its uploads, and close them."""
        transport = FileTransport(self.rules, self.config)
        assert transport.uploads is not None
        try:
            yield transport, transport.uploads
        finally:
            await transport.close()
