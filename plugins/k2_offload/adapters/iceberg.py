"""The cold tables, through pyiceberg: created on first contact, and read for what they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from k2_offload.core import connections
from k2_offload.core.errors import (
    DamagedTable,
    InvalidSource,
    OffloadError,
    Refused,
    StaleWindow,
    Unreachable,
    is_refusal,
)
from k2_offload.core.exactly_once import (
    PUBLISHED_BRANCH,
    WINDOW_PROPERTY,
    Published,
    Snapshot,
    WindowId,
    find_published,
)
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.table import Table

_TABLE_PROPERTIES = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "3",
    # For what Iceberg's own writers write, compaction above all: differences instead of values for what is nearly
    # unique, such as times and trade ids. A dictionary of those is as large as they are.
    "write.parquet.page-version": "v2",
    "write.parquet.dict-size-bytes": "65536",
    # Without it Spark would commit the jdbc transport's rows straight to main instead of staging them.
    "write.wap.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}

_JDBC_TABLE_PROPERTIES = {
    # Spark's writer stages with Iceberg's own commit. Tried again after a lost reply, it would publish what it staged:
    # see ColdTable._commit_staged in include/spark_jobs/cold_table.py.
    "commit.retry.num-retries": "0",
}


class ColdTable:
    """One Iceberg table as it was when it was loaded."""

    def __init__(self, table: Table, name: str) -> None:
        self._table = table
        self._name = name

    @property
    def uuid(self) -> str:
        """Identity of this incarnation of the table."""
        return str(self._table.metadata.table_uuid)

    @property
    def location(self) -> str:
        """URI of the table's folder."""
        return self._table.location()

    @property
    def metadata_location(self) -> str:
        """URI of the metadata file that is current."""
        return self._table.metadata_location

    @property
    def partition_field(self) -> str:
        """Name of the daily partition field."""
        return self._table.spec().fields[0].name

    @cached_property
    def published(self) -> Published | None:
        """The newest published window.

        :raises DamagedTable: if the table cannot say
        """
        branch = self._table.metadata.refs.get(PUBLISHED_BRANCH)
        return self._published_in(self._table.metadata.current_snapshot_id, branch.snapshot_id if branch else None)

    def _published_in(self, head: int | None, marker: int | None) -> Published | None:
        snapshots = {snapshot.snapshot_id: snapshot for snapshot in self._table.metadata.snapshots}

        def snapshot_of(snapshot_id: int) -> Snapshot | None:
            return _to_snapshot(snapshots[snapshot_id]) if snapshot_id in snapshots else None

        return find_published(self._name, self.uuid, head, marker, snapshot_of)

    def newest_row(self, column: str) -> datetime | None:
        """The newest time in a column, read from the data; ``None`` if the table is empty."""
        import pyarrow.compute

        batches = self._table.scan(selected_fields=(column,)).to_arrow_batch_reader()
        newest = (pyarrow.compute.max(batch.column(0)).as_py() for batch in batches)
        return max((time.astimezone(UTC) for time in newest if time is not None), default=None)

    def published_until(self, time: datetime) -> Published | None:
        """The newest window in the chain that ends at or before a time, as far as the chain can be read.

        :raises DamagedTable: if the table cannot even say which is its newest window
        """
        published = self.published
        try:
            while published is not None and published.window_id.window.high > time:
                published = self._published_in(published.snapshot.parent_id, marker=None)
        except DamagedTable:
            return None
        return published

    def rollback_statement(self, snapshot_id: int) -> str:
        """The Spark SQL that takes everything after a snapshot out of the table."""
        name = ".".join(self._table.name())
        return f"CALL {self._table.catalog.name}.system.rollback_to_snapshot('{name}', {snapshot_id})"

    def rows_per_day(self, column: str, since: date) -> dict[date, int] | None:
        """Rows by partition day, from metadata alone: what another writer removed by delete files still counts.

        :param column: the time that the partitions are days of
        :param since: the first day
        :returns: ``None`` if some files are partitioned in another way
        :raises OffloadError: if the metadata cannot be read
        """
        from pyiceberg.transforms import DayTransform  # noqa: PLC0415

        schema = self._table.schema()
        daily = {
            spec_id
            for spec_id, spec in self._table.specs().items()
            if [(schema.find_column_name(field.source_id), field.transform) for field in spec.fields]
            == [(column, DayTransform())]
        }
        if not daily:
            return None
        rows: Counter[date] = Counter()
        try:
            for task in self._table.scan(f"\"{column}\" >= '{since}T00:00:00+00:00'").plan_files():
                if task.file.spec_id not in daily:
                    return None
                rows[date(1970, 1, 1) + timedelta(days=task.file.partition[0])] += task.file.record_count
        except Exception as error:
            raise OffloadError(
                f"{self._name}: the cold table's metadata cannot be read: {error}. Nothing was changed. "
                "Run `k2 validate`."
            ) from error
        return rows

    def adopt(self, window_id: WindowId) -> None:
        """Record that the table holds a window: a snapshot without rows that carries its identity.

        :raises StaleWindow: if another writer committed since the table was loaded; nothing has changed then
        """
        from pyiceberg.exceptions import CommitFailedException  # noqa: PLC0415
        from pyiceberg.table import TableProperties  # noqa: PLC0415
        from pyiceberg.table.update.snapshot import ManageSnapshots  # noqa: PLC0415

        # A retry would put the snapshot on top of what another writer has published meanwhile: unseen, and perhaps
        # beyond the window's end. Set in memory only, never in the table.
        self._table.metadata.properties[TableProperties.COMMIT_NUM_RETRIES] = "0"
        try:
            with self._table.transaction() as transaction:
                transaction.update_snapshot({WINDOW_PROPERTY: str(window_id)}).fast_append().commit()
                snapshot_id = transaction.table_metadata.current_snapshot_id
                if snapshot_id is not None:
                    ManageSnapshots(transaction).create_branch(snapshot_id, PUBLISHED_BRANCH).commit()
        except CommitFailedException:
            raise StaleWindow(
                f"{self._name}: another writer committed to the cold table meanwhile. Nothing was changed. "
                "Run the command again."
            ) from None

    @property
    def total_rows(self) -> int:
        """Rows that readers see, from the current snapshot's summary."""
        snapshot = self._table.current_snapshot()
        return int(snapshot.summary["total-records"] or 0) if snapshot and snapshot.summary else 0

    def check_columns(self, columns: Sequence[Column]) -> None:
        """Refuse a source whose columns are not the cold table's.

        :raises InvalidSource: naming the first column that differs
        """
        cold = {field.name: str(field.field_type) for field in self._table.schema().fields}
        warm = {column.name: column.iceberg_type for column in columns}
        for name in {**cold, **warm}:
            if cold.get(name) != warm.get(name):
                raise InvalidSource(
                    f"{self._name}: column '{name}' is {warm.get(name, 'missing')} in the source and "
                    f"{cold.get(name, 'missing')} in the cold table. Nothing was moved and no row is lost. "
                    "Change one of the two tables, or point 'source' at a view with the cold table's columns; "
                    "then run `k2 validate`."
                )


