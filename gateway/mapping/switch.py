"""Several tables, chosen by what the vendor calls the event."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from gateway.errors import Fault, Rejected
from gateway.event import EVENT_TYPES, Event
from gateway.json_text import quoted
from gateway.mapping.codecs import Codec
from gateway.mapping.row import Row
from gateway.mapping.table import Found, Kind, Stamp, Table


class Switch:
    """Several tables, chosen by one field of the payload.

    Args:
        field: the payload's key that names the kind of event.
        tables: the vendor's word to its table; a table may serve several words.
        vocabulary: translates the words of tables that say just ``"track"``.
        otherwise: the table of every other word; without it they are refused.
        pick: the word of a payload, where one field does not tell it all.
    """

    def __init__(
        self,
        field: str,
        tables: Mapping[str, Table],
        *,
        vocabulary: Codec | None = None,
        otherwise: Table | None = None,
        pick: Callable[[dict[str, Any]], str] | None = None,
    ) -> None:
        self.field = field
        self.tables = tables
        self.otherwise = otherwise
        self.pick = pick
        self._writers: dict[str, Table] = {}
        for word, table in tables.items():
            named = vocabulary is not None and table.says == "track"
            says = vocabulary.decode(word) if vocabulary and named else table.says
            self._writers.setdefault(says, table)

    def find(self, payload: Any) -> Iterator[Found]:
        """Yield mapped values and leftovers, once per event."""
        return self._table(payload).find(payload)

    def read(self, payload: Any, stamp: Stamp = Stamp()) -> list[Event]:  # noqa: B008 - immutable
        """Return the events in a decoded *payload*.

        Raises:
            Rejected: the word is missing or unknown, or the table refuses the payload.
        """
        return self._table(payload).read(payload, stamp)

    def table_for(self, event: Event) -> Table | None:
        """Return the table that writes *event*, if there is one."""
        found = self._writers.get((event.name or "") if event.type == "track" else event.type)
        table = None if found is None else found.table_for(event)
        if table is None and self.otherwise is not None:
            return self.otherwise.table_for(event)
        return table

    def kinds(self) -> Iterator[Kind]:
        """Yield the kinds of events that it knows, each once."""
        for says in self._writers:
            yield (says, None) if says in EVENT_TYPES else ("track", says)
        if self.otherwise is not None:
            yield from self.otherwise.kinds()

    def flat(self) -> Iterator[Row]:
        """Yield every row once."""
        tables = dict.fromkeys(self.tables.values())
        if self.otherwise is not None:
            tables[self.otherwise] = None
        yield from dict.fromkeys(row for table in tables for row in table.flat())

    def _table(self, payload: Any) -> Table:
        if type(payload) is not dict:
            raise Rejected("$", "expected an object", Fault.TYPE, payload)
        word = self.pick(payload) if self.pick else payload.get(self.field)
        if word is None:
            raise Rejected(self.field, "required", Fault.MISSING)
        table = self.tables.get(word) if type(word) is str else None
        if table is None:
            table = self.otherwise
            if table is None:
                raise Rejected(self.field, f"unknown: {quoted(word)}", Fault.VALUE, word)
        return table
