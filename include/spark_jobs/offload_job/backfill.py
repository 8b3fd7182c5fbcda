"""Brings one skipped range: stage → audit → publish, in the order that :mod:`k2_offload.core.backfill` asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from k2_offload.core.backfill import BackfillId, BackfillStamp, audit_backfill, decide_backfill
from k2_offload.core.errors import AuditFailed, OffloadError, StaleWindow
from k2_offload.core.exactly_once import HEALED_BRANCH, PublishDecision
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.limits import PUBLISH_ATTEMPTS
from k2_offload.core.plan import PlannedBackfill
from k2_offload.core.splits import split_days
from offload_job.publishing import MAIN, publish_between
from offload_job.steps import Steps
from offload_job.transport import check_source, text_checked

if TYPE_CHECKING:
    from k2_offload.adapters.clickhouse import ClickHouse
    from k2_offload.core.exactly_once import Snapshot
    from offload_job.cold_table_writer import ColdTableWriter
    from offload_job.transport import Transport

log = logging.getLogger(__name__)


def backfill(
    planned: PlannedBackfill,
    backfill_id: BackfillId,
    cold: ColdTableWriter,
    clickhouse: ClickHouse,
    transport: Transport,
    new_attempt: Callable[[], str],
) -> Snapshot | None:
    """Bring one skipped range. Any number of processes may try that at the same time, and any of them die.

    :param new_attempt: gives a name that was never used before
    :returns: what was published; ``None`` if the cold table held the range already
    :raises StaleWindow: if it has to be planned anew
    :raises OffloadError: if nothing was published by this call
    """
    steps = Steps(log, planned.table, backfill_id.window)
    reached(FaultPoint.BACKFILL_STARTED, planned.table)
    splits = split_days(clickhouse.rows_per_slot(planned.rows_per_slot_sql), planned.max_file_rows)
    counted = sum(split.rows for split in splits)
    stamp = _check(planned, backfill_id, cold, cold.head, counted, new_attempt())
    if stamp is None:
        return None
    cold.check_columns(planned.columns)
    with text_checked(f"{planned.table} {backfill_id.window}"):
        staged = transport.stage(clickhouse, cold, planned, splits, stamp)
    numbers = {"rows": staged.rows, "bytes": staged.size_bytes}
    steps.done("stage", f"staged {staged.rows} rows, {staged.size_bytes} bytes", **numbers)
    try:
        check_source(clickhouse, planned, f"{planned.table} {backfill_id.window}")
        audit_backfill(
            planned.table,
            backfill_id.window,
            staged_rows=staged.rows,
            source_rows=counted,
            planned_rows=planned.rows,
        )
    except (AuditFailed, StaleWindow):
        cold.discard(staged.snapshot_id)
        raise
    steps.done("audit", f"audited {staged.rows} rows", **numbers)
    reached(FaultPoint.BACKFILL_AUDITED, planned.table)
    for _ in range(PUBLISH_ATTEMPTS):
        cold.check_stored(staged.snapshot_id)
        checked = _check(planned, backfill_id, cold, cold.parent_of(staged.snapshot_id), counted, stamp.attempt)
        if checked is None:
            return None
        cold.check_columns(planned.columns)
        reached(FaultPoint.BACKFILL_CHECKED, planned.table)
        if checked == stamp and publish_between(cold, staged.snapshot_id, (MAIN, HEALED_BRANCH), FaultPoint.BACKFILLED):
            return staged
        latest = _check(planned, backfill_id, cold, cold.head, counted, new_attempt())
        if latest is None:
            return None
        stamp = latest
        staged = cold.stage_again(staged.snapshot_id, stamp)
        reached(FaultPoint.BACKFILL_STAGED_AGAIN, planned.table)
    raise OffloadError(
        f"{planned.table} {backfill_id.window}: other writers committed to the cold table {PUBLISH_ATTEMPTS} times in "
        "a row while this range was being brought. Nothing was changed and no row is lost; the next run tries again."
    )


def _check(
    planned: PlannedBackfill,
    backfill_id: BackfillId,
    cold: ColdTableWriter,
    parent: int | None,
    rows: int,
    attempt: str,
) -> BackfillStamp | None:
    """What the range's snapshot must say on top of another; ``None`` if that holds the range already.

    :param rows: of the range, as they are exported
    """
    published, skips = cold.published(parent), cold.skips(parent)
    decision = decide_backfill(planned.table, backfill_id, planned.cut_on, cold.uuid, published, skips)
    if decision is PublishDecision.ALREADY_PUBLISHED or published is None:
        return None
    filled = skips.filling(backfill_id.window, rows)
    return BackfillStamp(backfill_id, published.window_id, filled, attempt, planned.ledger_id)
