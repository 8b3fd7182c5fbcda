"""Reads what the ledger holds of how right cold tables are, of all tables at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from k2_offload.adapters.ledger import Ledger
from k2_offload.adapters.ledger_offsets import LedgerOffsets
from k2_offload.adapters.ledger_seals import LedgerSeals
from k2_offload.core.gaps import Gap
from k2_offload.core.needs import as_of
from k2_offload.core.observation import Comparisons, OffsetComparison, Records, SealedDays
from k2_offload.core.tables import TableSpec


@dataclass(frozen=True)
class AllRecords:
    """By table; one of which nothing is known is missing."""

    comparisons: Mapping[str, Comparisons] = field(default_factory=dict)
    sealed: Mapping[str, SealedDays] = field(default_factory=dict)
    offsets: Mapping[str, OffsetComparison] = field(default_factory=dict)

    def of(self, table: TableSpec, now: datetime, gaps: Sequence[Gap] | None) -> Records:
        """Those of one table, as they count now.

        :param gaps: on record of its cold table as it is; ``None`` if that is not known
        """
        return Records(
            as_of(self.comparisons.get(table.name, Comparisons()), table, now),
            self.sealed.get(table.name, SealedDays()),
            self.offsets.get(table.name),
            gaps,
        )


def read_records(ledger: Ledger) -> AllRecords:
    """Read all of it; changes nothing, and works before the ledger's schema is there.

    :raises OffloadError: if the ledger is away, or :class:`OldLedger` if an older version has made it
    """
    return AllRecords(ledger.read_comparisons(), LedgerSeals(ledger).read_sealed_days(), LedgerOffsets(ledger).read())
