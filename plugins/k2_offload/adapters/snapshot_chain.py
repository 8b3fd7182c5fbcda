"""The chain of a cold table's snapshots, and what each holds of one partition day."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from k2_offload.core.exactly_once import Snapshot, ancestors
from k2_offload.core.seals import Step

if TYPE_CHECKING:
    from pyiceberg.manifest import DataFile
    from pyiceberg.partitioning import PartitionSpec
    from pyiceberg.table import Table
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.table.snapshots import Snapshot as IcebergSnapshot
    from pyiceberg.transforms import Transform


def read_snapshot(snapshot: IcebergSnapshot) -> Snapshot:
    """What the protocol reads of a snapshot, as pyiceberg shows it."""
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    return Snapshot.read(snapshot.snapshot_id, snapshot.parent_snapshot_id, snapshot.sequence_number or 0, summary)


def summary_total(table: Table | TableMetadata, key: str) -> int:
    """A total of what readers see, as the current snapshot's summary has it; 0 if it has none."""
    snapshot = table.current_snapshot()
    return int(snapshot.summary[key] or 0) if snapshot and snapshot.summary else 0


def partitioned_by(table: Table, spec: PartitionSpec) -> list[tuple[str | None, Transform[Any, Any]]]:
    """Each column that a partition spec is of, with what is made of it."""
    return [(table.schema().find_column_name(field.source_id), field.transform) for field in spec.fields]


def daily_specs(table: Table, column: str) -> set[int]:
    """Ids of the partition specs that are days of a time, and nothing else."""
    from pyiceberg.transforms import DayTransform  # noqa: PLC0415

    daily: list[tuple[str | None, Transform[Any, Any]]] = [(column, DayTransform())]
    return {spec_id for spec_id, spec in table.specs().items() if partitioned_by(table, spec) == daily}


def day_of(file: DataFile) -> date:
    """The day of a file whose spec is daily."""
    return date(1970, 1, 1) + timedelta(days=file.partition[0])


def of_day(column: str, day: date) -> str:
    """The filter of a scan for the rows of one day.

    :param column: the time that the day is of
    """
    return f"\"{column}\" >= '{day}T00:00:00+00:00' and \"{column}\" < '{day + timedelta(days=1)}T00:00:00+00:00'"


class SnapshotChain:
    """The snapshots of a table as it was when it was loaded.

    :param told: translates what the library raises
    """

    def __init__(self, table: Table, told: Callable[[], AbstractContextManager[None]]) -> None:
        self._table = table
        self._told = told
        self._snapshots = {each.snapshot_id: read_snapshot(each) for each in table.metadata.snapshots}

    def ancestors(self, snapshot_id: int | None = None) -> list[Snapshot]:
        """A snapshot and those below it, newest first, as far as they have not expired.

        :param snapshot_id: what readers see when left out
        """
        current = snapshot_id if snapshot_id is not None else self._table.metadata.current_snapshot_id
        return list(ancestors(current, self._snapshots.get))

    def step(self, snapshot: Snapshot, column: str, day: date) -> Step:
        """A snapshot, with the data files and delete files that may hold rows of a day.

        :param column: the time that the partitions are days of
        """
        with self._told():
            tasks = self._table.scan(of_day(column, day), snapshot_id=snapshot.snapshot_id).plan_files()
            files = ((task.file.file_path, *sorted(each.file_path for each in task.delete_files)) for task in tasks)
            return Step(snapshot, tuple(sorted(files)))
