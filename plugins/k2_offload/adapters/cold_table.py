"""One cold table as pyiceberg shows it: what it holds, and a mark for what it holds all the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, date, datetime
from functools import cached_property, wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Concatenate, ParamSpec, TypeVar

from k2_offload.adapters.foreign_table import ForeignTable
from k2_offload.adapters.metadata_files import other_table
from k2_offload.adapters.snapshot_chain import (
    SnapshotChain,
    daily_specs,
    day_of,
    of_day,
    partitioned_by,
    summary_total,
)
from k2_offload.adapters.table_properties import DELTA_ENCODINGS
from k2_offload.core.backfill import find_remembered, find_skips
from k2_offload.core.data_files import RegisteredFile
from k2_offload.core.errors import ChangedTable, DamagedTable, InvalidSource, StaleWindow
from k2_offload.core.exactly_once import (
    CUT_PROPERTY,
    PUBLISHED_BRANCH,
    SKIPPED_PROPERTY,
    WINDOW_PROPERTY,
    Published,
    Snapshot,
    WindowId,
    find_published,
    signed,
)
from k2_offload.core.registration import TableState
from k2_offload.core.schema_change import (
    MARKS_PROPERTY,
    ChangeKind,
    ColdColumn,
    ColumnChange,
    plan_changes,
    read_marks,
    write_marks,
)
from k2_offload.core.skips import GivenUp, Skips
from k2_offload.core.sql import spark_name
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Window

if TYPE_CHECKING:
    import pyarrow as pa
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import DataFile
    from pyiceberg.table import Table
    from pyiceberg.types import IcebergType


Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def _told(
    method: Callable[Concatenate[ColdTable, Parameters], Result], /
) -> Callable[Concatenate[ColdTable, Parameters], Result]:
    """Whatever odd thing a method finds in the table becomes a sentence about this table."""

    @wraps(method)
    def wrapped(self: ColdTable, /, *arguments: Parameters.args, **options: Parameters.kwargs) -> Result:
        with self.told():
            return method(self, *arguments, **options)

    return wrapped


class ColdTable:
    """One Iceberg table as it was when it was loaded.

    :param told: translates what the library raises, see :func:`k2_offload.adapters.cold_errors.told`
    :raises Unreachable: by every method, if the catalog or its storage does not answer
    :raises UnreadableTable: by every method, if something of this table alone is missing, forbidden or odd
    """

    def __init__(self, table: Table, name: str, told: Callable[[], AbstractContextManager[None]]) -> None:
        self._table = table
        self._name = name
        self.told = told

    @property
    def uuid(self) -> str:
        """Identity of this incarnation of the table."""
        return str(self._table.metadata.table_uuid)

    @property
    def location(self) -> str:
        """URI of the table's folder."""
        return self._table.location()

    @property
    def io(self) -> FileIO:
        """Access to its files, as the catalog grants it."""
        return self._table.io

    @property
    def metadata_location(self) -> str:
        """URI of the metadata file that is current."""
        return self._table.metadata_location

    @property
    @_told
    def partition_field(self) -> str:
        """Name of the daily partition field."""
        return self._table.spec().fields[0].name

    @property
    def snapshot_id(self) -> int:
        """The snapshot that readers see; 0 while there is none."""
        return self._table.metadata.current_snapshot_id or 0

    @cached_property
    @_told
    def published(self) -> Published | None:
        """The newest published window.

        :raises DamagedTable: if the table cannot say
        """
        return self._published_in(self._table.metadata.current_snapshot_id, self._refs)

    @cached_property
    @_told
    def skips(self) -> Skips:
        """What is left out of it on purpose, and what of that was brought.

        :raises DamagedTable: if the table cannot say
        """
        return find_skips(self._table.metadata.current_snapshot_id, self.published, self._refs, self.chain.snapshot_of)

    @cached_property
    @_told
    def remembered(self) -> list[Snapshot]:
        """See :func:`k2_offload.core.backfill.find_remembered`."""
        return find_remembered(self._table.metadata.current_snapshot_id, self._refs, self.chain.snapshot_of)

    @property
    def _refs(self) -> dict[str, int]:
        return {name: branch.snapshot_id for name, branch in self._table.metadata.refs.items()}

    def _published_in(self, head: int | None, branches: Mapping[str, int]) -> Published | None:
        return find_published(self._name, self.uuid, head, branches, self.chain.snapshot_of)

    @_told
    def newest_row(self, column: str) -> datetime | None:
        """The newest time in a column, read from the data; ``None`` if the table is empty.

        :raises InvalidSource: if the column is none of times with a zone
        """
        import pyarrow.compute
        from pyiceberg.types import TimestamptzType  # noqa: PLC0415

        types = {field.name: field.field_type for field in self._table.schema().fields}
        if types.get(column) != TimestamptzType():
            raise InvalidSource(
                f"{self._name}: column '{column}' is {types.get(column, 'missing')} in the cold table, not timestamptz."
                " Nothing was changed. Correct timestamp_column in the table file, or change the cold table."
            )
        batches = self._table.scan(selected_fields=(column,)).to_arrow_batch_reader()
        newest = (pyarrow.compute.max(batch.column(0)).as_py() for batch in batches)
        return max((time.astimezone(UTC) for time in newest if time is not None), default=None)

    @_told
    def rows_within(self, column: str, window: Window) -> int:
        """How many rows it holds of a range of times, read from the data of files whose bounds leave that open."""
        from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan, Reference  # noqa: PLC0415
        from pyiceberg.expressions.literals import literal  # noqa: PLC0415

        # No text: its parser does not know all names.
        time, low, high = Reference(column), literal(window.low.isoformat()), literal(window.high.isoformat())
        row_filter = And(GreaterThanOrEqual(term=time, value=low), LessThan(term=time, value=high))
        batches = self._table.scan(row_filter, selected_fields=(column,)).to_arrow_batch_reader()
        return sum(batch.num_rows for batch in batches)

    @_told
    def published_until(self, time: datetime) -> Published | None:
        """The newest window in the chain that ends at or before a time, as far as the chain can be read.

        :raises DamagedTable: if the table cannot even say which is its newest window
        """
        published = self.published
        try:
            while published is not None and published.window_id.window.high > time:
                published = self._published_in(published.snapshot.parent_id, {})
        except DamagedTable:
            return None
        return published

    def rollback_statement(self, snapshot_id: int) -> str:
        """The Spark SQL that takes everything after a snapshot out of the table."""
        name = ".".join(self._table.name())
        return f"CALL {spark_name(self._table.catalog.name)}.system.rollback_to_snapshot('{name}', {snapshot_id})"

    @_told
    def other_in_folder(self) -> TableState | None:
        """The newest state of the table that was in this one's folder before."""
        return other_table(self.io, self.location, self.uuid)

    @_told
    def rows_per_day(self, column: str, since: date) -> dict[date, int] | None:
        """Rows by partition day, from metadata alone: what another writer removed by delete files still counts.

        :param column: the time that the partitions are days of
        :param since: the first day
        :returns: ``None`` if some files are partitioned in another way
        """
        daily = daily_specs(self._table, column)
        if not daily:
            return None
        rows: Counter[date] = Counter()
        for file in self._files(f"\"{column}\" >= '{since}T00:00:00+00:00'"):
            if file.spec_id not in daily:
                return None
            rows[day_of(file)] += file.record_count
        return rows

    @_told
    def files_of_day(self, column: str, day: date) -> list[str]:
        """Paths of the files of one partition day.

        :param column: the time that the partitions are days of
        """
        daily, files = daily_specs(self._table, column), self._files(of_day(column, day))
        return [file.file_path for file in files if file.spec_id in daily and day_of(file) == day]

    def read_day(
        self, column: str, day: date, names: Sequence[str], snapshot_id: int | None = None
    ) -> Iterator[pa.RecordBatch]:
        """The rows of one day, one file at a time in memory; what delete files take out is left out.

        :param column: the time that the day is of
        :param names: the columns to read, the time among them
        :param snapshot_id: what readers see when left out
        """
        from pyiceberg.io.pyarrow import ArrowScan  # noqa: PLC0415

        with self.told():
            scan = self._table.scan(of_day(column, day), selected_fields=tuple(names), snapshot_id=snapshot_id)
            reader = ArrowScan(self._table.metadata, self._table.io, scan.projection(), scan.row_filter)
            for task in scan.plan_files():
                yield from reader.to_record_batches([task])

    @property
    def field_ids(self) -> dict[str, int]:
        """Iceberg's ids of the columns, by name."""
        return {field.name: field.field_id for field in self._table.schema().fields}

    @_told
    def registered_files(self, times: Collection[str], partition_column: str) -> list[RegisteredFile]:
        """The data files of the current snapshot, by day and path; as often as it holds each.

        :param times: columns of times whose bounds are to be told
        """
        daily, ids = daily_specs(self._table, partition_column), self.field_ids
        found = []
        for task in self._table.scan().plan_files():
            file = task.file
            lower, upper = (file.lower_bounds or {}), (file.upper_bounds or {})
            bounds = {
                column: (_micros(lower[ids[column]]), _micros(upper[ids[column]]))
                for column in times
                if ids[column] in lower and ids[column] in upper
            }
            day = day_of(file) if file.spec_id in daily else None
            form, has_deletes = str(file.file_format.value), bool(task.delete_files)
            size, rows = file.file_size_in_bytes, file.record_count
            found.append(RegisteredFile(file.file_path, form, rows, size, day, bounds, has_deletes))
        return sorted(found, key=lambda file: (file.day or date.min, file.path))

    def _files(self, row_filter: str) -> Iterator[DataFile]:
        return (task.file for task in self._table.scan(row_filter).plan_files())

    @_told
    def publish_without_rows(
        self,
        window_id: WindowId,
        cut_on: str,
        skipped_rows: int | None = None,
        skips: Skips = Skips(),  # noqa: B008
        properties: Mapping[str, str] = MappingProxyType({}),
        *,
        ledger_id: str | None,
        given_up: Sequence[GivenUp] = (),
    ) -> None:
        """Publish a window by a snapshot without rows that carries its identity: they are there, or are left out.

        :param cut_on: the column whose times the window's bounds are
        :param skipped_rows: how many of its rows are left out for good; who reads the chain next puts that on record
        :param skips: what is left out with it, as far as that may be brought later
        :param properties: of the table, to be set with it
        :param ledger_id: of the ledger that follows it then
        :param given_up: what was left out before and cannot be brought any more; who reads the chain next records it
        :raises StaleWindow: if another writer committed since the table was loaded; nothing has changed then
        """
        from pyiceberg.exceptions import CommitFailedException  # noqa: PLC0415
        from pyiceberg.table import TableProperties  # noqa: PLC0415
        from pyiceberg.table.update.snapshot import ManageSnapshots  # noqa: PLC0415

        # A retry would put the snapshot on top of what another writer has published meanwhile: unseen, and perhaps
        # beyond the window's end. Set in memory only, never in the table.
        self._table.metadata.properties[TableProperties.COMMIT_NUM_RETRIES] = "0"
        summary = {WINDOW_PROPERTY: str(window_id), CUT_PROPERTY: cut_on, **GivenUp.write(given_up)}
        summary |= signed(ledger_id) | skips.summary
        if skipped_rows is not None:
            summary[SKIPPED_PROPERTY] = str(skipped_rows)
        try:
            with self._table.transaction() as transaction:
                if properties:
                    transaction.set_properties(dict(properties))
                transaction.update_snapshot(summary).fast_append().commit()
                snapshot_id = transaction.table_metadata.current_snapshot_id
                if snapshot_id is not None:
                    ManageSnapshots(transaction).create_branch(snapshot_id, PUBLISHED_BRANCH).commit()
        except CommitFailedException:
            raise StaleWindow(
                f"{self._name}: another writer committed to the cold table meanwhile. Nothing was changed. "
                "Run the command again."
            ) from None

    @cached_property
    @_told
    def chain(self) -> SnapshotChain:
        """Its snapshots."""
        return SnapshotChain(self._table, self.told)

    @cached_property
    def foreign(self) -> ForeignTable:
        """The same, as a table that another system may have filled."""
        return ForeignTable(self._table, self.told)

    @property
    @_told
    def columns(self) -> tuple[ColdColumn, ...]:
        """Its columns, in their order."""
        marks = read_marks(self._table.metadata.properties.get(MARKS_PROPERTY))
        return tuple(
            ColdColumn(field.name, str(field.field_type), not field.required, marks.get(field.name))
            for field in self._table.schema().fields
        )

    @_told
    def change_columns(self, changes: Sequence[ColumnChange], columns: Sequence[ColdColumn]) -> None:
        """Change the table's columns in one commit, which touches no data file.

        A catalog may deny a commit whose reply it has lost: what counts is whether the columns are as they are to be.

        :param changes: what differs from :attr:`columns`, but for what is remembered of columns
        :param columns: as they are to be
        :raises StaleWindow: if another writer changed them since the table was loaded
        """
        from pyiceberg.exceptions import CommitFailedException  # noqa: PLC0415
        from pyiceberg.types import NestedField  # noqa: PLC0415

        def iceberg(change: ColumnChange) -> IcebergType:
            field = {"id": 0, "name": change.name, "type": change.iceberg_type.replace(" ", ""), "required": False}
            return NestedField.model_validate(field).field_type

        try:
            with self._table.transaction() as transaction:
                with transaction.update_schema() as schema:
                    for change in changes:
                        path = (change.name,)
                        if change.kind is ChangeKind.ADD:
                            schema.add_column(path, iceberg(change))
                        elif change.kind is ChangeKind.WIDEN:
                            schema.update_column(path, iceberg(change))
                        else:
                            schema.update_column(path, required=False)
                transaction.set_properties({MARKS_PROPERTY: write_marks(columns)})
                if any(change.iceberg_type == "boolean" for change in changes):
                    transaction.remove_properties(*DELTA_ENCODINGS.keys() & self._table.properties.keys())
        except CommitFailedException:
            self._table.refresh()
            if self.columns != tuple(columns):
                raise StaleWindow(
                    f"{self._name}: another writer changed the cold table's columns meanwhile. No row was moved and "
                    "none is lost; the next run looks at them anew."
                ) from None

    @_told
    def metadata_bytes(self) -> int:
        """Size of the current metadata file, which every load reads."""
        return len(self._table.io.new_input(self.metadata_location))

    @property
    @_told
    def total_rows(self) -> int:
        """Rows in the files that readers see; delete files are not looked into."""
        total = summary_total(self._table, "total-records")
        return total if total is not None else sum(task.file.record_count for task in self._table.scan().plan_files())

    @property
    @_told
    def delete_files(self) -> int:
        """Delete files of other writers in what readers see."""
        total = summary_total(self._table, "total-delete-files")
        if total is not None:
            return total
        return len({each.file_path for task in self._table.scan().plan_files() for each in task.delete_files})

    @_told
    def check_source(self, table: TableSpec, columns: Sequence[Column]) -> tuple[ColumnChange, ...]:
        """Refuse a source, or a table file, that no longer goes with this table.

        :returns: how this table follows its source
        :raises InvalidSource: if its columns cannot follow
        :raises ChangedTable: if the partitions are not the same
        """
        changes = plan_changes(table, columns, self.columns)
        self.check_partitions(table.partition_column)
        return changes

    @_told
    def check_partitions(self, column: str) -> None:
        """Refuse a table file that names another partition column than the cold table is partitioned by.

        Files would be registered in days that are not their rows' days, and readers would not look there.

        :raises ChangedTable: with the way to change it on purpose
        """
        from pyiceberg.transforms import DayTransform  # noqa: PLC0415

        found = partitioned_by(self._table, self._table.spec())
        if found != [(column, DayTransform())]:
            described = ", ".join(f"{transform} of '{name}'" for name, transform in found) or "nothing"
            target = ".".join(self._table.name())
            raise ChangedTable(
                f"{self._name}: the cold table is partitioned by {described}, and the table file says day of "
                f"'{column}' (partition_column). Nothing was moved and no row is lost. Put the old column back; or, to "
                f"change it on purpose, change the cold table too, with Spark: ALTER TABLE {target} REPLACE PARTITION "
                f"FIELD … WITH days({column}). Files that are there keep their partitions."
            )


def _micros(bound: bytes) -> int:
    from pyiceberg.conversions import from_bytes  # noqa: PLC0415
    from pyiceberg.types import TimestamptzType  # noqa: PLC0415

    return int(from_bytes(TimestamptzType(), bound))
