"""Numbers that stand for users, where many are kept."""

from hashlib import blake2b

_SOMEBODY = 1 << 31
"""The bit that no number lacks, so that 0 stands for nobody."""


class UserHash:
    """Makes a number of a user's key, by a secret.

    Whoever does not know the secret cannot make keys whose numbers meet another user's, and so
    take their turns from them. The secret is 16 random bytes.
    """

    def __init__(self, secret: bytes) -> None:
        self._keyed = blake2b(key=secret, digest_size=4)

    def __call__(self, key: str) -> int:
        """Return 32 bits that stand for a user's key; 0 for nobody's, the empty one."""
        if not key:
            return 0
        keyed = self._keyed.copy()
        keyed.update(key.encode("utf-8", "surrogatepass"))
        return int.from_bytes(keyed.digest(), "little") | _SOMEBODY
