"""Reads where a table stands: in ClickHouse, in Iceberg and in the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.ledger_records import TableRecord
from k2_offload.core import queries
from k2_offload.core.day_comparison import first_whole_day, window_to_compare
from k2_offload.core.errors import ChangedTable, DamagedTable, InvalidSource, OffloadError, Unreachable
from k2_offload.core.exactly_once import FIRST_WATERMARK, refuse_another, refuse_another_ledger, watermark_of
from k2_offload.core.gaps import Gap, on_record
from k2_offload.core.history import History
from k2_offload.core.lag import Silence, lag, silence
from k2_offload.core.late_rows import late_rows
from k2_offload.core.maintenance import is_overdue
from k2_offload.core.skips import Skips
from k2_offload.core.tables import TableSpec
from k2_offload.core.ttl import TimeLeft
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import TICK, Upstream, held_back_by, upstream_limit, window_high
from k2_offload.work.cycle import read_upstream
from k2_offload.work.holding import read_kept
from k2_offload.work.schema import check_fits
from k2_offload.work.tiers import Tiers
from k2_offload.work.ttl import read_time_left, read_waiting

Below = dict[str, Upstream | None]
"""What one look has read of the tables that others are made from, by name; ``None`` is one that cannot be read."""


@dataclass(frozen=True)
class Metadata:
    """What every load of a cold table reads.

    :param size_bytes: of the current metadata file
    :param overdue: whether maintenance should have been done by now
    :param history: what the list of snapshots says
    """

    snapshots: int
    size_bytes: int
    overdue: bool
    history: History = field(default_factory=History)


@dataclass(frozen=True)
class TableStatus:
    """Where one table stands, in all three places.

    :param record: what the ledger says
    :param watermark: what the cold table says
    :param lag: see :func:`k2_offload.core.lag.lag`
    :param silence: see :func:`k2_offload.core.lag.silence`
    :param metadata: of the cold table; ``None`` while there is none
    :param refusal: why the next cycle will refuse the table
    :param late: see :func:`k2_offload.core.late_rows.late_rows`
    :param before_first: rows below the first watermark, which no window holds
    :param future: rows from the future, which wait for their time
    :param gaps: what the table has missed, on record
    :param held_back_by: the table whose watermark this one must not pass, if it waits for that
    :param unreadable_below: tables that it is made from and that cannot be read: no new window of it begins
    :param expiry: when the TTL may remove the first row that has not been moved, if it may and there is one
    :param rests: whether the next window would end at or before the watermark, whatever waits: no cycle moves it yet
    :param problem: why the table could not be looked at; what is not known is ``None`` then, and what waits is told by
        the ledger's watermark if the cold table cannot say
    :param skips: what the cold table says of ranges that were skipped
    """

    table: TableSpec
    record: TableRecord | None
    watermark: datetime | None = None
    lag: timedelta | None = None
    silence: Silence | None = None
    metadata: Metadata | None = None
    refusal: str | None = None
    warm_rows: int | None = None
    cold_rows: int | None = None
    late: dict[date, int] | None = None
    before_first: int | None = None
    future: int | None = None
    gaps: Sequence[Gap] = ()
    held_back_by: Upstream | None = None
    expiry: TimeLeft | None = None
    problem: str | None = None
    skips: Skips | None = None
    unreadable_below: Sequence[str] = ()
    rests: bool = False

    @property
    def silent(self) -> bool:
        """Whether the source is silent and all its rows have moved: no lag says how far behind the table is."""
        return self.silence is not None and self.lag == timedelta(0)

    @property
    def late_rows(self) -> int | None:
        """Late rows of all days."""
        return None if self.late is None else sum(self.late.values())


def read_status(
    tiers: Tiers,
    table: TableSpec,
    record: TableRecord | None,
    counts: bool,
    gaps: Sequence[Gap] = (),
    *,
    below: Below | None = None,
) -> TableStatus:
    """Look at one table; what is wrong with it alone becomes its ``problem``, beside what waits and for how long.

    :param record: what the ledger says of it
    :param gaps: what the ledger has on record of it
    :param counts: whether to count warm and late rows
    :param below: to look for the table that holds it back: see :func:`find_holder`
    :raises Unreachable: if a service is down
    """
    watermark = None
    try:
        cold = tiers.load_cold(table)
        watermark = watermark_of(cold.published) if cold and cold.published else None
        columns = tiers.clickhouse.columns(table)
        now = max(tiers.now(), tiers.clickhouse.now())  # one that is behind would make the lag too small
        before = now + table.future + TICK
        last_row = tiers.clickhouse.newest_row(table, watermark or FIRST_WATERMARK, before)
        newest_row = last_row or tiers.clickhouse.newest_row(table, before=before)
        high = next_high(table, last_row, now)
        oldest_waiting = tiers.clickhouse.oldest_row(table, watermark or FIRST_WATERMARK, before=now)
        early, future = (None, None)
        if counts:
            early, future = tiers.clickhouse.count_outside(table, FIRST_WATERMARK, now + table.future)
        return TableStatus(
            table,
            record,
            watermark,
            lag=lag(oldest_waiting, now),
            silence=silence(newest_row, watermark, now, table.idle_after),
            metadata=read_metadata(cold, now) if cold else None,
            refusal=_refusal(table, cold, columns, record) if cold else None,
            warm_rows=tiers.clickhouse.count(table) if counts else None,
            cold_rows=cold.total_rows if cold else 0,
            late=_find_late_rows(tiers, table, cold) if counts else None,
            before_first=early,
            future=future,
            gaps=on_record(gaps, cold.skips) if cold else gaps,
            held_back_by=None if below is None else find_holder(tiers, table, high, now, below),
            expiry=read_time_left(tiers, table, oldest_waiting),
            skips=cold.skips if cold else None,
            rests=high is not None and watermark is not None and high <= watermark,
            unreadable_below=[] if below is None else [name for name in table.upstream if below[name] is None],
        )
    except Unreachable:
        raise
    except OffloadError as error:
        known = watermark or (record.watermark if record else None)
        waiting, expiry = read_waiting(tiers, table, known, tiers.now())
        return TableStatus(table, record, lag=waiting, gaps=gaps, expiry=expiry, problem=str(error))


def read_cold_status(tiers: Tiers, table: TableSpec, record: TableRecord | None) -> TableStatus:
    """Look at the cold side of one table alone, as :func:`read_status` does with both.

    :raises Unreachable: if the catalog is down
    """
    try:
        cold = tiers.load_cold(table)
        if cold is None:
            return TableStatus(table, record, cold_rows=0)
        watermark = watermark_of(cold.published) if cold.published else None
        metadata = read_metadata(cold, tiers.now())
        return TableStatus(table, record, watermark, metadata=metadata, cold_rows=cold.total_rows, skips=cold.skips)
    except Unreachable:
        raise
    except OffloadError as error:
        return TableStatus(table, record, problem=str(error))


def read_metadata(cold: ColdTable, now: datetime) -> Metadata:
    """What every load of a cold table reads."""
    snapshots, size_bytes = len(cold.chain), cold.metadata_bytes()
    return Metadata(snapshots, size_bytes, is_overdue(snapshots, size_bytes), cold.chain.history(now))


def _refusal(table: TableSpec, cold: ColdTable, columns: Sequence[Column], record: TableRecord | None) -> str | None:
    try:
        if record is not None:
            refuse_another(table.name, cold.uuid, record.table_uuid)
            known = record.ledger_id, record.table_uuid, record.watermark
            refuse_another_ledger(table.name, cold.published, *known)
        check_fits(table, cold, columns)
    except (ChangedTable, DamagedTable, InvalidSource) as error:
        return str(error)
    return None


def find_holder(tiers: Tiers, table: TableSpec, high: datetime | None, now: datetime, below: Below) -> Upstream | None:
    """The table that holds this one back, if one does: see :func:`k2_offload.core.windows.held_back_by`.

    :param high: see :func:`next_high`
    :param below: tables of the layer below, filled and read here: one look shares it, so that it reads each of them
        once, however many tables are made from it. One that cannot be read holds nothing back here
    :raises Unreachable: if a service is down
    """
    if not table.upstream:
        return None
    for name in table.upstream:
        if name not in below:
            below[name] = _read_below(tiers, name, now)
    readable = [found for name in table.upstream if (found := below[name]) is not None]
    return held_back_by(upstream_limit(readable, now, table.idle_after), high)


def next_high(table: TableSpec, last_row: datetime | None, now: datetime) -> datetime | None:
    """Where its next window would end if no other table held it back.

    :param last_row: the newest one at or above its watermark
    """
    return window_high(
        now=now,
        buffer=table.buffer,
        last_row=last_row,
        out_of_order=table.out_of_order,
        idle_after=table.idle_after,
        limit=None,
    )


def _read_below(tiers: Tiers, name: str, now: datetime) -> Upstream | None:
    """``None`` if it cannot be read: its own line says why, and what is made from it can be looked at all the same."""
    try:
        return read_upstream(tiers, name, now, {})
    except Unreachable:
        raise
    except OffloadError:
        return None


def _find_late_rows(tiers: Tiers, table: TableSpec, cold: ColdTable | None) -> dict[date, int] | None:
    if cold is None:
        return {}
    kept = read_kept(tiers, table)
    first = kept.first(first_whole_day(tiers.now(), table.warm_retention))
    window = window_to_compare(watermark_of(cold.published), first)
    if window is None:
        return {}
    since = window.low.date()
    cold_rows = cold.rows_per_day(table.partition_column, since)
    if cold_rows is None:
        return None
    warm_rows = tiers.clickhouse.rows_per_day(queries.rows_per_day(table, queries.within(table, window)))
    late = late_rows(warm_rows, cold_rows, since)
    return {day: rows for day, rows in late.items() if not kept.is_gone(day)}
