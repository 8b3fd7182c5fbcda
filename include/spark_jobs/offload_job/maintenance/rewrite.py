"""Rewrites the files of one day: write → stage → audit → publish."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from k2_offload.core.errors import OffloadError
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.limits import PUBLISH_ATTEMPTS
from k2_offload.core.maintenance import RewriteStamp, audit_rewrite
from offload_job.cold_table_writer import MAIN

if TYPE_CHECKING:
    from k2_offload.core.exactly_once import Snapshot
    from k2_offload.core.maintenance_plan import PlannedMaintenance
    from offload_job.cold_table_writer import ColdTableWriter
    from offload_job.maintenance.rewriter import Rewriter
    from offload_job.swap import Swap


def rewrite_day(
    planned: PlannedMaintenance,
    day: date,
    tasks: Mapping[str, Any],
    into: int,
    base: int,
    cold: ColdTableWriter,
    swap: Swap,
    rewriter: Rewriter,
    new_attempt: Callable[[], str],
) -> Snapshot:
    """Put fewer files in the place of a day's. Any number of processes may try that at once, and any of them die.

    :param tasks: Iceberg's scan tasks of the files to replace, by path
    :param base: the snapshot that was read for them
    :param new_attempt: gives a name that was never used before
    :returns: the snapshot that is now part of main
    :raises StaleWindow: if some of the files have been replaced meanwhile
    :raises AuditFailed: if the new files do not hold the same rows
    :raises OffloadError: if nothing was changed by this call
    """
    reached(FaultPoint.REWRITE_STARTED, planned.table)
    old = list(tasks.values())
    rows = sum(task.file().recordCount() for task in old)
    before = rewriter.content(old)
    added = rewriter.rewrite(old, planned.sort_columns, into, planned.target_file_bytes)
    stamp = RewriteStamp(day, new_attempt())
    paths = [str(file.location()) for file in added]
    with cold.removing_unnamed(stamp.attempt, paths):
        reached(FaultPoint.REWRITTEN, planned.table)
        staged = swap.stage_rewrite(tasks.keys(), added, base, stamp)
    try:
        written = swap.tasks(staged.snapshot_id)
        after = rewriter.content([written[path] for path in paths if path in written])
        audit_rewrite(planned.table, day, rows_in_metadata=rows, before=before, after=after)
    except Exception:
        cold.discard(staged.snapshot_id)
        raise
    reached(FaultPoint.REWRITE_AUDITED, planned.table)
    for _ in range(PUBLISH_ATTEMPTS):
        cold.check_stored(staged.snapshot_id)
        if swap.publish(staged.snapshot_id, (MAIN,), FaultPoint.REWRITE_PUBLISHED):
            return staged
        staged = swap.stage_rewrite(tasks.keys(), added, base, RewriteStamp(day, new_attempt()))
        reached(FaultPoint.REWRITE_STAGED_AGAIN, planned.table)
    raise OffloadError(
        f"{planned.table} {day}: other writers committed to the cold table {PUBLISH_ATTEMPTS} times in a row while "
        "this day was being rewritten. Nothing was changed and no row is lost; the next run tries again."
    )
