"""Who may connect to a NATS server, and how: passwords, nkeys, credentials files, TLS."""

import base64
import hashlib
import json
import os
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import nkeys
import trustme

USER, PASSWORD = "gateway", "hunter2-for-tests"
NO_LIMITS = {
    "subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1,
    "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1, "wildcards": True,
}  # fmt: skip
"""The limits of an account that may use JetStream as it likes."""
SYSTEM_LIMITS = {**NO_LIMITS, "mem_storage": 0, "disk_storage": 0, "streams": 0, "consumer": 0}


class Access(NamedTuple):
    """How servers know their clients."""

    config: str = ""
    """Lines of the servers' configuration; they replace others of the same key."""
    connect: Mapping[str, Any] = {}
    """What `nats.connect` must be told besides the addresses."""
    scheme: str = "nats"

    def url(self, port: int) -> str:
        """Return the address of the server at *port* of the loopback address."""
        return f"{self.scheme}://127.0.0.1:{port}"


ANYBODY = Access()


def by_password() -> Access:
    """Admit one user with a password."""
    config = f'authorization {{ user: "{USER}", password: "{PASSWORD}" }}'
    return Access(config, {"user": USER, "password": PASSWORD})


def by_nkey() -> Access:
    """Admit whoever has the seed of one nkey."""
    seed, public = _key(nkeys.PREFIX_BYTE_USER)
    config = f"authorization {{ users: [ {{ nkey: {public} }} ] }}"
    return Access(config, {"nkeys_seed_str": seed.decode()})


def by_credentials(folder: Path) -> Access:
    """Admit users by JWT; write a credentials file into *folder*.

    The servers trust an operator, who signed an account for the gateway and one for the servers
    themselves. The account signed the user.
    """
    operator, operator_id = _key(nkeys.PREFIX_BYTE_OPERATOR)
    system_id = _key(nkeys.PREFIX_BYTE_ACCOUNT)[1]
    account, account_id = _key(nkeys.PREFIX_BYTE_ACCOUNT)
    seed, user_id = _key(nkeys.PREFIX_BYTE_USER)
    resolved = {
        name: _jwt(operator, operator_id, name, {"type": "account", "limits": limits})
        for name, limits in ((system_id, SYSTEM_LIMITS), (account_id, NO_LIMITS))
    }
    unlimited = {"type": "user", "subs": -1, "data": -1, "payload": -1}
    user = _jwt(account, account_id, user_id, unlimited)
    file = folder / "gateway.creds"
    file.write_text(
        f"-----BEGIN NATS USER JWT-----\n{user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{seed.decode()}\n------END USER NKEY SEED------\n"
    )
    preload = "\n".join(f"{name}: {token}" for name, token in resolved.items())
    trusted = _jwt(operator, operator_id, operator_id, {"type": "operator"})
    config = (
        f"operator: {trusted}\nsystem_account: {system_id}\n"
        f"resolver: MEMORY\nresolver_preload: {{\n{preload}\n}}"
    )
    return Access(config, {"user_credentials": str(file)})


def by_certificate(folder: Path, authority: trustme.CA) -> Access:
    """Admit clients with a certificate of *authority*; write the servers' files into *folder*.

    The client's own are ``ca.pem``, ``client.pem`` and ``client.key``.
    """
    server, client = authority.issue_cert("127.0.0.1"), authority.issue_cert("gateway@node.example")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    for name, leaf in (("server", server), ("client", client)):
        leaf.cert_chain_pems[0].write_to_path(folder / f"{name}.pem")
        leaf.private_key_pem.write_to_path(folder / f"{name}.key")
    config = (
        f'tls {{ cert_file: "{folder}/server.pem", key_file: "{folder}/server.key"\n'
        f'  ca_file: "{folder}/ca.pem", verify: true }}'
    )
    context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
    context.load_cert_chain(folder / "client.pem", folder / "client.key")
    return Access(config, {"tls": context}, "tls")


def new_seed() -> bytes:
    """Return the seed of a new user's nkey."""
    return _key(nkeys.PREFIX_BYTE_USER)[0]


def _key(prefix: int) -> tuple[bytes, str]:
    """Return a new key's seed and its public name."""
    seed = bytes(nkeys.encode_seed(os.urandom(32), prefix))
    return seed, nkeys.from_seed(bytearray(seed)).public_key.decode()


def _jwt(issuer: bytes, issuer_id: str, subject: str, nats: Mapping[str, object]) -> str:
    """Return a token about *subject*, signed with the seed *issuer*."""
    claims = {"iat": 0, "iss": issuer_id, "sub": subject, "name": "test"}
    claims |= {"nats": {**nats, "version": 2}}
    claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode()
    head = {"typ": "JWT", "alg": "ed25519-nkey"}
    signed = b".".join(_part(json.dumps(part).encode()) for part in (head, claims))
    signature = nkeys.from_seed(bytearray(issuer)).sign(signed)
    return b".".join((signed, _part(signature))).decode()


def _part(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")
