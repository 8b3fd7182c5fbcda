"""What a cold table keeps besides its rows: old snapshots, and files that no snapshot names."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from k2_offload.core.errors import OffloadError
from k2_offload.core.exactly_once import PUBLISHED_BRANCH
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.maintenance import Folder, expire_before
from k2_offload.core.windows import to_micros
from offload_job.java_errors import failures_translated

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from offload_job.cold_table_writer import ColdTableWriter
    from offload_job.jvm import Jvm

_MILLIS = 1000


class Storage:
    """One table's snapshots and files.

    :param name: the table's name in messages
    :param identifier: ``catalog.namespace.table`` as Spark knows it
    """

    def __init__(self, jvm: Jvm, cold: ColdTableWriter, name: str, identifier: str) -> None:
        self._jvm = jvm
        self._cold = cold
        self._name = name
        self._identifier = identifier

    def folder(self) -> Folder:
        """What there is now."""
        with failures_translated(self._cold.connection_id):
            java = self._cold.java
            java.refresh()
            current = java.currentSnapshot()
            summary = current.summary() if current is not None else {}
            metadata = java.io().newInputFile(java.operations().current().metadataFileLocation())
            return Folder(
                files=int(summary.get("total-data-files") or 0),
                size_bytes=int(summary.get("total-files-size") or 0),
                snapshots=java.operations().current().snapshots().size(),
                metadata_bytes=metadata.getLength(),
            )

    def expire(self, wanted: datetime, *, dry_run: bool) -> int:
        """Forget old snapshots; their files stay for :meth:`remove`.

        :param wanted: older ones may go
        :returns: how many went
        :raises DamagedTable: if the table cannot say which window came last, or was rolled back since
        """
        with failures_translated(self._cold.connection_id):
            java = self._cold.java
            java.refresh()
            published = self._cold.published()
            if published is None:
                return 0
            refs = java.refs()
            branches = {name: refs[name].snapshotId() for name in (PUBLISHED_BRANCH,) if name in refs}
            before = expire_before(
                self._name, java.currentSnapshot().snapshotId(), published, branches, self._cold.snapshot,
                self._made_at, wanted,
            )  # fmt: skip
            # No file goes with them: what a snapshot that was staged twice names may be main's.
            expiring = java.expireSnapshots().expireOlderThan(to_micros(before) // _MILLIS).retainLast(1)
            expiring = expiring.cleanExpiredFiles(False)
            count: int = expiring.apply().size()
            if count and not dry_run:
                expiring.commit()
                reached(FaultPoint.EXPIRED, self._name)
        return count

    def _made_at(self, snapshot_id: int) -> datetime:
        return datetime.fromtimestamp(self._cold.java.snapshot(snapshot_id).timestampMillis() / _MILLIS, UTC)

    def orphans(self, spark: SparkSession, before: datetime) -> list[str]:
        """Files in the table's folder that no snapshot of the table names.

        :param before: files are old that were written before
        :raises OffloadError: if the folder holds another table's metadata
        """
        # Listed by the first, and still not named by the table as the second reads it.
        first = self._find_orphans(spark, before)
        found = sorted(first & self._find_orphans(spark, before)) if first else []
        own = self._cold.uuid
        for file in found:
            if file.endswith(".metadata.json") and (other := self._uuid_in(file)) not in (None, own):
                raise OffloadError(
                    f"{self._name}: the folder of the cold table holds metadata of another table, {other}: {file}. "
                    "It may have been dropped and made anew in the same place. No file was removed. Move the other "
                    "table's files away, or remove them; the next run then goes on."
                )
        return found

    def _find_orphans(self, spark: SparkSession, before: datetime) -> set[str]:
        catalog, _, table = self._identifier.partition(".")
        rows = spark.sql(
            f"CALL {catalog}.system.remove_orphan_files(table => '{table}', dry_run => true, "
            f"older_than => TIMESTAMP '{before.astimezone(UTC):%Y-%m-%d %H:%M:%S}', prefix_listing => true)"
        ).collect()
        return {str(row[0]) for row in rows}

    def _uuid_in(self, file: str) -> str | None:
        from py4j.protocol import Py4JJavaError  # noqa: PLC0415 - comes with Spark

        try:
            return str(self._jvm.org.apache.iceberg.TableMetadataParser.read(self._cold.java.io(), file).uuid())
        except Py4JJavaError:  # half of a file, left by a writer that died
            return None

    def size_bytes(self, files: Sequence[str]) -> int:
        """How large files are together; one that has gone meanwhile counts nothing."""
        io: Any = self._cold.java.io()
        inputs = (io.newInputFile(file) for file in files)
        return sum(file.getLength() for file in inputs if file.exists())

    def remove(self, files: Sequence[str]) -> None:
        """Remove orphans."""
        reached(FaultPoint.ORPHANS_FOUND, self._name)
        if files:
            self._cold.remove_files(files, "that no snapshot names")
            reached(FaultPoint.ORPHANS_REMOVED, self._name)
