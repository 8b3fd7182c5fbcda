"""Takes a day's files out of a cold table and puts others in their place, in one snapshot."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import date
from typing import Any

from k2_offload.core.day_comparison import day_window
from k2_offload.core.exactly_once import HEALED_BRANCH, Snapshot
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.heal import HealId, HealStamp
from k2_offload.core.windows import to_micros
from offload_job.cold_table_writer import MAIN, ColdTableWriter
from offload_job.java_errors import failures_translated, is_conflict
from offload_job.jvm import Jvm


class Swap:
    """Replaces files of one day.

    :param jvm: that the table's library runs in
    :param name: the table's name in messages
    :param partition_column: the time that the table's partitions are days of
    """

    def __init__(self, jvm: Jvm, cold: ColdTableWriter, name: str, partition_column: str, day: date) -> None:
        self._jvm = jvm
        self._cold = cold
        self._name = name
        self._column = partition_column
        self._day = day_window(day)

    def files(self, snapshot_id: int) -> list[str]:
        """What a snapshot holds of the day, by path."""
        with failures_translated(self._cold.connection_id):
            return [str(file.location()) for file in self._files(snapshot_id)]

    def added(self, snapshot_id: int) -> list[str]:
        """Files that came with a snapshot, by path."""
        java = self._cold.java
        with failures_translated(self._cold.connection_id):
            return [str(file.location()) for file in java.snapshot(snapshot_id).addedDataFiles(java.io())]

    def stage(self, removed: Collection[str], heal_id: HealId, added_by: int, stamp: HealStamp) -> Snapshot:
        """Stage a snapshot, on top of the table as it is now, without these files and with those of a staged snapshot.

        A file that the table does not hold is not missed here: look at the snapshot's parent.

        :param removed: paths
        :param heal_id: names the snapshot that was compared; delete files that have come since stop the heal
        :param added_by: the staged snapshot
        """
        java = self._cold.java
        with failures_translated(self._cold.connection_id):
            java.refresh()
            overwrite = java.newOverwrite()
            for file in self._files(java.currentSnapshot().snapshotId()):
                if str(file.location()) in removed:
                    overwrite.deleteFile(file)
            for file in java.snapshot(added_by).addedDataFiles(java.io()):
                overwrite.addFile(file)
            overwrite.validateFromSnapshot(heal_id.compared_snapshot).validateNoConflictingDeletes()
        return self._cold.stage(overwrite, stamp)

    def publish(self, snapshot_id: int) -> bool:
        """Move main from a staged snapshot's parent to the snapshot, and the branch of the last heal, in one commit.

        :returns: ``False`` if main is somewhere else, or another commit came between: stage again
        """
        from py4j.protocol import Py4JJavaError  # noqa: PLC0415

        java = self._cold.java
        operations = java.operations()
        with failures_translated(self._cold.connection_id):
            java.refresh()
            base = operations.current()
            if base.currentSnapshot().snapshotId() != self._cold.parent_of(snapshot_id):
                return self._published(snapshot_id)
        builder = self._jvm.org.apache.iceberg.TableMetadata.buildFrom(base)
        try:
            for branch in (MAIN, HEALED_BRANCH):
                builder = builder.setBranchSnapshot(snapshot_id, branch)
            operations.commit(base, builder.build())
            reached(FaultPoint.HEALED, self._name)
        except Py4JJavaError as error:
            with failures_translated(self._cold.connection_id):
                java.refresh()
                if self._published(snapshot_id):
                    return True  # the reply was lost, not the commit
                if is_conflict(error):
                    return False
                raise
        return True

    def _published(self, snapshot_id: int) -> bool:
        current = self._cold.java.currentSnapshot()
        while current is not None and current.snapshotId() != snapshot_id:
            parent = current.parentId()
            current = self._cold.java.snapshot(parent) if parent is not None else None
        return current is not None

    def _files(self, snapshot_id: int) -> Iterator[Any]:
        expressions = self._jvm.org.apache.iceberg.expressions.Expressions
        low = expressions.greaterThanOrEqual(self._column, to_micros(self._day.low))
        high = expressions.lessThan(self._column, to_micros(self._day.high))
        tasks = self._cold.java.newScan().useSnapshot(snapshot_id).filter(getattr(expressions, "and")(low, high))
        planned = tasks.planFiles()
        try:
            iterator = planned.iterator()
            while iterator.hasNext():
                yield iterator.next().file()
        finally:
            planned.close()