class ColdCatalog:
    """The Iceberg catalog.

    :param settings: where it is
    :raises Unreachable: by every method, if the catalog or its storage does not answer
    :raises Refused: by every method, if either does not let the user in
    """

    def __init__(self, settings: connections.Catalog) -> None:
        self._settings = settings

    @cached_property
    def _catalog(self) -> Catalog:
        from pyiceberg.catalog import load_catalog  # noqa: PLC0415 - DAG files import this module and must parse fast

        return load_catalog(self._settings.name, **_impatient(self._settings.pyiceberg))

    def close(self) -> None:
        """End its connections."""
        if "_catalog" in self.__dict__:
            self._catalog.close()

    def load(self, table: TableSpec) -> ColdTable | None:
        """The table as it is now; ``None`` if it does not exist yet."""
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError  # noqa: PLC0415

        try:
            return ColdTable(self._catalog.load_table(table.target), table.name)
        except (NoSuchTableError, NoSuchNamespaceError):
            return None
        except Exception as error:
            raise self._translated(error) from error

    def load_or_create(self, table: TableSpec, columns: Sequence[Column]) -> ColdTable:
        """The table as it is now, created from the source's columns if it does not exist.

        :raises InvalidSource: if it exists with other columns
        """
        from pyiceberg.exceptions import TableAlreadyExistsError  # noqa: PLC0415

        cold = self.load(table)
        if cold is None:
            try:
                self._catalog.create_namespace_if_not_exists(table.target.split(".")[0])
                cold = ColdTable(self._catalog.create_table(table.target, **_definition(table, columns)), table.name)
            except TableAlreadyExistsError:
                return self.load_or_create(table, columns)
            except Exception as error:
                raise self._translated(error) from error
        cold.check_columns(columns)
        return cold

    def ping(self) -> None:
        """Ask the catalog something small."""
        try:
            self._catalog.list_namespaces()
        except Exception as error:
            raise self._translated(error) from error

    def _translated(self, error: Exception) -> OffloadError:
        from pyiceberg.exceptions import ForbiddenError, UnauthorizedError  # noqa: PLC0415

        first_line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        of_driver = getattr(error, "orig", None) or error  # SQLAlchemy wraps it
        sqlstate: str | None = getattr(of_driver, "sqlstate", None) or getattr(of_driver, "pgcode", None)
        refused = isinstance(error, (PermissionError, ForbiddenError, UnauthorizedError))
        kind = Refused if refused or is_refusal(sqlstate, str(of_driver)) else Unreachable
        return kind("The Iceberg catalog or its storage", self._settings.connection_id, first_line)


