"""What the ledger shows of tables, windows, days and maintenance, for who only looks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from k2_offload.core.day_comparison import Verdict


@dataclass(frozen=True)
class TableRecord:
    """What the ledger shows of one table; every field is ``None`` until it is known.

    :param low: with ``high``, the last window that was planned, half-open
    :param rows: rows published with that window
    :param table_uuid: of the cold table that was followed so far
    :param row_limit: how many rows the next windows may have, since a larger one has failed
    :param reason: why the status is ``failed``
    :param ledger_id: of the ledger that shows it
    """

    table: str
    watermark: datetime | None
    status: str
    last_successful_run: datetime | None
    last_run_duration_seconds: float | None
    low: datetime | None
    high: datetime | None
    state: str | None
    rows: int | None
    planned_rows: int | None
    table_uuid: str | None
    row_limit: int | None = None
    reason: str | None = None
    ledger_id: str | None = None


@dataclass(frozen=True)
class MaintenanceRecord:
    """What one run of maintenance did to a table; of a dry run, what it would have done.

    :param files_before: data files that readers open, as ``files_after``
    :param orphans: files removed that no snapshot named
    :param problem: ``None`` if all went well
    """

    table: str
    files_before: int
    files_after: int
    bytes_before: int
    bytes_after: int
    rewritten_days: int
    expired_snapshots: int
    snapshots_after: int
    orphans: int
    orphan_bytes: int
    seconds: float
    problem: str | None


@dataclass(frozen=True)
class RecordedWindow:
    """One window as it was planned, and what became of it.

    :param state: ``open``, ``committed`` or ``abandoned``
    :param dag_run_id: the run that planned or last resumed it
    :param rows: published with it; ``None`` until then
    """

    low: datetime
    high: datetime
    state: str
    dag_run_id: str
    attempts: int
    planned_rows: int
    rows: int | None
    size_bytes: int | None
    planned_at: datetime
    committed_at: datetime | None

    @property
    def took(self) -> timedelta | None:
        """From its plan to its commit; ``None`` until then."""
        return None if self.committed_at is None else self.committed_at - self.planned_at


@dataclass(frozen=True)
class RecordedDay:
    """What the last comparison of one partition day has found.

    :param late_rows: rows that only the warm tier holds
    :param gone_rows: rows that only the cold tier holds
    :param unequal_since: ``None`` while it is equal, or as it should be
    :param problem: why the day cannot be read, or was not healed
    """

    day: date
    verdict: Verdict
    compared_at: datetime
    warm_rows: int
    cold_rows: int
    late_rows: int
    gone_rows: int
    unequal_since: datetime | None
    problem: str | None
