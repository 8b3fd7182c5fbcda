"""The ledger's record of what the last comparison of each table's messages has found."""

from __future__ import annotations

from datetime import datetime

from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.ledger_sql import statements
from k2_offload.core.observation import OffsetComparison


class LedgerOffsets:
    """Reading it changes nothing, and works before its schema is there."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def read(self) -> dict[str, OffsetComparison]:
        """Of each table whose messages were compared, by name."""
        with self._ledger.transaction() as cursor:
            cursor.execute(statements()["has_offsets"])
            if not cursor.fetchone()[0]:
                return {}
            cursor.execute(statements()["read_offsets"])
            return {table: OffsetComparison(*row) for table, *row in cursor.fetchall()}

    def record(self, table: str, found: OffsetComparison) -> None:
        """Keep what was found."""
        with self._ledger.transaction() as cursor:
            values = {"missing": found.missing, "repeated": found.repeated, "unclear": found.unclear}
            cursor.execute(statements()["record_offsets"], {"table": table, "now": found.at, **values})

    def has_asked_broker(self) -> bool:
        """Whether any comparison has ever asked the broker."""
        with self._ledger.transaction() as cursor:
            cursor.execute(statements()["has_asked_broker"])
            return bool(cursor.fetchone()[0])

    def record_broker(self, now: datetime) -> None:
        """Keep that the broker is asked from now on, if that is not known yet."""
        with self._ledger.transaction() as cursor:
            cursor.execute(statements()["record_broker"], {"now": now})
