"""Fixtures for tests that speak HTTP."""

import ssl

import pytest
import trustme

from tests.gateway.odd_servers import Tls


@pytest.fixture(params=["plain", "TLS"])
def tls(request: pytest.FixtureRequest, certificate_authority: trustme.CA) -> Tls:
    """Return no TLS, then TLS with a certificate for 127.0.0.1."""
    if request.param == "plain":
        return None
    served = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate_authority.issue_cert("127.0.0.1").configure_cert(served)
    trusted = ssl.create_default_context()
    certificate_authority.configure_trust(trusted)
    return served, trusted
