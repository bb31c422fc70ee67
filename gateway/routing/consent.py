"""Store users' consent, for consent steps on events that do not contain it themselves.

For each category the latest consent counts. It is stored by user id and by anonymous id, so that
consent from before a login is valid after it. It is durable before the request gets its response,
and valid from the arrival of the request.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from gateway.config.models import ConsentConfig
from gateway.event import Event
from gateway.spool import ConsentRecord, Intake
from gateway.spool.consent import newest

NEAR = 10_000
"""Users whose consent is cached in memory."""

LONGEST = 200
"""Characters; categories with a longer name are not stored."""

Statements = dict[str, ConsentRecord]


class ConsentMemory:
    """Stores users' consent in the spool, with a cache in memory.

    Args:
        spool: the store.
        config: the retention; None stores nothing.
    """

    def __init__(self, spool: Intake, config: ConsentConfig) -> None:
        self._spool = spool
        self._near: dict[bytes, Statements] = {}
        self._whole: set[bytes] = set()
        self.configure(config)

    def configure(self, config: ConsentConfig) -> None:
        """Use another configuration; stored consent keeps its old retention."""
        self._config = config
        self._near.clear()
        self._whole.clear()

    @property
    def on(self) -> bool:
        """Return whether consent is stored."""
        return self._config.retention is not None

    async def update(
        self, source: str, events: Sequence[Event], *, asked: bool
    ) -> Mapping[int, Mapping[str, bool]]:
        """Store the consent in the *events* of one request; return the consent of their users.

        Args:
            source: their source.
            events: in the order of the request.
            asked: whether to return consent; if not, the result is empty.

        Raises:
            SpoolError: the spool cannot store or read it now.
        """
        said = self._said(source, events)
        if said and self._config.retention is not None:
            await self._spool.save_consent(said, self._config.retention)
        return await self.recall(source, events) if asked else {}

    async def recall(
        self, source: str, events: Sequence[Event]
    ) -> Mapping[int, Mapping[str, bool]]:
        """Return the stored consent of the events' users, by index; store nothing.

        Args:
            source: their source.
            events: in the order of the request.

        Raises:
            SpoolError: the spool cannot read it now.
        """
        keys = {index: tuple(self._keys(source, event)) for index, event in enumerate(events)}
        known = await self._look_up({key for mine in keys.values() for key in mine})
        return {
            index: self._latest([known[key] for key in mine], events[index].received_at.timestamp())
            for index, mine in keys.items()
            if mine
        }

    def forget(self, ids: Iterable[str], sources: Iterable[str]) -> set[bytes]:
        """Forget what is cached of users; return the keys of all that may be stored of them.

        Args:
            ids: user ids, anonymous ids, or other keys of users.
            sources: the names of all sources.
        """
        names = list(ids)
        found = {
            _key(scope, kind, name)
            for scope in ("", *sources)
            for kind in ("u", "a", "k")
            for name in names
        }
        for key in found:
            self._near.pop(key, None)
            self._whole.discard(key)
        return found

    def _said(self, source: str, events: Iterable[Event]) -> dict[bytes, Statements]:
        said: dict[bytes, Statements] = {}
        for event in events:
            at = event.received_at.timestamp()
            words = {
                category: ConsentRecord(granted, at)
                for category, granted in event.consent.items()
                if len(category) <= LONGEST
            }
            if words:
                for key in self._keys(source, event):
                    said.setdefault(key, {}).update(words)
        said = {key: newest(statements) for key, statements in said.items()}
        for key, statements in said.items():
            self._keep(key, newest(self._near.pop(key, {}) | statements))
        return said

    async def _look_up(self, keys: Collection[bytes]) -> Mapping[bytes, Statements]:
        """Return the consent of each key; the cache may lose entries meanwhile."""
        known = {key: self._near[key] for key in keys if key in self._whole}
        unknown = [key for key in keys if key not in known]
        if unknown:
            found = await self._spool.load_consent(unknown)
            for key in unknown:
                known[key] = merged(dict(found.get(key, {})), self._near.pop(key, {}))
                self._keep(key, known[key])
                self._whole.add(key)
        return known

    def _keep(self, key: bytes, statements: Statements) -> None:
        self._near[key] = statements
        if len(self._near) > NEAR:
            oldest = next(iter(self._near))
            del self._near[oldest]
            self._whole.discard(oldest)

    def _latest(self, known: Iterable[Statements], now: float) -> Mapping[str, bool]:
        oldest = now - (self._config.retention or 0)
        latest: Statements = {}
        for statements in known:
            latest = merged(latest, statements)
        return {category: said.granted for category, said in latest.items() if said.at > oldest}

    def _keys(self, source: str, event: Event) -> Iterator[bytes]:
        scope = "" if self._config.across_sources else source
        known = [("u", event.user_id), ("a", event.anonymous_id)]
        if not (event.user_id or event.anonymous_id):
            known = [("k", event.user_key)]
        for kind, name in known:
            if name:
                yield _key(scope, kind, name)


def _key(scope: str, kind: str, name: str) -> bytes:
    """Return the key of a user's consent.

    Args:
        scope: the source; empty if consent holds across sources.
        kind: ``u`` for a user id, ``a`` for an anonymous id, ``k`` for another key of the user.
        name: the id.
    """
    text = f"{scope}\0{kind}\0{name}".encode("utf-8", "surrogatepass")
    return blake2b(text, digest_size=16).digest()


def merged(earlier: Statements, later: Mapping[str, ConsentRecord]) -> Statements:
    """Return the latest record of each category; at equal times, that of *later*."""
    found = dict(earlier)
    for category, said in later.items():
        if category not in found or found[category].at <= said.at:
            found[category] = said
    return found
