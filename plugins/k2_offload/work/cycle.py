"""One cycle: open or resume one window per table, and record what the cold tables then hold.

Between the two runs the Spark job (``include/spark_jobs/offload.py``). The rules are in
:mod:`k2_offload.core.exactly_once` and :mod:`k2_offload.core.windows`; this module does the I/O around them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from functools import partial

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.locked_table import LockedTable
from k2_offload.adapters.log_lines import about
from k2_offload.adapters.replicas import check_replicas
from k2_offload.core import queries
from k2_offload.core.cuts import Counts, cut_by_rows, next_row_limit, rows_of_next_attempt
from k2_offload.core.errors import ChangedTable, ExpiredRows
from k2_offload.core.exactly_once import (
    FIRST_WATERMARK,
    LedgerEntry,
    LedgerUpdate,
    Published,
    WindowId,
    check_cut,
    follow_chain,
    refuse_another_ledger,
    refuse_to_recreate,
    starting_over,
    watermark_of,
)
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.gaps import Gap, GapKind, Looked, first_contact
from k2_offload.core.plan import PlannedWindow, plan_rows
from k2_offload.core.schema_change import settle
from k2_offload.core.skips import Skips
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import TICK, Upstream, Window, format_time, upstream_limit, window_high
from k2_offload.work.holding import find_expired, what_is_held
from k2_offload.work.schema import check_fits, follow_source
from k2_offload.work.tiers import Tiers

log = logging.getLogger(__name__)

Seen = Callable[[ColdTable, Published], None]


def plan(
    tiers: Tiers,
    table: TableSpec,
    dag_run_id: str,
    upstream_watermarks: dict[str, datetime] | None = None,
    seen: Seen = lambda *_: None,
) -> PlannedWindow | None:
    """Open the table's next window, or resume the one that is open.

    :param dag_run_id: recorded with the window
    :param upstream_watermarks: of tables of the layer below, filled and read here: what one run has planned shares it,
        so that it loads each of them once
    :param seen: gets the window that was open and is now known as published, if any
    :returns: ``None`` if there is nothing to move
    :raises OffloadError: if the table cannot be moved now; nothing has changed then
    """
    reached(FaultPoint.PLAN_STARTED, table.name)
    with tiers.ledger.locked(table.name) as locked:
        columns = tiers.clickhouse.columns(table)
        entry = locked.entry()
        cold = tiers.catalog.load(table)
        if cold is None:
            refuse_to_recreate(table.name, entry.table_uuid)
            cold = tiers.catalog.create(table, columns)
        refuse_to_start_over(tiers, table, entry, cold)
        reached(FaultPoint.COLD_TABLE_CREATED, table.name)
        changes = check_fits(table, cold, columns)
        state = _follow(tiers, table, locked, entry, cold, seen)
        follow_source(table, cold, changes, state.watermark, window_open=state.resume is not None)
        replicated = check_replicas(tiers.clickhouse, table)
        # By the earlier of the two clocks, as one that is ahead would reach into rows still in flight; but the TTL may
        # go by the later one.
        now, later = sorted((tiers.now(), tiers.clickhouse.now()))
        _check_expired(tiers, table, locked.looked, state.watermark, later)
        if state.resume is None:
            below = {} if upstream_watermarks is None else upstream_watermarks
            limit = upstream_limit(
                [read_upstream(tiers, name, now, below) for name in table.upstream], now, table.idle_after
            )
            opened = _open(tiers, table, locked, cold, state.watermark, now, limit, dag_run_id)
        else:
            opened = _resume(tiers, table, locked, entry, state.resume, now, dag_run_id)
        reached(FaultPoint.WINDOW_WRITTEN, table.name)
    reached(FaultPoint.WINDOW_OPENED, table.name)
    if opened is None:
        return None
    window_id, rows = opened
    own = {"window_id": str(window_id), "rows": rows, "ledger_id": locked.ledger_id}
    condition = queries.within(table, window_id.window)
    columns = settle(columns, cold.columns)
    return plan_rows(PlannedWindow, table, columns, cold.partition_field, condition, replicated, **own)


def commit(
    tiers: Tiers, table: TableSpec, *, may_start_over: bool = False, seen: Seen = lambda *_: None
) -> datetime | None:
    """Record what the cold table holds.

    :param may_start_over: see :func:`refuse_to_start_over`
    :param seen: as of :func:`plan`; it counts once this has returned
    :returns: the watermark, if there is one
    :raises OffloadError: if the cold table cannot be read, or is not the one the ledger has followed
    """
    reached(FaultPoint.COMMIT_STARTED, table.name)
    with tiers.ledger.locked(table.name) as locked:
        cold = tiers.catalog.load(table)
        if cold is None:
            return None
        entry = locked.entry()
        if not may_start_over:
            refuse_to_start_over(tiers, table, entry, cold)
        state = _follow(tiers, table, locked, entry, cold, seen)
        if state.resume is not None:
            locked.fail(
                state.resume,
                f"{table.name} {state.resume.window}: planned and not published; the log of `offload` says why. "
                f"No row is lost: the next run resumes the same window, `k2 run {table.name}` at once.",
            )
        reached(FaultPoint.WATERMARK_WRITTEN, table.name)
    reached(FaultPoint.COMMITTED, table.name)
    return state.watermark


def planning_ledger(tiers: Tiers, table: TableSpec, cold: ColdTable) -> str | None:
    """Which ledger plans what comes between windows: a heal, or a backfill.

    :raises DamagedTable: if another deployment's window is the newest one; a person decides which of the two goes on
    """
    entry = tiers.ledger.read_entry(table.name)
    refuse_another_ledger(table.name, cold.published, entry.ledger_id, entry.table_uuid, entry.watermark)
    return entry.ledger_id


def refuse_to_start_over(tiers: Tiers, table: TableSpec, entry: LedgerEntry, cold: ColdTable) -> None:
    """Do not follow an empty cold table where a full one was, nor one under a new name, until a person accepts that.

    A table is known by its name in the table file: its seals, gaps and comparisons would not be found any more.

    :raises DamagedTable: if the ledger has not followed it yet, and its folder holds another one with rows
    :raises ChangedTable: if the ledger has followed it under another name
    """
    if entry.table_uuid is not None:
        return
    if not cold.snapshot_id and (other := cold.other_in_folder()) is not None:
        raise starting_over(table.name, other.metadata_file, other.rows)
    records = tiers.ledger.read_tables().values()
    before = next((each.table for each in records if each.table_uuid == cold.uuid and each.table != table.name), None)
    if before is not None:
        raise ChangedTable(
            f"{table.name}: the ledger has followed its cold table {table.target} under the name {before}, and keeps "
            "its seals, gaps and comparisons under that. Nothing was moved and no row is lost. Call it "
            f"{before} in the table file again. `k2 watermark rebuild {table.name}` goes on under the new name, and "
            "without what is kept under the old one."
        )


def mark_failed(tiers: Tiers, table: TableSpec, reason: str) -> None:
    """Show in the ledger that the table could not be planned, and why."""
    with tiers.ledger.locked(table.name) as locked:
        locked.set_failed(reason)


def _follow(
    tiers: Tiers, table: TableSpec, locked: LockedTable, entry: LedgerEntry, cold: ColdTable, seen: Seen
) -> LedgerUpdate:
    published = cold.published
    state = follow_chain(table.name, entry, cold.uuid, published)
    if entry.looked != Looked() and (entry.watermark is None or state.watermark < entry.watermark):
        locked.set_looked(Looked())  # rows that had been moved no longer are
    if state.committed is not None and published is not None:
        locked.commit(published, tiers.now())
        seen(cold, published)
        window, rows, size = state.committed.window, published.snapshot.rows, published.snapshot.size_bytes
        told = about("commit", table.name, window, rows=rows, bytes=size)
        log.info("%s %s: committed, %d rows, %d bytes", table.name, window, rows, size, extra=told)
        if entry.row_limit is not None and entry.planned_at is not None:
            took = tiers.now() - entry.planned_at
            locked.limit_rows(next_row_limit(published.snapshot.rows, took, tiers.task_timeout))
        missing = entry.planned_rows - published.snapshot.rows
        if missing > 0:  # no audit has let that pass: somebody has published it by hand
            log.warning("%s %s: %d rows fewer than planned", table.name, state.committed.window, missing)
            locked.record_gap(Gap(state.committed.window, GapKind.FEWER_ROWS, missing, tiers.now()))
    if published is not None and (skipped := published.snapshot.skipped_rows) is not None:
        # Also where whoever skipped them did not live to see it, and once however often it is seen.
        locked.record_gap(Gap(published.window_id.window, GapKind.SKIPPED, skipped, tiers.now()))
    if published is not None and published.snapshot.given_up:
        known = {(gap.kind, gap.window, gap.rows) for gap in tiers.ledger.read_gaps().get(table.name, ())}
        for each in published.snapshot.given_up:
            gap = Gap(Window(each.low, each.high), GapKind.FEWER_ROWS, each.rows, tiers.now())
            if (gap.kind, gap.window, gap.rows) not in known:
                locked.record_gap(gap)
    if state.abandoned is not None:
        locked.abandon(state.abandoned)
        locked.set_status("initialized")
        log.warning("%s %s: abandoned, the cold table has moved on", table.name, state.abandoned.window)
    if state.moved and state.committed is None:
        log.warning("%s: watermark set to %s, as the cold table says", table.name, format_time(state.watermark))
    locked.follow(cold.uuid, published)
    return state


def _open(
    tiers: Tiers,
    table: TableSpec,
    locked: LockedTable,
    cold: ColdTable,
    watermark: datetime,
    now: datetime,
    limit: Upstream | None,
    dag_run_id: str,
) -> tuple[WindowId, int] | None:
    """Open the next window, if there is anything to move in it.

    :returns: the window, and how many rows the source holds in it
    """
    last_row = tiers.clickhouse.newest_row(table, watermark, before=now + table.future + TICK)
    high = window_high(
        now=now,
        buffer=table.buffer,
        last_row=last_row,
        out_of_order=table.out_of_order,
        idle_after=table.idle_after,
        limit=limit.watermark if limit else None,
    )
    if limit is not None and high == limit.watermark:
        told = about("plan", table.name)
        log.info("%s: held back at %s by %s", table.name, format_time(limit.watermark), limit.table, extra=told)
    elif high is None or high <= watermark:
        log.info("%s: no new rows at or above %s", table.name, format_time(watermark), extra=about("plan", table.name))
    if high is None or high <= watermark:
        if last_row is None:
            locked.set_looked(replace(locked.looked, looked_at=now))
        return None
    whole = Window(watermark, high)
    if cold.published is None and table.history == "backfill":
        _begin_at_the_front(tiers, table, locked, cold, whole, now)
        return None
    max_rows = min(table.max_window_rows, locked.row_limit or table.max_window_rows)
    window, counts = cut_by_rows(table.name, whole, partial(tiers.clickhouse.rows_per_step, table), max_rows)
    if not counts.rows:
        log.info("%s: no rows yet in %s", table.name, whole, extra=about("plan", table.name, whole, rows=0))
        locked.set_looked(replace(locked.looked, looked_at=high))
        return None
    if watermark == FIRST_WATERMARK:
        locked.set_looked(first_contact(now, table.warm_retention))
    else:
        cleared = locked.looked.cleared_until or watermark
        locked.set_looked(Looked(cleared_until=max(cleared, watermark, min(counts.rows))))
    if locked.row_limit is not None and (window == whole or max_rows == table.max_window_rows):
        locked.limit_rows(None)
    window_id = WindowId(cold.uuid, window)
    _record_open(locked, window_id, counts, now, dag_run_id)
    told = about("plan", table.name, window, rows=counts.total)
    log.info("%s %s: planned, %d rows", table.name, window, counts.total, extra=told)
    return window_id, counts.total


def _begin_at_the_front(
    tiers: Tiers, table: TableSpec, locked: LockedTable, cold: ColdTable, window: Window, now: datetime
) -> None:
    """Leave out all that a new table's first window would move, until it is brought by `k2 backfill`."""
    rows = tiers.clickhouse.count_within(table, window)
    skips, ledger_id = Skips().skipping(window), locked.ledger_id
    cold.publish_without_rows(WindowId(cold.uuid, window), table.timestamp_column, rows, skips, ledger_id=ledger_id)
    locked.set_looked(first_contact(now, table.warm_retention))
    log.warning(
        "%s: begins at %s, as the table file says; %d rows before it are left to `k2 backfill %s`",
        table.name, format_time(window.high), rows, table.name,
    )  # fmt: skip


