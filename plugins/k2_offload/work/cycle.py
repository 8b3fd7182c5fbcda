"""One cycle: open or resume one window per table, and record what the cold tables then hold.

Between the two runs the Spark job (``include/spark_jobs/offload.py``). The rules are in
:mod:`k2_offload.core.exactly_once` and :mod:`k2_offload.core.windows`; this module does the I/O around them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.ledger import LockedTable
from k2_offload.core import queries
from k2_offload.core.exactly_once import LedgerUpdate, Published, WindowId, follow_chain, watermark_of
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.plan import PlannedColumn, PlannedWindow
from k2_offload.core.tables import TableSpec
from k2_offload.core.transports import TRANSPORTS
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Upstream, Window, cut_by_rows, format_time, upstream_limit, window_high
from k2_offload.work.tiers import Tiers

log = logging.getLogger(__name__)


def plan(tiers: Tiers, table: TableSpec, dag_run_id: str) -> PlannedWindow | None:
    """Open the table's next window, or resume the one that is open.

    :param dag_run_id: recorded with the window
    :returns: ``None`` if there is nothing to move
    :raises OffloadError: if the table cannot be moved now; nothing has changed then
    """
    reached(FaultPoint.PLAN_STARTED, table.name)
    columns = tiers.clickhouse.columns(table)
    with tiers.ledger.locked(table.name) as locked:
        cold = tiers.catalog.load_or_create(table, columns)
        reached(FaultPoint.COLD_TABLE_CREATED, table.name)
        state = _follow(tiers, table, locked, cold)
        if state.resume is not None:
            locked.resume(state.resume, dag_run_id)
            log.info("%s %s: resumed", table.name, state.resume.window)
            return _planned(table, columns, cold, state.resume)
        window_id = _open(tiers, table, locked, cold, state.watermark, dag_run_id)
        reached(FaultPoint.WINDOW_WRITTEN, table.name)
    reached(FaultPoint.WINDOW_OPENED, table.name)
    return _planned(table, columns, cold, window_id) if window_id else None


def commit(tiers: Tiers, table: TableSpec) -> tuple[Published | None, datetime | None]:
    """Record what the cold table holds.

    :returns: the window that was open and is now known as published, if any; and the watermark, if there is one
    :raises OffloadError: if the cold table cannot be read, or is not the one the ledger has followed
    """
    reached(FaultPoint.COMMIT_STARTED, table.name)
    with tiers.ledger.locked(table.name) as locked:
        cold = tiers.catalog.load(table)
        if cold is None:
            return None, None
        state = _follow(tiers, table, locked, cold)
        if state.resume is not None:
            locked.set_status("failed")
        reached(FaultPoint.WATERMARK_WRITTEN, table.name)
    reached(FaultPoint.COMMITTED, table.name)
    return (cold.published if state.committed else None), state.watermark


def mark_failed(tiers: Tiers, table: TableSpec) -> None:
    """Show in the ledger that the table could not be planned."""
    with tiers.ledger.locked(table.name) as locked:
        locked.set_status("failed")


def _follow(tiers: Tiers, table: TableSpec, locked: LockedTable, cold: ColdTable) -> LedgerUpdate:
    published = cold.published
    state = follow_chain(table.name, locked.entry(), cold.uuid, published)
    if state.committed is not None and published is not None:
        locked.commit(published, tiers.now())
        log.info("%s %s: committed, %d rows", table.name, state.committed.window, published.snapshot.rows)
    if state.abandoned is not None:
        locked.abandon(state.abandoned)
        log.warning("%s %s: abandoned, the cold table has moved on", table.name, state.abandoned.window)
    if state.moved and state.committed is None:
        log.warning("%s: watermark set to %s, as the cold table says", table.name, format_time(state.watermark))
    locked.follow(cold.uuid, published)
    return state


def _open(
    tiers: Tiers, table: TableSpec, locked: LockedTable, cold: ColdTable, watermark: datetime, dag_run_id: str
) -> WindowId | None:
    # The earlier of the two clocks: one that is ahead would reach into rows still in flight.
    now = min(tiers.now(), tiers.clickhouse.now())
    limit = upstream_limit([_upstream(tiers, name) for name in table.upstream], now, table.idle_after)
    high = window_high(
        now=now,
        buffer=table.buffer,
        last_row=tiers.clickhouse.newest_row(table, watermark),
        out_of_order=table.out_of_order,
        idle_after=table.idle_after,
        limit=limit,
    )
    if high is None or high <= watermark:
        log.info("%s: no new rows at or above %s", table.name, format_time(watermark))
        return None
    counts = tiers.clickhouse.rows_per_hour(table, Window(watermark, high))
    if not counts.rows:
        log.info("%s: no rows yet in %s", table.name, Window(watermark, high))
        return None
    window = cut_by_rows(Window(watermark, high), counts.rows, table.max_window_rows)
    hours = [hour for hour in counts.rows if hour < window.high]
    window_id = WindowId(cold.uuid, window)
    locked.open(
        window_id,
        dag_run_id=dag_run_id,
        rows=sum(counts.rows[hour] for hour in hours),
        max_sequence=max((counts.max_sequence[hour] for hour in hours if hour in counts.max_sequence), default=None),
        now=now,
    )
    log.info("%s %s: planned", table.name, window)
    return window_id


def _upstream(tiers: Tiers, name: str) -> Upstream:
    """Read anew for every table, after the clock: a market that has woken since would still pass for idle."""
    table = tiers.tables[name]
    cold = tiers.catalog.load(table)
    watermark = watermark_of(cold.published if cold else None)
    newest = tiers.clickhouse.newest_row(table, watermark) or tiers.clickhouse.newest_row(table)
    return Upstream(name, watermark, newest)


def _planned(table: TableSpec, columns: Sequence[Column], cold: ColdTable, window_id: WindowId) -> PlannedWindow:
    return PlannedWindow(
        table=table.name,
        target=table.target,
        window_id=str(window_id),
        transport=table.transport,
        partition_field=cold.partition_field,
        columns=tuple(PlannedColumn(column.name, column.iceberg_type) for column in columns),
        max_file_rows=TRANSPORTS[table.transport].limit_file_rows(table.max_file_rows),
        parallel_exports=table.parallel_exports,
        rows_per_slot_sql=queries.rows_per_slot(table, window_id.window),
        select_split_sql=queries.select_split(table, columns, window_id.window),
    )