def _impatient(properties: Mapping[str, str]) -> dict[str, str]:
    """With limits to waiting for the Postgres of a SQL catalog, and no first failure from a connection gone stale."""
    if properties.get("type") != "sql":
        return dict(properties)
    limits = "connect_timeout=10&keepalives_idle=30&keepalives_interval=10&keepalives_count=3&tcp_user_timeout=60000"
    return {"pool_pre_ping": "true"} | dict(properties) | {"uri": f"{properties['uri']}?{limits}"}


def _definition(table: TableSpec, columns: Sequence[Column]) -> dict[str, Any]:
    from pyiceberg.partitioning import PartitionField, PartitionSpec  # noqa: PLC0415
    from pyiceberg.schema import Schema  # noqa: PLC0415
    from pyiceberg.table.name_mapping import create_mapping_from_schema  # noqa: PLC0415
    from pyiceberg.table.sorting import SortField, SortOrder  # noqa: PLC0415
    from pyiceberg.transforms import DayTransform, IdentityTransform  # noqa: PLC0415

    fields = [
        {
            "id": position,
            "name": column.name,
            "type": column.iceberg_type.replace(" ", ""),
            "required": not column.nullable,
        }
        for position, column in enumerate(columns, start=1)
    ]
    schema = Schema.model_validate({"type": "struct", "fields": fields})
    field_id = {column.name: position for position, column in enumerate(columns, start=1)}
    partition = PartitionField(
        source_id=field_id[table.partition_column],
        field_id=1000,
        transform=DayTransform(),
        name=f"{table.partition_column}_day",
    )
    sort_fields = [SortField(source_id=field_id[name], transform=IdentityTransform()) for name in table.sort_columns]
    # ClickHouse writes no field ids into its Parquet files; readers find the columns by this mapping.
    name_mapping = create_mapping_from_schema(schema).model_dump_json()
    return {
        "schema": schema,
        "partition_spec": PartitionSpec(partition),
        "sort_order": SortOrder(*sort_fields),
        "properties": {
            **_TABLE_PROPERTIES,
            "schema.name-mapping.default": name_mapping,
            **(_JDBC_TABLE_PROPERTIES if table.transport == "jdbc" else {}),
        },
    }


def _to_snapshot(snapshot: Any) -> Snapshot:
    summary = snapshot.summary.additional_properties if snapshot.summary else {}
    added = int(summary.get("added-records", 0))
    total = int(summary.get("total-records", 0))
    return Snapshot(
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        sequence_number=snapshot.sequence_number or 0,
        window_id=WindowId.parse(summary.get(WINDOW_PROPERTY)),
        rows=added,
        size_bytes=int(summary.get("added-files-size", 0)),
        rows_before=total - added + int(summary.get("deleted-records", 0)),
        rows_after=total,
    )