def _resume(
    tiers: Tiers,
    table: TableSpec,
    locked: LockedTable,
    entry: LedgerEntry,
    opened: WindowId,
    now: datetime,
    dag_run_id: str,
) -> tuple[WindowId, int]:
    """Go on with the open window, or with the first part of it if it has failed too often in one piece.

    An attempt that is still moving the larger one does no harm: both begin at the same time, so that whichever is
    published first makes the other one stale.
    """
    limit = rows_of_next_attempt(entry.planned_rows, table.max_window_rows, entry.failures)
    if limit < entry.planned_rows:
        count = partial(tiers.clickhouse.rows_per_step, table)
        window, counts = cut_by_rows(table.name, opened.window, count, limit, at_least=entry.planned_rows)
        if window != opened.window:
            smaller = WindowId(opened.table_uuid, window)
            locked.abandon(opened)
            _record_open(locked, smaller, counts, now, dag_run_id, failures=1)
            locked.limit_rows(counts.total)
            log.warning(
                "%s %s: made smaller, to %d rows: %s has %d and has failed",
                table.name, window, counts.total, opened.window, entry.planned_rows,
                extra=about("plan", table.name, window, rows=counts.total),
            )  # fmt: skip
            return smaller, counts.total
        log.warning("%s %s: cannot be made smaller, all its rows have one timestamp", table.name, window)
    locked.resume(opened, dag_run_id)
    told = about("plan", table.name, opened.window, rows=entry.planned_rows)
    log.info("%s %s: resumed, %d rows", table.name, opened.window, entry.planned_rows, extra=told)
    return opened, entry.planned_rows


