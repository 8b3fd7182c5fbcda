"""Rewrites the files of one day, or of several at once: write → stage → audit → publish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

from k2_offload.core.errors import AuditFailed, OffloadError
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.limits import PUBLISH_ATTEMPTS
from k2_offload.core.maintenance import RewriteStamp, audit_rewrite
from k2_offload.core.text import show_days
from offload_job.publishing import MAIN, publish_between

if TYPE_CHECKING:
    from k2_offload.core.exactly_once import Snapshot
    from k2_offload.core.maintenance_plan import PlannedMaintenance
    from offload_job.cold_table_writer import ColdTableWriter
    from offload_job.maintenance.rewriter import Rewriter
    from offload_job.scan_tasks import ScannedFile, ScanTasks
    from offload_job.swap import Swap


@dataclass(frozen=True)
class OldFiles:
    """What is rewritten.

    :param days: in their order
    :param files: all of them
    :param tasks: Iceberg's scan tasks of the files
    :param into: how many files one day should have afterwards; several days get one each
    :param base: the snapshot that was read for them
    """

    days: tuple[date, ...]
    files: Sequence[ScannedFile]
    tasks: ScanTasks
    into: int
    base: int


def rewrite_days(
    planned: PlannedMaintenance,
    old: OldFiles,
    cold: ColdTableWriter,
    swap: Swap,
    rewriter: Rewriter,
    new_attempt: Callable[[], str],
) -> Snapshot:
    """Put fewer files in the place of some days', in one commit.

    Any number of processes may try that at once, and any of them die.

    :param swap: of the same days
    :param new_attempt: gives a name that was never used before
    :returns: the snapshot that is now part of main
    :raises StaleWindow: if some of the files have been replaced meanwhile
    :raises AuditFailed: if the new files do not hold the same rows of each day
    :raises OffloadError: if nothing was changed by this call
    """
    reached(FaultPoint.REWRITE_STARTED, planned.table)
    removed = {file.path for file in old.files}
    rows = {day: sum(file.rows for file in old.files if file.day == day) for day in old.days}
    before = rewriter.content(old.tasks, planned.partition_column)
    added = rewriter.rewrite(old.tasks, planned, old.into, len(old.days))
    stamp = RewriteStamp(old.days, new_attempt())
    paths = [str(file.location()) for file in added]
    with cold.removing_unnamed(stamp.attempt, paths):
        reached(FaultPoint.REWRITTEN, planned.table)
        staged = swap.stage_rewrite(removed, added, old.base, stamp)
    try:
        after = rewriter.content(swap.tasks(staged.snapshot_id, paths), planned.partition_column)
        _audit(planned.table, old.days, rows, before, after)
    except Exception:
        cold.discard(staged.snapshot_id)
        raise
    reached(FaultPoint.REWRITE_AUDITED, planned.table)
    for _ in range(PUBLISH_ATTEMPTS):
        cold.check_stored(staged.snapshot_id)
        if publish_between(cold, staged.snapshot_id, (MAIN,), FaultPoint.REWRITE_PUBLISHED):
            return staged
        staged = swap.stage_rewrite(removed, added, old.base, RewriteStamp(old.days, new_attempt()))
        reached(FaultPoint.REWRITE_STAGED_AGAIN, planned.table)
    raise OffloadError(
        f"{planned.table} {show_days(old.days)}: other writers committed to the cold table {PUBLISH_ATTEMPTS} times in "
        "a row while its files were being rewritten. Nothing was changed and no row is lost; the next run tries again."
    )


def _audit(
    table: str,
    days: Sequence[date],
    rows_in_metadata: Mapping[date, int],
    before: Mapping[date | None, tuple[int, int]],
    after: Mapping[date | None, tuple[int, int]],
) -> None:
    """Each day by itself; first of all, whether the rows are of other days than their files."""
    if strange := sorted(map(str, {*before, *after} - set(days))):
        raise AuditFailed(
            f"{table} {show_days(days)}: files of these days hold rows of others, such as {strange[0]}. Nothing was "
            f"changed. `k2 verify {table}` shows what differs from ClickHouse."
        )
    for day in days:
        nothing = 0, 0
        rows_before, rows_after = before.get(day, nothing), after.get(day, nothing)
        audit_rewrite(table, day, rows_in_metadata=rows_in_metadata[day], before=rows_before, after=rows_after)
