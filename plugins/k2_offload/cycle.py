"""One cycle, without Airflow: open or resume one window per table, and record what the cold tables then hold.

Between the two runs the Spark job (``include/spark_jobs/offload.py``). The rules are in
:mod:`k2_offload.core.exactly_once` and :mod:`k2_offload.core.windows`; this module does the I/O around them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.iceberg import ColdCatalog, ColdTable
from k2_offload.adapters.ledger import Ledger, LockedTable
from k2_offload.core import queries
from k2_offload.core.exactly_once import Published, Reconciled, WindowId, reconcile, watermark_of
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.plan import PlannedColumn, PlannedTable
from k2_offload.core.splits import MAX_READ_ROWS
from k2_offload.core.tables import Tables, TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Upstream, Window, cut_by_rows, format_time, upstream_limit, window_high

log = logging.getLogger(__name__)


@dataclass
class Cycle:
    """The outside world of one run, and the steps that change it.

    :param now: the clock; returns an aware UTC time
    :param dag_run_id: recorded with every window
    :param lake_collection: ClickHouse named collection of the lake's object store
    """

    tables: Tables
    ledger: Ledger
    clickhouse: ClickHouse
    catalog: ColdCatalog
    now: Callable[[], datetime]
    dag_run_id: str
    lake_collection: str = "k2_lake"

    def plan(self, table: TableSpec) -> PlannedTable | None:
        """Open the table's next window, or resume the one that is open.

        :returns: ``None`` if there is nothing to move
        :raises OffloadError: if the table cannot be moved now; nothing has changed then
        """
        reached(FaultPoint.PLAN_STARTED, table.name)
        columns = self.clickhouse.columns(table)
        with self.ledger.locked(table.name) as locked:
            cold = self.catalog.load_or_create(table, columns)
            reached(FaultPoint.COLD_TABLE_CREATED, table.name)
            state = self._reconcile(table, locked, cold)
            if state.resume is not None:
                locked.resume(state.resume, self.dag_run_id)
                log.info("%s %s: resumed", table.name, state.resume.window)
                return _planned(table, columns, cold, state.resume)
            window_id = self._open(table, locked, cold, state.watermark)
            reached(FaultPoint.WINDOW_WRITTEN, table.name)
        reached(FaultPoint.WINDOW_OPENED, table.name)
        return _planned(table, columns, cold, window_id) if window_id else None

    def commit(self, table: TableSpec) -> tuple[Published | None, datetime | None]:
        """Record what the cold table holds.

        :returns: the window that was open and is now known as published, if any; and the watermark, if there is one
        :raises OffloadError: if the cold table cannot be read, or is not the one the ledger has followed
        """
        reached(FaultPoint.COMMIT_STARTED, table.name)
        with self.ledger.locked(table.name) as locked:
            cold = self.catalog.load(table)
            if cold is None:
                return None, None
            state = self._reconcile(table, locked, cold)
            if state.resume is not None:
                locked.set_status("failed")
            reached(FaultPoint.WATERMARK_WRITTEN, table.name)
        reached(FaultPoint.COMMITTED, table.name)
        return (cold.published if state.committed else None), state.watermark

    def mark_failed(self, table: TableSpec) -> None:
        """Show in the ledger that the table could not be planned."""
        with self.ledger.locked(table.name) as locked:
            locked.set_status("failed")

    def _reconcile(self, table: TableSpec, locked: LockedTable, cold: ColdTable) -> Reconciled:
        published = cold.published
        state = reconcile(table.name, locked.entry(), cold.uuid, published)
        if state.committed is not None and published is not None:
            locked.commit(published, self.now())
            log.info("%s %s: committed, %d rows", table.name, state.committed.window, published.snapshot.rows)
        if state.abandoned is not None:
            locked.abandon(state.abandoned)
            log.warning("%s %s: abandoned, the cold table has moved on", table.name, state.abandoned.window)
        if state.moved and state.committed is None:
            log.warning("%s: watermark set to %s, as the cold table says", table.name, format_time(state.watermark))
        locked.follow(cold.uuid, published)
        return state

    def _open(self, table: TableSpec, locked: LockedTable, cold: ColdTable, watermark: datetime) -> WindowId | None:
        # The earlier of the two clocks: one that is ahead would reach into rows still in flight.
        now = min(self.now(), self.clickhouse.now())
        limit = upstream_limit([self._upstream(name) for name in table.upstream], now, table.idle_after)
        high = window_high(
            now=now,
            buffer=table.buffer,
            last_row=self.clickhouse.newest_row(table, watermark),
            out_of_order=table.out_of_order,
            idle_after=table.idle_after,
            limit=limit,
        )
        if high is None or high <= watermark:
            log.info("%s: no new rows at or above %s", table.name, format_time(watermark))
            return None
        counts = self.clickhouse.rows_per_hour(table, Window(watermark, high))
        if not counts.rows:
            log.info("%s: no rows yet in %s", table.name, Window(watermark, high))
            return None
        window = cut_by_rows(Window(watermark, high), counts.rows, table.max_window_rows)
        hours = [hour for hour in counts.rows if hour < window.high]
        window_id = WindowId(cold.uuid, window)
        locked.open(
            window_id,
            dag_run_id=self.dag_run_id,
            rows=sum(counts.rows[hour] for hour in hours),
            max_sequence=max(
                (counts.max_sequence[hour] for hour in hours if hour in counts.max_sequence), default=None
            ),
            now=now,
        )
        log.info("%s %s: planned", table.name, window)
        return window_id

    def _upstream(self, name: str) -> Upstream:
        """Read anew for every table, after the clock: a market that has woken since would still pass for idle."""
        table = self.tables[name]
        cold = self.catalog.load(table)
        watermark = watermark_of(cold.published if cold else None)
        newest = self.clickhouse.newest_row(table, watermark) or self.clickhouse.newest_row(table)
        return Upstream(name, watermark, newest)


def _planned(table: TableSpec, columns: Sequence[Column], cold: ColdTable, window_id: WindowId) -> PlannedTable:
    return PlannedTable(
        table=table.name,
        target=table.target,
        window_id=str(window_id),
        transport=table.transport,
        partition_field=cold.partition_field,
        columns=tuple(PlannedColumn(column.name, column.iceberg_type) for column in columns),
        max_file_rows=min(table.max_file_rows, MAX_READ_ROWS) if table.transport == "jdbc" else table.max_file_rows,
        parallel_exports=table.parallel_exports,
        rows_per_slot_sql=queries.rows_per_slot(table, window_id.window),
        select_split_sql=queries.select_split(table, columns, window_id.window),
    )
