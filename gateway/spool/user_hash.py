"""Short hashes of user keys, since many are kept in memory."""

from functools import lru_cache
from hashlib import blake2b

_SOMEBODY = 1 << 31
"""A bit that every hash has, so that 0 can mean no user."""
KNOWN = 4096
"""Users whose hashes are remembered: most send several events in a row."""
LONGEST = 128
"""Characters of a key that is remembered."""


class UserHash:
    """Hashes user keys with a secret of 16 random bytes.

    Without the secret nobody can construct a key with another user's hash and so delay that user's
    deliveries.
    """

    def __init__(self, secret: bytes) -> None:
        self._keyed = blake2b(key=secret, digest_size=4)
        self._known = lru_cache(maxsize=KNOWN)(self._made)

    def __call__(self, key: str) -> int:
        """Return a 32-bit hash of a user's key; 0 for the empty key."""
        return self._known(key) if len(key) <= LONGEST else self._made(key)

    def _made(self, key: str) -> int:
        if not key:
            return 0
        keyed = self._keyed.copy()
        keyed.update(key.encode("utf-8", "surrogatepass"))
        return int.from_bytes(keyed.digest(), "little") | _SOMEBODY
