"""One Iceberg table through Iceberg's own Java library: reads its chain of snapshots, and stages."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import Any

from k2_offload.adapters.retry import with_retries
from k2_offload.core.backfill import BackfillStamp, find_skips
from k2_offload.core.connections import CatalogSettings
from k2_offload.core.errors import ConfigurationError, OffloadError, StaleWindow, Unreachable, WrittenElsewhere
from k2_offload.core.exactly_once import (
    ATTEMPT_PROPERTY,
    HEALED_BRANCH,
    PUBLISHED_BRANCH,
    Published,
    Snapshot,
    Stamp,
    find_published,
    may_drop,
)
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.heal import HealStamp
from k2_offload.core.limits import STAGE_ATTEMPTS
from k2_offload.core.maintenance import RewriteStamp
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.schema_change import widens
from k2_offload.core.skips import Skips
from offload_job.authorities import trust
from offload_job.java_errors import failures_translated, is_conflict
from offload_job.jvm import Jvm, java_map
from offload_job.scan_tasks import ScanTasks

log = logging.getLogger(__name__)

RowsStamp = Stamp | HealStamp | BackfillStamp
"""What a snapshot that brings rows from ClickHouse says of itself."""

_NAME_MAPPING = "schema.name-mapping.default"

_COMPARES_WHOLE_TABLE = "JdbcTableOperations"
"""Iceberg's class whose commits fail after any other; a REST catalog drops even what a branch has just moved to."""


def open_catalog(jvm: Jvm, settings: CatalogSettings) -> Any:
    """Connect to the catalog, with some patience.

    :raises ConfigurationError: if the authorities that its connection names cannot be read here
    :raises Unreachable: if it does not answer
    :raises Refused: if it does not let the user in
    """
    if settings.ca_certs:
        trust(jvm, settings.connection_id, settings.ca_certs)
    properties = java_map(jvm, settings.java)

    def connect() -> Any:
        with failures_translated(settings.connection_id):
            return jvm.org.apache.iceberg.CatalogUtil.buildIcebergCatalog(
                settings.name, properties, jvm.org.apache.hadoop.conf.Configuration()
            )

    return with_retries(connect)


