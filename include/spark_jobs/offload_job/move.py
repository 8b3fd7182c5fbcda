"""Moves one window: stage → audit → publish, in the order that :mod:`k2_offload.core.exactly_once` asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from k2_offload.core.errors import AuditFailed, OffloadError, StaleWindow
from k2_offload.core.exactly_once import PublishDecision, Snapshot, Stamp, WindowId, audit, decide_publish
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.limits import PUBLISH_ATTEMPTS
from k2_offload.core.plan import PlannedWindow
from k2_offload.core.splits import split_days
from offload_job.publishing import publish_window
from offload_job.steps import Steps
from offload_job.transport import check_source, text_checked

if TYPE_CHECKING:
    from k2_offload.adapters.clickhouse import ClickHouse
    from offload_job.cold_table_writer import ColdTableWriter
    from offload_job.transport import Transport

log = logging.getLogger(__name__)


def move(
    planned: PlannedWindow,
    window_id: WindowId,
    cold: ColdTableWriter,
    clickhouse: ClickHouse,
    transport: Transport,
    new_attempt: Callable[[], str],
) -> Snapshot | None:
    """Move one window. Any number of processes may try that at the same time, and any of them die.

    :param new_attempt: gives a name that was never used before
    :returns: what was published; ``None`` if the cold table held the window already
    :raises OffloadError: if nothing was published by this call
    """
    steps = Steps(log, planned.table, window_id.window)
    reached(FaultPoint.JOB_STARTED, planned.table)
    decision = decide_publish(planned.table, window_id, planned.cut_on, cold.uuid, cold.published())
    if decision is PublishDecision.ALREADY_PUBLISHED:
        return None
    first = Stamp(window_id, planned.cut_on, new_attempt(), cold.skips(), planned.ledger_id)
    cold.check_columns(planned.columns)
    splits = split_days(clickhouse.rows_per_slot(planned.rows_per_slot_sql), planned.max_file_rows)
    with text_checked(f"{planned.table} {window_id.window}"):
        staged = transport.stage(clickhouse, cold, planned, splits, first)
    numbers = {"rows": staged.rows, "bytes": staged.size_bytes}
    steps.done("stage", f"staged {staged.rows} rows, {staged.size_bytes} bytes", **numbers)
    counted = sum(split.rows for split in splits)
    try:
        check_source(clickhouse, planned, f"{planned.table} {window_id.window}")
        audit(planned.table, window_id.window, staged_rows=staged.rows, source_rows=counted, planned_rows=planned.rows)
    except (AuditFailed, StaleWindow):
        cold.discard(staged.snapshot_id)
        raise
    steps.done("audit", f"audited {staged.rows} rows", **numbers)
    reached(FaultPoint.AUDITED, planned.table)
    return _publish(planned, first, cold, staged, new_attempt)


def _publish(
    planned: PlannedWindow, stamp: Stamp, cold: ColdTableWriter, staged: Snapshot, new_attempt: Callable[[], str]
) -> Snapshot | None:
    """Check the staged snapshot's ancestors and move main to it; where main has moved on, stage again on top.

    :returns: the one that was published; ``None`` if the cold table held the window already
    """
    table = planned.table
    for _ in range(PUBLISH_ATTEMPTS):
        below = cold.published(cold.parent_of(staged.snapshot_id))
        decision = decide_publish(table, stamp.window_id, stamp.cut_on, cold.uuid, below)
        if decision is PublishDecision.ALREADY_PUBLISHED:
            return None
        cold.check_columns(planned.columns)
        cold.check_stored(staged.snapshot_id)
        reached(FaultPoint.ANCESTORS_CHECKED, table)
        same_skips = cold.skips(cold.parent_of(staged.snapshot_id)) == stamp.skips
        if same_skips and publish_window(cold, staged.snapshot_id):
            return staged
        stamp = replace(stamp, attempt=new_attempt(), skips=cold.skips())
        staged = cold.stage_again(staged.snapshot_id, stamp)
        reached(FaultPoint.STAGED_AGAIN, table)
    raise OffloadError(
        f"{table} {stamp.window_id.window}: other writers committed to the cold table {PUBLISH_ATTEMPTS} times in a "
        "row while this window was being published. Nothing was published and no row is lost; the retry tries again."
    )
