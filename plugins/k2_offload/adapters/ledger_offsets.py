"""The ledger's record of what the last comparison of each table's messages has found."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.ledger_sql import statements
from k2_offload.core.observation import OffsetComparison
from k2_offload.core.offsets import Partition, SeenEnd


class LedgerOffsets:
    """Reading it changes nothing, and works before its schema is there."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def read(self) -> dict[str, OffsetComparison]:
        """Of each table whose messages were compared, by name."""
        rows = self._ledger.read_if("has_offsets", "read_offsets")
        return {table: OffsetComparison(*found) for table, *found in map(dict.values, rows)}

    def read_ends(self, table: str) -> dict[Partition, SeenEnd]:
        """What was kept of the table's partitions in the broker."""
        rows = self._ledger.read_if("has_offset_ends", "read_offset_ends", {"table": table})
        return {Partition(topic, number): SeenEnd(*seen) for topic, number, *seen in map(dict.values, rows)}

    def record(self, table: str, found: OffsetComparison, ends: Mapping[Partition, SeenEnd]) -> None:
        """Keep what was found, and what was seen of the partitions in the broker."""
        with self._ledger.transaction() as cursor:
            values = {"missing": found.missing, "repeated": found.repeated, "unclear": found.unclear}
            cursor.execute(statements()["record_offsets"], {"table": table, "now": found.at, **values})
            for partition, seen in ends.items():
                names = {"table": table, "topic": partition.topic, "number": partition.number}
                bounds = {"read_below": seen.read_below, "due_below": seen.due_below, "seen_end": seen.end}
                cursor.execute(statements()["record_offset_end"], {**names, **bounds, "seen_at": seen.at})

    def has_asked_broker(self) -> bool:
        """Whether any comparison has ever asked the broker."""
        with self._ledger.transaction() as cursor:
            cursor.execute(statements()["has_asked_broker"])
            return bool(cursor.fetchone()[0])

    def record_broker(self, now: datetime) -> None:
        """Keep that the broker is asked from now on, if that is not known yet."""
        with self._ledger.transaction() as cursor:
            cursor.execute(statements()["record_broker"], {"now": now})
