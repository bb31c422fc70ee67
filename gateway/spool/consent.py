"""A user's stored consent: how a change is merged into it, and how it is packed."""

from collections.abc import Mapping

import msgspec

from gateway.spool.values import ConsentRecord

CATEGORIES = 100
"""Most categories that are stored per user, since senders may invent some."""

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(dict[str, tuple[bool, float]]).decode


def merge_consent(
    known: Mapping[str, ConsentRecord], words: Mapping[str, ConsentRecord]
) -> dict[str, ConsentRecord]:
    """Return the newest record of each category, of the `CATEGORIES` newest ones."""
    later = {n: w for n, w in words.items() if n not in known or known[n].at <= w.at}
    return newest({**known, **later})


def newest(words: dict[str, ConsentRecord]) -> dict[str, ConsentRecord]:
    """Return the newest `CATEGORIES` of a user's records."""
    if len(words) <= CATEGORIES:
        return words
    order = sorted(words, key=lambda name: words[name].at)
    return {name: words[name] for name in order[-CATEGORIES:]}


def pack_consent(words: Mapping[str, ConsentRecord]) -> bytes:
    """Return a user's records as MessagePack."""
    return _encode({name: (word.granted, word.at) for name, word in words.items()})


def unpack_consent(packed: bytes) -> dict[str, ConsentRecord]:
    """Return the records that `pack_consent` packed."""
    return {name: ConsentRecord(*word) for name, word in _decode(packed).items()}
