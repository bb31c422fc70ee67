"""Audit balances: tell of accepted deliveries that are neither finished nor pending."""

from collections.abc import Mapping

import structlog

from gateway.spool.values import Balance

log = structlog.get_logger()


class Auditor:
    """Logs each change of a destination's unaccounted deliveries.

    A count is accepted after two checks in a row found the same.
    """

    def __init__(self) -> None:
        self.unaccounted: Mapping[str, int] = {}
        """Number of unaccounted deliveries by destination; replaced at every check."""
        self._found: Mapping[str, int] | None = None

    def look(self, found: Mapping[str, Balance]) -> None:
        """Check the balances; the first check counts at once, since nothing is in flight."""
        unaccounted = {name: balance.unaccounted for name, balance in found.items()}
        before = unaccounted if self._found is None else self._found
        known, self._found = self.unaccounted, unaccounted
        self.unaccounted = {
            name: count if before.get(name) == count else known.get(name, 0)
            for name, count in unaccounted.items()
        }
        for name, count in self.unaccounted.items():
            if count != known.get(name, 0):
                _log_balance(name, found[name])


def _log_balance(name: str, balance: Balance) -> None:
    if balance.unaccounted:
        numbers = {field: getattr(balance, field) for field in Balance.__struct_fields__}
        log.error("balance_wrong", destination=name, unaccounted=balance.unaccounted, **numbers)
    else:
        log.info("balance_restored", destination=name)
