"""Rewrites the files of one day, or of several at once: write → stage → audit → publish."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from k2_offload.core.errors import AuditFailed, OffloadError
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.limits import PUBLISH_ATTEMPTS
from k2_offload.core.maintenance import RewriteStamp, audit_rewrite, show_days
from offload_job.cold_table_writer import MAIN

if TYPE_CHECKING:
    from k2_offload.core.exactly_once import Snapshot
    from k2_offload.core.maintenance_plan import PlannedMaintenance
    from offload_job.cold_table_writer import ColdTableWriter
    from offload_job.maintenance.rewriter import Rewriter
    from offload_job.swap import Swap


@dataclass(frozen=True)
class OldFiles:
    """What is rewritten.

    :param tasks: by day, in the days' order: Iceberg's scan tasks of the files, by path
    :param into: how many files one day should have afterwards; several days get one each
    :param base: the snapshot that was read for them
    """

    tasks: Mapping[date, Mapping[str, Any]]
    into: int
    base: int

    @property
    def days(self) -> tuple[date, ...]:
        """Their days."""
        return tuple(self.tasks)


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
    tasks = [task for of_day in old.tasks.values() for task in of_day.values()]
    removed = {path for of_day in old.tasks.values() for path in of_day}
    rows = {day: sum(task.file().recordCount() for task in of_day.values()) for day, of_day in old.tasks.items()}
    before = rewriter.content(tasks, planned.partition_column)
    added = rewriter.rewrite(tasks, planned, old.into, len(old.days))
    stamp = RewriteStamp(old.days, new_attempt())
    paths = [str(file.location()) for file in added]
    with cold.removing_unnamed(stamp.attempt, paths):
        reached(FaultPoint.REWRITTEN, planned.table)
        staged = swap.stage_rewrite(removed, added, old.base, stamp)
    try:
        written = swap.tasks(staged.snapshot_id)
        after = rewriter.content([written[path] for path in paths if path in written], planned.partition_column)
        _audit(planned.table, old.days, rows, before, after)
    except Exception:
        cold.discard(staged.snapshot_id)
        raise
    reached(FaultPoint.REWRITE_AUDITED, planned.table)
    for _ in range(PUBLISH_ATTEMPTS):
        cold.check_stored(staged.snapshot_id)
        if swap.publish(staged.snapshot_id, (MAIN,), FaultPoint.REWRITE_PUBLISHED):
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
