"""Takes a day's files out of a cold table and puts others in their place, in one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date
from typing import Any

from k2_offload.core.day_comparison import days_window
from k2_offload.core.errors import ChangedTable, StaleWindow, Unreachable
from k2_offload.core.exactly_once import Snapshot
from k2_offload.core.heal import HealId, HealStamp
from k2_offload.core.maintenance import RewriteStamp, check_rewrite
from k2_offload.core.text import show_days
from k2_offload.core.windows import to_micros
from offload_job.cold_table_writer import ColdTableWriter
from offload_job.java_errors import failures_translated, is_invalid
from offload_job.jvm import Jvm
from offload_job.scan_tasks import ScanTasks


class Swap:
    """Replaces files of one day or of several.

    :param jvm: that the table's library runs in
    :param name: the table's name in messages
    :param partition_column: the time that the table's partitions are days of
    :param days: in their order, one at least
    """

    def __init__(self, jvm: Jvm, cold: ColdTableWriter, name: str, partition_column: str, days: Sequence[date]) -> None:
        self._jvm = jvm
        self._cold = cold
        self._name = name
        self._column = partition_column
        self._range = days_window(days[0], days[-1])

    def files(self, snapshot_id: int) -> list[str]:
        """What a snapshot holds of the days and of those between them, by path."""
        with failures_translated(self._cold.connection_id):
            return self._tasks(snapshot_id).paths

    def added(self, snapshot_id: int) -> list[str]:
        """Files that came with a snapshot, by path."""
        java = self._cold.java
        with failures_translated(self._cold.connection_id):
            return [str(file.location()) for file in self._cold.staged(snapshot_id).addedDataFiles(java.io())]

    def stage(self, removed: Collection[str], heal_id: HealId, added_by: int, stamp: HealStamp) -> Snapshot:
        """Stage a snapshot, on top of the table as it is now, without these files and with those of a staged snapshot.

        A file that the table does not hold is not missed here: look at the snapshot's parent.

        :param removed: paths
        :param heal_id: names the snapshot that was compared; delete files that have come since stop the heal
        :param added_by: the staged snapshot
        :raises StaleWindow: if they have
        """
        java = self._cold.java
        with failures_translated(self._cold.connection_id):
            java.refresh()
            overwrite = java.newOverwrite()
            self._tasks(java.currentSnapshot().snapshotId()).of_files(removed).remove_from(overwrite, "OverwriteFiles")
            for file in self._cold.staged(added_by).addedDataFiles(java.io()):
                overwrite.addFile(file)
            overwrite.validateFromSnapshot(heal_id.compared_snapshot).validateNoConflictingDeletes()
        return self._stage(
            overwrite,
            stamp,
            str(heal_id.day),
            "rows of this day were deleted in the cold table by another writer since it was compared",
            "the next comparison looks at the day anew. A row that ClickHouse still has comes back then: delete it "
            "there first",
        )

    def tasks(self, snapshot_id: int, paths: Collection[str]) -> ScanTasks:
        """Iceberg's scan tasks of those of some files that a snapshot holds of the days."""
        with failures_translated(self._cold.connection_id):
            return self._tasks(snapshot_id).of_files(paths)

    def stage_rewrite(
        self, removed: Collection[str], added: Collection[Any], base: int, stamp: RewriteStamp
    ) -> Snapshot:
        """Stage a snapshot, on top of the table as it is now, that stores the same rows in other files.

        :param removed: paths
        :param added: Iceberg's ``DataFile`` objects
        :param base: the snapshot that was read; delete files that have come since stop the rewrite
        :raises StaleWindow: if they have, or if one of the files or the base is not there any more
        """
        java = self._cold.java
        with failures_translated(self._cold.connection_id):
            java.refresh()
            present = self._tasks(java.currentSnapshot().snapshotId())
            check_rewrite(self._name, stamp.days, removed, present.paths)
            rewrite = java.newRewrite()
            present.of_files(removed).remove_from(rewrite, "RewriteFiles")
            for file in added:
                rewrite.addFile(file)
            if (read := java.snapshot(base)) is None:
                raise StaleWindow(
                    f"{self._name} {show_days(stamp.days)}: the snapshot that was read has expired meanwhile. Nothing "
                    "was changed and no row is lost: the next run looks at it anew."
                )
            # Rows that were deleted by key after the base was read stay deleted.
            rewrite.dataSequenceNumber(read.sequenceNumber()).validateFromSnapshot(base)
        why = "its files were changed by another writer since they were read"
        return self._stage(rewrite, stamp, show_days(stamp.days), why, "the next run looks at it anew")

    def _stage(self, update: Any, stamp: HealStamp | RewriteStamp, what: str, why: str, next_step: str) -> Snapshot:
        """Stage what Iceberg refuses if delete files have come that were not seen.

        :param what: the days, for messages
        :param why: what it means that it does
        """
        from py4j.protocol import Py4JJavaError  # noqa: PLC0415

        try:
            return self._cold.stage(update, stamp)
        except Unreachable as error:
            cause = error.__cause__
            if isinstance(cause, Py4JJavaError) and is_invalid(cause):
                raise StaleWindow(
                    f"{self._name} {what}: {why} ({cause.java_exception.getMessage()}). Nothing was changed and no row "
                    f"is lost: {next_step}."
                ) from error
            raise

    def _tasks(self, snapshot_id: int) -> ScanTasks:
        expressions = self._jvm.org.apache.iceberg.expressions.Expressions
        low = expressions.greaterThanOrEqual(self._column, to_micros(self._range.low))
        high = expressions.lessThan(self._column, to_micros(self._range.high))
        scan = self._cold.java.newScan().useSnapshot(snapshot_id).filter(getattr(expressions, "and")(low, high))
        return self._cold.plan(scan.ignoreResiduals())


def tasks_of_days(cold: ColdTableWriter, name: str, partition_column: str) -> tuple[int, ScanTasks] | None:
    """Iceberg's scan tasks of all files of the current snapshot, and which one that is; ``None`` if there is none yet.

    Files that are partitioned in another way are left out.

    :raises ChangedTable: if the table's partitions are no days of the column
    """
    with failures_translated(cold.connection_id):
        java = cold.java
        java.refresh()
        current, spec = java.currentSnapshot(), java.spec()
        if current is None:
            return None
        fields = [
            (str(java.schema().findColumnName(field.sourceId())), str(field.transform())) for field in spec.fields()
        ]
        if fields != [(partition_column, "day")]:
            raise ChangedTable(
                f"{name}: the cold table is not partitioned by days of '{partition_column}' alone, as the table file "
                "says. No file was rewritten. `k2 validate` says more."
            )
        scan = java.newScan().useSnapshot(current.snapshotId()).ignoreResiduals()
        return current.snapshotId(), cold.plan(scan).of_spec(spec.specId())