_LARGEST_SEQUENCE = 10**20
"""Below that the ledger has room; it is for reports alone."""


def _record_open(
    locked: LockedTable, window_id: WindowId, counts: Counts, now: datetime, dag_run_id: str, failures: int = 0
) -> None:
    highest = max((each for each in counts.max_sequence.values() if abs(each) < _LARGEST_SEQUENCE), default=None)
    locked.open(
        window_id,
        dag_run_id=dag_run_id,
        rows=counts.total,
        max_sequence=highest,
        first_row=counts.first_row,
        now=now,
        failures=failures,
    )


def _check_expired(tiers: Tiers, table: TableSpec, looked: Looked, watermark: datetime, now: datetime) -> None:
    """Stop where rows may have gone unseen; what is older than the first window is nobody's loss.

    :raises ExpiredRows: until a person has accepted it
    """
    if watermark == FIRST_WATERMARK:
        return
    gap = find_expired(tiers, table, watermark, looked, now)
    if gap is not None:
        hours = (gap.high - gap.low) / timedelta(hours=1)
        held = what_is_held(tiers, table)
        raise ExpiredRows(
            f"{table.name}: rows in {gap} ({hours:,.1f} hours) may have expired in ClickHouse before they were moved: "
            f"it keeps {table.warm_retention_text}, and nobody has looked there since. Nothing was moved, and what is "
            f"still there is not lost. {held}`k2 accept {table.name}` shows how many rows are left "
            "in that range and goes on with them; the gap stays on record."
        )


def read_upstream(tiers: Tiers, name: str, now: datetime, watermarks: dict[str, datetime]) -> Upstream:
    """Its newest row, read anew for every table, after the clock: a market that has woken would still pass for idle.

    Its watermark may be of a moment ago: watermarks only grow, and a lower one only holds back more. (A rollback is no
    other than one right after the plan.)
    """
    table = tiers.tables[name]
    if name not in watermarks:
        cold = tiers.catalog.load(table)
        check_cut(name, cold.published if cold else None, table.timestamp_column)  # its newest row would mean nothing
        watermarks[name] = watermark_of(cold.published if cold else None)
    watermark = watermarks[name]
    newest_row, before = tiers.clickhouse.newest_row, now + table.future + TICK
    return Upstream(name, watermark, newest_row(table, watermark, before) or newest_row(table, before=before))
