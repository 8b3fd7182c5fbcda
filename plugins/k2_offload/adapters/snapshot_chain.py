"""The chain of a cold table's snapshots, and what each holds of one partition day."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from k2_offload.core.exactly_once import WINDOW_PROPERTY, Snapshot, ancestors
from k2_offload.core.history import History, HistoryEntry, read_history
from k2_offload.core.maintenance import rewritten_days
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
    sequence = snapshot.sequence_number or 0
    return Snapshot.read(snapshot.snapshot_id, snapshot.parent_snapshot_id, sequence, _summary(snapshot))


def snapshots_of(metadata: TableMetadata) -> Callable[[int], Snapshot | None]:
    """A table's snapshots by id, each read when it is first asked for; ``None`` once expired."""
    known = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    return cache(lambda each: read_snapshot(known[each]) if each in known else None)


def summary_total(table: Table | TableMetadata, key: str) -> int | None:
    """A total of what readers see; ``None`` if the current snapshot's summary leaves it out, as the spec lets it."""
    snapshot = table.current_snapshot()
    if snapshot is None:
        return 0
    total = _summary(snapshot).get(key)
    return int(total) if total is not None else None


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


@dataclass(frozen=True)
class SnapshotEntry:
    """One snapshot, for a person.

    :param operation: Iceberg's: ``append``, ``replace``, ``overwrite`` or ``delete``
    :param visible: whether it is among the ancestors of what readers see; others are staged, or were rolled back
    :param files: data files that it added
    :param rewritten_days: of maintenance's, which hold the rows of the one before; empty otherwise
    """

    at: datetime
    operation: str
    snapshot: Snapshot
    visible: bool
    files: int = 0
    rewritten_days: tuple[date, ...] = ()


class SnapshotChain:
    """The snapshots of a table as it was when it was loaded.

    :param told: translates what the library raises
    :ivar snapshot_of: the snapshot of an id, ``None`` once expired
    """

    def __init__(self, table: Table, told: Callable[[], AbstractContextManager[None]]) -> None:
        self._table = table
        self._told = told
        self.snapshot_of = snapshots_of(table.metadata)

    def ancestors(self, snapshot_id: int | None = None) -> list[Snapshot]:
        """A snapshot and those below it, newest first, as far as they have not expired.

        :param snapshot_id: what readers see when left out
        """
        current = snapshot_id if snapshot_id is not None else self._table.metadata.current_snapshot_id
        return list(ancestors(current, self.snapshot_of))

    def step(self, snapshot: Snapshot, column: str, day: date) -> Step:
        """A snapshot, with the data files and delete files that may hold rows of a day.

        :param column: the time that the partitions are days of
        """
        with self._told():
            tasks = self._table.scan(of_day(column, day), snapshot_id=snapshot.snapshot_id).plan_files()
            files = ((task.file.file_path, *sorted(each.file_path for each in task.delete_files)) for task in tasks)
            return Step(snapshot, tuple(sorted(files)))

    def __len__(self) -> int:
        """Snapshots that have not expired, staged ones included."""
        return len(self._table.metadata.snapshots)

    def latest(self, limit: int | None = None) -> list[SnapshotEntry]:
        """The snapshots that were made last, newest first.

        :param limit: how many, at most; all when left out
        """
        with self._told():
            visible = {each.snapshot_id for each in self.ancestors()}
            newest_first = sorted(self._table.metadata.snapshots, key=lambda each: each.timestamp_ms, reverse=True)
            return [
                SnapshotEntry(
                    _made_at(each),
                    each.summary.operation.value if each.summary else "",
                    read_snapshot(each),
                    each.snapshot_id in visible,
                    int(_summary(each).get("added-data-files") or 0),
                    rewritten_days(_summary(each)),
                )
                for each in newest_first[:limit]
            ]

    def history(self, now: datetime) -> History:
        """What the list of snapshots says beside the windows."""
        with self._told():
            metadata = self._table.metadata
            heads = [ref.snapshot_id for ref in metadata.refs.values()]
            entries = {each.snapshot_id: _history_entry(each) for each in metadata.snapshots}
            return read_history(entries, metadata.current_snapshot_id, heads, now)


def _made_at(snapshot: IcebergSnapshot) -> datetime:
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC)


def _summary(snapshot: IcebergSnapshot) -> Mapping[str, str]:
    return snapshot.summary.additional_properties if snapshot.summary else {}


def _history_entry(snapshot: IcebergSnapshot) -> HistoryEntry:
    summary = _summary(snapshot)
    files, size_bytes = summary.get("total-data-files"), summary.get("total-files-size")
    return HistoryEntry(
        snapshot.parent_snapshot_id,
        _made_at(snapshot),
        WINDOW_PROPERTY in summary,
        rewritten_days(summary),
        int(summary.get("added-data-files") or 0) - int(summary.get("deleted-data-files") or 0),
        int(summary.get("added-files-size") or 0) - int(summary.get("removed-files-size") or 0),
        int(files) if files is not None else None,
        int(size_bytes) if size_bytes is not None else None,
    )
