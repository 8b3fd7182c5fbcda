"""The ledger's copy of the seals, with what their last verification has found."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime

from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.ledger_sql import statements
from k2_offload.core.observation import SealedDays
from k2_offload.core.seals import Seal


@dataclass(frozen=True)
class RecordedSeal:
    """A seal, and its last verification.

    :param verified_snapshot: of the cold table, the last one in which the day was found whole
    :param problem: why it was found broken
    """

    seal: Seal
    verified_at: datetime | None
    verified_snapshot: int | None
    problem: str | None

    @property
    def checked_at(self) -> datetime:
        """When the day was last known to be whole, or looked at."""
        return self.verified_at or self.seal.sealed_at


_VERIFIED = ("verified_at", "verified_snapshot", "problem")


class LedgerSeals:
    """The ledger's table of seals. Reading it changes nothing, and works before its schema is there."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def read(self, tables: Sequence[str]) -> list[RecordedSeal]:
        """The seals of some tables, by day; those that do not say what their name says are left out."""
        found = []
        for row in self._ledger.read_if("has_seals", "read_seals", {"tables": list(tables)}):
            with suppress(ValueError, TypeError):  # of what was altered by hand; the lake has it, too
                found.append(RecordedSeal(Seal.read(row), *(row[name] for name in _VERIFIED)))
        return found

    def record(self, seals: Sequence[Seal]) -> None:
        """Keep what the lake says; a seal that is there already becomes what the lake says."""
        with self._ledger.transaction() as cursor:
            for seal in seals:
                cursor.execute(statements()["record_seal"], seal.stored)

    def record_verification(self, seal: Seal, snapshot_id: int | None, problem: str | None, now: datetime) -> None:
        """Keep what a verification has found.

        :param snapshot_id: of the cold table, as it was read; or the last one in which the day was whole, if there is
            one, where it was healed since
        """
        with self._ledger.transaction() as cursor:
            values = {"seal_id": seal.seal_id, "snapshot_id": snapshot_id, "problem": problem, "now": now}
            cursor.execute(statements()["record_verification"], values)

    def read_sealed_days(self) -> dict[str, SealedDays]:
        """Of each table with sealed days, by name: how they are."""
        rows = self._ledger.read_if("has_seals", "sealed_days")
        return {table: SealedDays(*found) for table, *found in map(dict.values, rows)}
