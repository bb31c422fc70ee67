"""Certificate files: whom the gateway trusts, and what it shows to servers."""

import hashlib
import ssl
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

HTTP = ("http/1.1",)
"""The protocol that vendors' servers are offered (ALPN)."""


@cache
def default_tls() -> ssl.SSLContext:
    """Return the settings of TLS: the system's certificate authorities, and HTTP/1.1."""
    return _context(None, HTTP)


def _context(ca: Path | None, alpn: Sequence[str]) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca)
    if alpn:
        context.set_alpn_protocols(alpn)
    return context


class TlsFileError(ValueError):
    """A certificate file cannot be used.

    Attributes:
        key: the key of the table that names it.
    """

    def __init__(self, key: str, what: str) -> None:
        super().__init__(what)
        self.key = key


@dataclass(frozen=True)
class TlsFiles:
    """The content of certificate files; equal if the files' content is."""

    digest: bytes
    context: ssl.SSLContext = field(compare=False, repr=False)
    """The settings of TLS that were made of them."""


def read_tls_files(
    ca: Path | None, cert: Path | None, key: Path | None, *, alpn: Sequence[str] = HTTP
) -> TlsFiles:
    """Return the content of PEM files.

    Args:
        ca: certificate authorities, which replace the system's; None for the system's.
        cert: the client's certificate and those that vouch for it; None for no certificate.
        key: its private key; None if that is in *cert*.
        alpn: the protocols that are offered to the server.

    Raises:
        TlsFileError: a file is missing or cannot be used.
    """
    named = {"ca": ca, "cert": cert, "key": key}
    digest = _digest((name, path) for name, path in named.items() if path is not None)
    try:
        context = _context(ca, alpn)
    except (ssl.SSLError, ValueError):
        raise TlsFileError("ca", f"{ca} has no certificate; name a file in PEM format") from None
    if cert is not None:
        _load_chain(context, cert, key)
    return TlsFiles(digest, context)


def _digest(files: Iterable[tuple[str, Path]]) -> bytes:
    """Return a digest of the files' content, taken before they are loaded.

    A file that changes in between differs at the next reload.
    """
    found = hashlib.sha256()
    for name, path in files:
        try:
            content = path.read_bytes()
        except OSError as error:
            reason = (error.strerror or "cannot be read").lower()
            raise TlsFileError(name, f"cannot read {path}: {reason}; correct the path") from error
        found.update(f"{name} {len(content)}\n".encode() + content)
    return found.digest()


def _load_chain(context: ssl.SSLContext, cert: Path, key: Path | None) -> None:
    def refuse() -> str:
        what = f"{key or cert} is encrypted; write it without a passphrase, readable only to you"
        raise TlsFileError("key" if key else "cert", what)

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cert)
    except ssl.SSLError:
        what = f"{cert} has no certificate; name a file in PEM format"
        raise TlsFileError("cert", what) from None
    try:
        context.load_cert_chain(cert, key, refuse)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            what = f"{key or cert} is the private key of another certificate than {cert}"
        elif key is None:
            what = f"{cert} has no private key; add it, or name its file in key"
            raise TlsFileError("cert", what) from None
        else:
            what = f"{key} has no private key; name a file in PEM format"
        raise TlsFileError("key" if key else "cert", what) from None
