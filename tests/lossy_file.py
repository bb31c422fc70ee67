"""A file whose unsynced writes a power failure forgets."""

import random
from dataclasses import dataclass, field
from typing import NamedTuple

SECTOR = 512


class Write(NamedTuple):
    """Bytes at an offset; None for a file that was cut there."""

    offset: int
    data: bytes | None


@dataclass
class LossyFile:
    """A file's synced content, and the writes since then."""

    synced: bytearray = field(default_factory=bytearray)
    unsynced: list[Write] = field(default_factory=list)

    def whole(self) -> bytearray:
        """Return the content with all writes."""
        image = bytearray(self.synced)
        for write in self.unsynced:
            _put(image, write)
        return image

    def sync(self, count: int | None = None) -> None:
        """Make the first *count* unsynced writes durable, or all of them."""
        for write in self.unsynced[:count]:
            _put(self.synced, write)
        del self.unsynced[:count]

    def after_power_loss(self, chance: random.Random) -> bytes:
        """Return the content as a power failure now might leave it.

        A random part of the unsynced writes survives: whole writes, or some of their sectors.
        """
        image = bytearray(self.synced)
        fate = chance.choice(["none", "prefix", "any"])
        kept = chance.randrange(len(self.unsynced) + 1)
        for number, write in enumerate(self.unsynced):
            if (fate == "any" and chance.random() < 0.5) or (fate == "prefix" and number < kept):
                _put(image, _torn(write, chance) if chance.random() < 0.3 else write)
        return bytes(image)


def _put(image: bytearray, write: Write) -> None:
    """Apply a write to a file's bytes."""
    offset, data = write
    if data is None:
        del image[offset:]
    image.extend(bytes(max(0, offset - len(image))))
    if data is not None:
        image[offset : offset + len(data)] = data


def _torn(write: Write, chance: random.Random) -> Write:
    """Return only the first sectors of a write."""
    offset, data = write
    if data is None:
        return write
    return Write(offset, data[: SECTOR * chance.randrange(len(data) // SECTOR + 1)])
