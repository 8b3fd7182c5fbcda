"""What one look at all services and tables has seen: plain values, from which :mod:`k2_offload.core.metrics` are made.

A value that could not be read is ``None``, and becomes no sample: one that is missing says more than one that is old.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from k2_offload.core.gaps import Gap
from k2_offload.core.history import History
from k2_offload.core.lag import USUAL_BUFFER, USUAL_PAUSE
from k2_offload.core.skips import Skips

SERVICES = ("clickhouse", "catalog", "ledger", "airflow")
"""What is asked: ClickHouse, the Iceberg catalog with its storage, the ledger's Postgres, Airflow's database."""


@dataclass(frozen=True)
class WindowTotals:
    """What the ledger holds of all windows of one table.

    :param retries: how often a window was planned again
    :param failures: how often a window was planned and not published
    :param open_failures: the same, of the window that is open
    :param duration_p50: seconds from plan to commit, the median of the last day's windows
    :param duration_p99: the same, of all but the hundredth that took longest
    :param lag_p50: seconds from the first row of a window to its commit, the median of the last day's windows with
        rows; no row of such a window waited longer. The first window of a table, which begins in 2000, is left out
    :param lag_p99: the same, of all but the hundredth that waited longest
    :param last_rows: rows of the last window that was committed
    """

    committed: int = 0
    abandoned: int = 0
    open: int = 0
    rows: int = 0
    size_bytes: int = 0
    retries: int = 0
    failures: int = 0
    open_failures: int = 0
    duration_p50: float | None = None
    duration_p99: float | None = None
    lag_p50: float | None = None
    lag_p99: float | None = None
    last_rows: int | None = None
    last_planned_at: datetime | None = None
    last_committed_at: datetime | None = None
    first_planned_at: datetime | None = None


@dataclass(frozen=True)
class UnequalDay:
    """A partition day that the last comparison found unequal.

    :param unequal_since: when a comparison found that first
    :param late_rows: rows that only the warm tier held
    :param gone_rows: rows that only the cold tier held
    :param whole: whether the warm tier surely holds the day as a whole
    :param unreadable: whether the cold tier's rows could not be read
    """

    day: date
    unequal_since: datetime
    late_rows: int
    gone_rows: int
    whole: bool
    unreadable: bool = False


@dataclass(frozen=True)
class Comparisons:
    """What the ledger holds of the comparisons of one table.

    :param last: when a day was compared last
    """

    last: datetime | None = None
    unequal: Sequence[UnequalDay] = ()

    @property
    def differing(self) -> list[UnequalDay]:
        """Those that a heal, or a person, can make equal: the warm tier still holds them, or a file is to be mended."""
        return [day for day in self.unequal if day.whole or day.unreadable]

    @property
    def differs_since(self) -> datetime | None:
        """Since when one of these has been unequal; ``None`` if there is none."""
        return min((day.unequal_since for day in self.differing), default=None)

    @property
    def late_rows(self) -> int:
        """Of these, rows that only the warm tier held."""
        return sum(day.late_rows for day in self.differing)

    @property
    def gone_rows(self) -> int:
        """Of these, rows that only the cold tier held."""
        return sum(day.gone_rows for day in self.differing)

    @property
    def left_out_rows(self) -> int:
        """Late rows of all other days: no heal brings them."""
        return sum(day.late_rows for day in self.unequal if not day.whole)


@dataclass(frozen=True)
class SealedDays:
    """What the ledger holds of the sealed days of one table.

    :param broken: how many the last verification found broken
    :param oldest_verification: when the one was verified that was not for the longest time
    """

    days: int = 0
    newest: date | None = None
    broken: int = 0
    oldest_verification: datetime | None = None


@dataclass(frozen=True)
class OffsetComparison:
    """What the last comparison of a table's messages has found: broker against ClickHouse against Iceberg.

    :param missing: messages that ClickHouse, bronze or Iceberg lacked
    :param repeated: messages that were delivered more than once
    :param unclear: what else was wrong, so that nobody can tell how many messages are missing
    """

    at: datetime
    missing: int
    repeated: int
    unclear: int

    @property
    def passed(self) -> bool:
        """Whether all was compared and nothing is missing; a repetition loses nothing."""
        return not self.missing and not self.unclear


@dataclass(frozen=True)
class Records:
    """What the ledger holds of how right one cold table is; ``None`` is what could not be read.

    :param comparisons: their days are whole if the warm tier surely holds them as a whole by now
    :param offsets: ``None`` also if the table's messages are not followed
    :param gaps: what the table has missed, on record of the cold table as it is now
    """

    comparisons: Comparisons | None = None
    sealed: SealedDays | None = None
    offsets: OffsetComparison | None = None
    gaps: Sequence[Gap] | None = None

    @property
    def late_rows(self) -> int | None:
        """Late rows that may still be healed; ``None`` if no day has been compared."""
        return None if self.comparisons is None or self.comparisons.last is None else self.comparisons.late_rows


@dataclass(frozen=True)
class TableObservation:
    """One table, in all places that could be looked at.

    :param buffer: how far behind now the offload stays
    :param readable: whether it could be looked at; ``None`` while a service that it needs is away
    :param problem: why it could not be looked at, or will be refused
    :param refused: whether the next cycle will refuse it
    :param failure: why the last attempt failed, as the ledger says it; empty if it did not
    :param watermark: as the chain of snapshots says it
    :param lag_seconds: age of the oldest row that waits
    :param silent: whether no row has come for longer than ``idle_after_seconds``
    :param silent_since: timestamp of the last row, if it is silent and ever had one
    :param ttl_seconds: how long the source's TTL will keep the oldest row that waits; ``None`` if none waits, or
        nothing removes it
    :param maintenance: whether ``k2_maintenance`` looks after it
    :param last_maintenance: when the table was last tidied and all went well
    :param offsets: ``None`` also if its messages are not followed
    :param gaps: what the table has missed, on record
    :param skips: what was left out of the cold table on purpose, and what of it was brought
    """

    name: str
    layer: str
    transport: str
    buffer: timedelta = USUAL_BUFFER
    readable: bool | None = None
    problem: str | None = None
    refused: bool | None = None
    failure: str | None = None
    watermark: datetime | None = None
    last_success: datetime | None = None
    lag_seconds: float | None = None
    silent: bool | None = None
    silent_since: datetime | None = None
    ttl_seconds: float | None = None
    cold_rows: int | None = None
    snapshots: int | None = None
    metadata_bytes: int | None = None
    maintenance_overdue: bool | None = None
    history: History | None = None
    maintenance: bool = True
    last_maintenance: datetime | None = None
    totals: WindowTotals | None = None
    comparisons: Comparisons | None = None
    sealed: SealedDays | None = None
    offsets: OffsetComparison | None = None
    gaps: Sequence[Gap] | None = None
    skips: Skips | None = None

    @property
    def records(self) -> Records:
        """What the ledger says of how right it is."""
        return Records(self.comparisons, self.sealed, self.offsets, self.gaps)


@dataclass(frozen=True)
class DagObservation:
    """The latest runs of one DAG.

    :param active_since: since when its run has been running; ``None`` if none is
    :param waiting: runs that are queued
    :param last_start: when its newest run began
    :param last_success: when the newest of its runs that succeeded ended
    :param last_seconds: how long the newest run that has ended took
    :param failures: how many runs have failed since one succeeded, among the latest ones
    :param missed: how many runs should have begun since the newest one did, 3 or more as 3; ``None`` of a DAG that does
        not move rows, or never ran
    """

    dag_id: str
    active_since: datetime | None
    waiting: int
    last_start: datetime | None
    last_success: datetime | None
    last_seconds: float | None
    failures: int
    missed: int | None = None


@dataclass(frozen=True)
class Disk:
    """The file system that a lake in a folder is on."""

    size_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Observation:
    """Everything.

    :param at: when the look began
    :param seconds: how long it took
    :param up: services, by name, whether they answered
    :param disk: ``None`` for a lake in an object store
    :param clock_seconds: by how much ClickHouse's clock is ahead of this machine's; ``None`` while it is away
    :param old_ledger: what a person should know if an older version has made the ledger, so that it cannot be read
    :param pause: the longest one between the beginnings of two cycles
    """

    at: datetime
    seconds: float
    up: Mapping[str, bool]
    tables: Sequence[TableObservation] = ()
    dags: Sequence[DagObservation] = ()
    disk: Disk | None = None
    clock_seconds: float | None = None
    old_ledger: str | None = None
    pause: timedelta = USUAL_PAUSE
