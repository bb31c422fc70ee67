"""The part of one destination's backlog that is in the log only, after the indexed part."""

BITS = 1 << 22
"""Bits of a set of users: half a mebibyte. A million users set a fifth of them."""


class UserSet:
    """A set of user hashes in fixed memory; it may have others that share a remainder."""

    __slots__ = ("_bits",)

    def __init__(self) -> None:
        self._bits = bytearray(BITS // 8)

    def add(self, user: int) -> None:
        """Add a user."""
        bit = user % BITS
        self._bits[bit >> 3] |= 1 << (bit & 7)

    def __contains__(self, user: int) -> bool:
        bit = user % BITS
        return bool(self._bits[bit >> 3] & 1 << (bit & 7))


class LogTail:
    """Which places of the log are not indexed yet, and whose deliveries may be there.

    All deliveries up to ``after`` are in the index, or have been. The users of later ones are in
    two sets: one of the places up to ``_newer_from``, one of those from there on. The first is
    forgotten once they are indexed, so that a tail which never ends does not fill the sets.
    """

    __slots__ = ("_newer", "_newer_from", "_older", "after", "upto")

    def __init__(self, after: int = 0) -> None:
        self.after = after
        """The seq up to which the log is indexed; it counts only while there is a tail."""
        self.upto = 0
        """The seq of the last entry with a delivery that is not indexed."""
        self._older: UserSet | None = None
        self._newer: UserSet | None = None
        self._newer_from = 0

    def __bool__(self) -> bool:
        return self.after < self.upto

    def add(self, seq: int, user: int) -> None:
        """Add a delivery at the end of the log."""
        if not self:
            self.after = seq - 1
        self.upto = seq
        if self._newer is None:
            self._newer, self._newer_from = UserSet(), seq
        self._newer.add(user)

    def may_have(self, user: int) -> bool:
        """Return whether a delivery of the user may be in the tail; False is certain."""
        if not self:
            return False
        newer, older = self._newer, self._older
        return (newer is not None and user in newer) or (older is not None and user in older)

    def advance(self, seq: int) -> None:
        """Record that everything up to *seq* is indexed."""
        self.after = max(self.after, seq)
        if not self:
            self._older = self._newer = None
        elif self._newer is not None and self.after >= self._newer_from:
            self._older, self._newer = self._newer, None
