"""What a cold table keeps besides its rows: old snapshots, and files that no snapshot names."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from k2_offload.core.errors import DamagedTable, OffloadError
from k2_offload.core.exactly_once import PUBLISHED_BRANCH
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.maintenance import MAX_REF_AGE, Folder, FoundMetadata, check_alone, expire_before
from k2_offload.core.windows import to_micros
from offload_job.bulk import Bulk
from offload_job.java_errors import failures_translated, first_line, is_broken_json
from offload_job.scan_tasks import java_list

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from offload_job.cold_table_writer import ColdTableWriter
    from offload_job.jvm import Jvm

_MILLIS = 1000
_OWN_REFS = "k2_"
"""So begin the names of this package's branches and tags."""

_COMMIT_SECONDS = 5
"""A commit's metadata file is written so long before the catalog names it, at most."""

_LOOKED_AT = 100
"""Of the files that were removed: Iceberg logs what it cannot remove, and says nothing."""


class Storage:
    """One table's snapshots and files.

    :param name: the table's name in messages
    :param identifier: ``catalog.namespace.table`` as it stands in Spark's SQL
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
                raise OffloadError(f"{self._name}: the cold table holds no window any more. No file was removed.")
            refs = java.refs()
            branches = {name: refs[name].snapshotId() for name in (PUBLISHED_BRANCH,) if name in refs}
            before, kept = expire_before(
                self._name, java.currentSnapshot().snapshotId(), published, branches, self._cold.snapshot,
                self._made_at, wanted,
            )  # fmt: skip
            # No file goes with them: what a snapshot that was staged twice names may be main's.
            expiring = java.expireSnapshots().expireOlderThan(to_micros(before) // _MILLIS).retainLast(1)
            expiring = expiring.cleanExpiredFiles(False)
            going = {snapshot.snapshotId() for snapshot in expiring.apply()}
            if going:
                self._check_refs(refs)
            if going & kept:
                raise OffloadError(
                    f"{self._name}: a branch of the cold table has a retention of its own (ALTER TABLE … RETAIN), by "
                    "which snapshots would go that say which window came last. No snapshot was expired. Take it away."
                )
            if going and not dry_run:
                expiring.commit()
                reached(FaultPoint.EXPIRED, self._name)
                java.refresh()
                if java.currentSnapshot() is None or any(name not in java.refs() for name in branches):
                    # A REST catalog expires whatever main has come to meanwhile.
                    raise DamagedTable(
                        f"{self._name}: somebody moved main to an old snapshot while snapshots were expired, and it "
                        f"has gone. No file was removed. `k2 watermark rebuild {self._name}` shows what is left."
                    )
        return len(going)

    def _check_refs(self, refs: Any) -> None:
        """With snapshots, an expiry takes branches and tags away that have become too old."""
        java, now = self._cold.java, time.time() * _MILLIS
        for name in refs:
            own = refs[name].maxRefAgeMs()
            most = java.properties().get(MAX_REF_AGE) if own is None else own
            made_at = java.snapshot(refs[name].snapshotId()).timestampMillis()
            if name.startswith(_OWN_REFS) and most is not None and now - made_at > int(most):
                raise OffloadError(
                    f"{self._name}: '{name}' of the cold table would go with old snapshots, as it is older than {most} "
                    f"ms: its property {MAX_REF_AGE}, or a RETAIN of its own. No snapshot was expired and no file was "
                    f"removed. With Spark: ALTER TABLE {self._identifier} UNSET TBLPROPERTIES ('{MAX_REF_AGE}')."
                )

    def _made_at(self, snapshot_id: int) -> datetime:
        return datetime.fromtimestamp(self._cold.java.snapshot(snapshot_id).timestampMillis() / _MILLIS, UTC)

    def orphans(self, spark: SparkSession, before: datetime) -> dict[str, int]:
        """Files in the table's folder that no snapshot of the table names, and their sizes in bytes.

        :param before: files are old that were written before
        :raises DamagedTable: if they may belong to another table
        """
        # Listed by the first, and still not named by the table as the second reads it.
        first = self._find_orphans(spark, before)
        found = sorted(first & self._find_orphans(spark, before)) if first else []
        if not found:
            return {}
        with failures_translated(self._cold.connection_id):
            listed = self._list()
            try:
                self._check_alone(listed)
            except DamagedTable:  # of a commit that is just being made: its metadata file comes before it
                time.sleep(_COMMIT_SECONDS)
                self._check_alone(listed)
            return {file: listed.get(file, 0) for file in found}

    def _check_alone(self, listed: Mapping[str, int]) -> None:
        """Of the table as it is after the listing, so that what others commit meanwhile is its own."""
        java = self._cold.java
        java.refresh()
        last_sequence_number = java.operations().current().lastSequenceNumber()
        check_alone(self._name, self._cold.uuid, last_sequence_number, self._other_metadata(listed))

    def _list(self) -> dict[str, int]:
        """The files in the table's folder, and their sizes in bytes."""
        bulk, location = Bulk(self._jvm), f"{self._cold.location}/"
        if not self._is_on_disk:
            infos = java_list(self._jvm, self._cold.java.io().listPrefix(location))
            info = "org.apache.iceberg.io.FileInfo"
            paths, sizes = (bulk.ask(infos, bulk.method(info, name)) for name in ("location", "size"))
            return dict(zip(paths, map(int, sizes), strict=True))
        hadoop, status = self._jvm.org.apache.hadoop, "org.apache.hadoop.fs.FileStatus"
        asked = [bulk.method(status, name) for name in ("getPath", "isDirectory", "getLen")]
        file_system = hadoop.fs.Path(location).getFileSystem(hadoop.conf.Configuration())
        found: dict[str, int] = {}
        folders = [location]
        while folders:
            listed = file_system.listStatus(bulk.array("org.apache.hadoop.fs.Path", map(hadoop.fs.Path, folders)))
            entries = list(zip(*(bulk.ask(bulk.listed(listed), each) for each in asked), strict=True))
            folders = [path for path, is_folder, _ in entries if is_folder == "true"]
            found |= {path: int(size) for path, is_folder, size in entries if is_folder == "false"}
        return found

    @property
    def _is_on_disk(self) -> bool:
        """Whether Hadoop's ``LocatedFileStatus`` must be avoided: there it starts a process, ``ls``, for each file."""
        return self._cold.location.startswith(("file:", "/"))

    def _find_orphans(self, spark: SparkSession, before: datetime) -> set[str]:
        catalog = self._identifier.partition(".")[0]
        try:
            rows = spark.sql(
                f"CALL {catalog}.system.remove_orphan_files(table => '{self._identifier}', dry_run => true, "
                f"older_than => TIMESTAMP '{before.astimezone(UTC):%Y-%m-%d %H:%M:%S}', "
                f"prefix_listing => {not self._is_on_disk})"
            ).collect()
        except Exception as error:
            raise OffloadError(
                f"{self._name}: files that no snapshot names could not be looked for: {first_line(error)}. "
                "No file was removed."
            ) from error
        return {str(row[0]) for row in rows}

    def _other_metadata(self, listed: Mapping[str, int]) -> Iterator[FoundMetadata]:
        """Metadata files that the table's own list does not name, however young they are."""
        current = self._cold.java.operations().current()
        own = {str(current.metadataFileLocation()), *(str(entry.file()) for entry in current.previousFiles())}
        for file, size_bytes in listed.items():
            if file in own or not file.endswith((".metadata.json", ".metadata.json.gz")) or not size_bytes:
                continue
            metadata = self._read_metadata(file)
            if metadata is not None:
                yield FoundMetadata(file, str(metadata.uuid()), metadata.lastSequenceNumber())

    def _read_metadata(self, file: str) -> Any:
        """``None`` if it is half of a file, left by a writer that died, or has gone meanwhile."""
        from py4j.protocol import Py4JJavaError  # noqa: PLC0415 - comes with Spark

        io = self._cold.java.io()
        try:
            return self._jvm.org.apache.iceberg.TableMetadataParser.read(io, file)
        except Py4JJavaError as error:
            if is_broken_json(error) or not io.newInputFile(file).exists():
                return None
            raise  # a storage that lets nobody read must not pass for an empty folder

    def remove(self, files: Collection[str]) -> None:
        """Remove orphans.

        :raises OffloadError: if they cannot be removed
        """
        reached(FaultPoint.ORPHANS_FOUND, self._name)
        if not files:
            return
        self._cold.remove_files(list(files), "that no snapshot names")
        reached(FaultPoint.ORPHANS_REMOVED, self._name)
        with failures_translated(self._cold.connection_id):
            io = self._cold.java.io()
            left = [file for file in list(files)[:_LOOKED_AT] if io.newInputFile(file).exists()]
        if left:
            raise OffloadError(
                f"{self._name}: {len(files)} files that no snapshot names could not be removed, such as {left[0]}. "
                "They only take space. May the catalog's user delete there?"
            )