class ColdTableWriter:
    """A cold table as it was when last refreshed.

    :param target: ``namespace.table``
    :param name: the table's name in messages
    :param connection_id: the Airflow connection of the catalog, named in errors
    :raises Unreachable: by every method, if the catalog or its storage does not answer
    :raises Refused: by every method, if either does not let the user in
    """

    def __init__(self, jvm: Jvm, catalog: Any, target: str, name: str, connection_id: str) -> None:
        self.jvm = jvm
        self._target = target
        self.name = name
        self.connection_id = connection_id
        self._named: set[str] = set()
        with failures_translated(connection_id):
            identifier = jvm.org.apache.iceberg.catalog.TableIdentifier.parse(target)
            if not catalog.tableExists(identifier):
                raise OffloadError(
                    f"{name}: the cold table {target} has gone since this window was planned. Nothing was moved and no "
                    f"row is lost. If it was dropped on purpose, run `k2 watermark rebuild {name}`."
                )
            self.java = catalog.loadTable(identifier)

    @property
    def uuid(self) -> str:
        """Identity of this incarnation of the table."""
        return str(self.java.uuid())

    @property
    def location(self) -> str:
        """URI of the table's folder, without a trailing slash."""
        return str(self.java.location()).rstrip("/")

    def published(self, head: int | None = None) -> Published | None:
        """The newest window in the chain from ``head`` (``None``: from what readers see) backwards.

        :raises DamagedTable: if the table cannot say
        """
        head = self.head if head is None else head
        return find_published(self.name, self.uuid, head, self._branches(), self.snapshot)

    def skips(self, head: int | None = None) -> Skips:
        """What is left out on purpose in the chain from ``head`` (``None``: from what readers see) backwards.

        :raises DamagedTable: if the table cannot say
        """
        head = self.head if head is None else head
        return find_skips(head, self.published(head), self._branches(), self.snapshot)

    @property
    def head(self) -> int | None:
        """The snapshot that readers see; ``None`` if the table has none yet."""
        current = self.java.currentSnapshot()
        return current.snapshotId() if current is not None else None

    def _branches(self) -> dict[str, int]:
        refs = self.java.refs()
        known = (PUBLISHED_BRANCH, HEALED_BRANCH)
        return {name: refs.get(name).snapshotId() for name in known if refs.containsKey(name)}

    def require(self, properties: Mapping[str, str]) -> None:
        """Refuse a table without the properties that its transport needs.

        :raises ConfigurationError: naming the first that differs, and the statement that sets all of them
        """
        present = self.java.properties()
        for name, wanted in properties.items():
            if present.get(name) != wanted:
                listed = ", ".join(f"'{key}' = '{value}'" for key, value in properties.items())
                raise ConfigurationError(
                    f"{self.name}: the cold table's property '{name}' is not '{wanted}', so Spark could publish "
                    f"rows before they are audited. Nothing was moved and no row is lost. Set it: ALTER TABLE "
                    f"{self._target} SET TBLPROPERTIES ({listed})."
                )

    def check_columns(self, planned: Sequence[PlannedColumn]) -> None:
        """Refuse rows that were planned for other columns than the table has as it was last refreshed.

        :raises StaleWindow: they have to be planned anew
        """
        with failures_translated(self.connection_id):
            fields = self.java.schema().columns()
            present = {str(field.name()): str(field.type()) for field in fields}
        wanted = {column.name: column.iceberg_type for column in planned}
        if wanted.keys() != present.keys() or any(
            present[name] != kind and not widens(kind, present[name]) for name, kind in wanted.items()
        ):
            raise StaleWindow(
                f"{self.name}: the cold table's columns have changed since this was planned. Nothing was published "
                f"and no row is lost; the next run plans anew. `k2 schema {self.name}` shows them."
            )

    def parent_of(self, snapshot_id: int) -> int | None:
        """The snapshot that this one was staged on."""
        parent: int | None = self.staged(snapshot_id).parentId()
        return parent

    def staged(self, snapshot_id: int) -> Any:
        """Iceberg's ``Snapshot`` object of one that was staged.

        :raises OffloadError: if it has expired meanwhile
        """
        staged = self.java.snapshot(snapshot_id)
        if staged is None:
            raise OffloadError(f"{self.name}: the staged snapshot {snapshot_id} has gone; the retry stages it again.")
        return staged

    def plan(self, scan: Any) -> ScanTasks:
        """The files that Iceberg's ``TableScan`` finds."""
        return ScanTasks.plan(self.jvm, scan)

    def stage_files(self, files: Iterable[Any], stamp: RowsStamp) -> Snapshot:
        """Make the data files a snapshot on top of the current head that no reader sees.

        :param files: Iceberg ``DataFile`` objects; may be empty
        """
        append = self.java.newAppend()
        for file in files:
            append.appendFile(file)
        return self.stage(append, stamp)

    def stage(self, update: Any, stamp: RowsStamp | RewriteStamp) -> Snapshot:
        """Make an update a snapshot on top of the current head that no reader sees.

        :param update: Iceberg's ``SnapshotUpdate``
        """
        for key, value in stamp.summary.items():
            update.set(key, value)
        with failures_translated(self.connection_id):
            self._check_present([self._metadata_file()])
            self._commit_staged(update, stamp.attempt)
            reached(FaultPoint.STAGED, self.name)
        return self.staged_by(stamp.attempt)

    def _commit_staged(self, update: Any, attempt: str) -> None:
        """Commit a staged update in place of Iceberg's own ``commit``, which publishes it when a reply is lost.

        Iceberg's JDBC catalog sends a commit again when the connection breaks before the reply. The first one has
        taken effect, so the second conflicts; ``commit`` retries, finds its snapshot in the table, takes the whole
        for a rollback and moves main to the snapshot: unaudited, and whatever main has come to meanwhile. Here a
        conflict is followed by a look at the table.
        """
        from py4j.protocol import Py4JJavaError  # noqa: PLC0415

        operations = self.java.operations()
        for remaining in reversed(range(STAGE_ATTEMPTS)):
            snapshot = update.apply()  # writes manifests, on top of the table as it is now; commits nothing
            base = operations.current()
            updated = self.jvm.org.apache.iceberg.TableMetadata.buildFrom(base).addSnapshot(snapshot).build()
            self._named.add(attempt)
            try:
                operations.commit(base, updated)
            except Py4JJavaError as error:
                self.java.refresh()
                if self._find_staged(attempt) is not None:
                    return
                if not remaining or not is_conflict(error):
                    raise
            else:
                return

    def may_be_named(self, attempt: str) -> bool:
        """Whether a request to the catalog has named the files of an attempt; also one that failed may have worked."""
        return attempt in self._named

    @contextmanager
    def removing_unnamed(self, attempt: str, files: Sequence[str]) -> Iterator[None]:
        """Remove the files of an attempt that fails before the catalog may know of them.

        :param files: URIs; may grow meanwhile, and hold some that were never written
        """
        try:
            yield
        except Exception:
            if not self.may_be_named(attempt):
                with self._clearing_up():
                    self.remove_files(files)
            raise

    def discard(self, snapshot_id: int) -> None:
        """Drop a staged snapshot that must never be published, then remove its files.

        Where something else may refer to them, or the snapshot may still be there, both are left to maintenance.
        """
        with self._clearing_up():
            self.java.refresh()
            files = self._files_only_in(snapshot_id)
            if files and self.drop(snapshot_id):
                self.remove_files(files)

    def drop(self, snapshot_id: int) -> bool:
        """Take a staged snapshot out of the table as it was when last refreshed.

        :returns: whether it is known to have gone, and no other to have come
        """
        operations = self.java.operations()
        base = operations.current()
        staged = self.java.snapshot(snapshot_id)
        dropped = self.jvm.org.apache.iceberg.TableMetadata.buildFrom(base).removeSnapshots([staged]).build()
        try:
            operations.commit(base, dropped)
            reached(FaultPoint.DROPPED, self.name)
        except Exception:  # noqa: BLE001 - whatever it was, the table tells
            self.java.refresh()
            unchanged = bool(operations.current().lastSequenceNumber() == base.lastSequenceNumber())
            return unchanged and self.java.snapshot(snapshot_id) is None
        return True

    def _files_only_in(self, snapshot_id: int) -> list[str]:
        """Files that came with a staged snapshot; none if something else may refer to them."""
        staged, operations, io = self.java.snapshot(snapshot_id), self.java.operations(), self.java.io()
        heads = [ref.snapshotId() for ref in self.java.refs().values()]
        if (
            staged is None
            or operations.getClass().getSimpleName() != _COMPARES_WHOLE_TABLE
            or not may_drop(_to_snapshot(staged), operations.current().lastSequenceNumber(), heads)
        ):
            return []
        self._check_present([self._metadata_file()])
        own = [manifest for manifest in staged.allManifests(io) if manifest.snapshotId() == snapshot_id]
        return [
            *(str(file.location()) for file in staged.addedDataFiles(io)),
            *(str(manifest.path()) for manifest in own),
            str(staged.manifestListLocation()),
        ]

    def remove_files(self, files: Sequence[str], kind: str = "left by a failed attempt") -> None:
        """Iceberg logs what it cannot remove, and goes on.

        :param kind: what they are, for its log
        """
        self.jvm.org.apache.iceberg.CatalogUtil.deleteFiles(self.java.io(), files, kind)

    @contextmanager
    def _clearing_up(self) -> Iterator[None]:
        """Whatever goes wrong here must not hide what went wrong before."""
        try:
            yield
        except Exception as error:  # noqa: BLE001
            log.warning("%s: files of a failed attempt are left to maintenance: %s", self.name, error)

    def stage_again(self, snapshot_id: int, stamp: RowsStamp) -> Snapshot:
        """Stage the files of a staged snapshot once more, on top of the head as it is now."""
        staged = self.staged(snapshot_id)
        with failures_translated(self.connection_id):
            files = staged.addedDataFiles(self.java.io())
        return self.stage_files(files, stamp)

    def staged_by(self, attempt: str) -> Snapshot:
        """The snapshot that an attempt has staged."""
        with failures_translated(self.connection_id):
            self.java.refresh()
        staged = self._find_staged(attempt)
        if staged is None:
            raise OffloadError(
                f"{self.name}: the staged snapshot has gone. Nothing was published; the retry stages again."
            )
        return staged

    def check_stored(self, snapshot_id: int) -> None:
        """Look once more for the files that a staged snapshot adds, and for the table's own metadata.

        Whoever writes to a file system makes the folders above a file. Where a storage is away for a moment, that makes
        the table's folder anew; what is written there is gone when the storage is back, and no writer has failed.

        :raises Unreachable: if a file is missing
        """
        with failures_translated(self.connection_id):
            added = self.staged(snapshot_id).addedDataFiles(self.java.io())
            self._check_present([*(str(file.location()) for file in added), self._metadata_file()])

    def _metadata_file(self) -> str:
        return str(self.java.operations().current().metadataFileLocation())

    def _check_present(self, files: Iterable[str]) -> None:
        for file in files:
            if not self.java.io().newInputFile(file).exists():
                raise Unreachable("The Iceberg catalog or its storage", self.connection_id, f"{file} is not there")

    def data_file(self, uri: str, partition_field: str, day: date) -> Any:
        """Describe a Parquet file that is already in place, from its footer.

        :raises WrittenElsewhere: if it is not there, and the table's own metadata is
        :raises OffloadError: if it lacks a column of the table, or readers could not find its columns
        """
        iceberg = self.jvm.org.apache.iceberg
        mapping = self.java.properties().get(_NAME_MAPPING)
        if mapping is None:
            raise OffloadError(
                f"{self.name}: the cold table {self._target} has no property {_NAME_MAPPING}, so readers would not "
                "find the columns of files that ClickHouse writes. Nothing was published and no row is lost. Set it "
                "with Spark: ALTER TABLE … SET TBLPROPERTIES; or use transport: jdbc."
            )
        with failures_translated(self.connection_id):
            file = self.java.io().newInputFile(uri)
            parsed = iceberg.mapping.NameMappingParser.fromJson(mapping)
            metrics = self._metrics(uri, file, parsed)
            columns = self.java.schema().columns().size()
            if metrics.columnSizes().size() != columns:
                raise OffloadError(
                    f"{self.name}: {uri} has {metrics.columnSizes().size()} of the table's {columns} columns. Nothing "
                    "was published and no row is lost."
                )
            return (
                iceberg.DataFiles.builder(self.java.spec())
                .withInputFile(file)
                .withFormat("PARQUET")
                .withPartitionPath(f"{partition_field}={day.isoformat()}")
                .withMetrics(metrics)
                .withSortOrder(self.java.sortOrder())
                .build()
            )

    def _metrics(self, uri: str, file: Any, mapping: Any) -> Any:
        iceberg = self.jvm.org.apache.iceberg
        # Of every column: the table's own configuration leaves out those after the hundredth.
        config = iceberg.MetricsConfig.getDefault()
        try:
            with failures_translated(self.connection_id):
                return iceberg.parquet.ParquetUtil.fileMetrics(file, config, mapping)
        except OffloadError as error:
            self._check_present([self._metadata_file()])
            if not file.exists():
                raise WrittenElsewhere(uri) from error
            raise

    def _find_staged(self, attempt: str) -> Snapshot | None:
        snapshots = self.java.snapshots()
        for position in range(snapshots.size() - 1, -1, -1):
            snapshot = snapshots.get(position)
            if snapshot.summary().get(ATTEMPT_PROPERTY) == attempt:
                return _to_snapshot(snapshot)
        return None

    def snapshot(self, snapshot_id: int) -> Snapshot | None:
        """A snapshot of the table, ``None`` once it has expired."""
        snapshot = self.java.snapshot(snapshot_id)
        return None if snapshot is None else _to_snapshot(snapshot)


def _to_snapshot(snapshot: Any) -> Snapshot:
    return Snapshot.read(snapshot.snapshotId(), snapshot.parentId(), snapshot.sequenceNumber(), snapshot.summary())
