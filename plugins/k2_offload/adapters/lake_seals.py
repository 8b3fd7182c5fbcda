"""The seals of cold tables, in an Iceberg table beside them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from k2_offload.adapters.cold_errors import load_if_there
from k2_offload.adapters.metadata_files import other_table
from k2_offload.core.errors import DamagedTable, OffloadError, StaleWindow
from k2_offload.core.seals import Seal
from k2_offload.core.tables import SEALS_TABLE

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

log = logging.getLogger(__name__)

_PROPERTIES = {
    "commit.manifest-merge.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "10",
}


_ADDED = "accepted"
"""A column that tables of earlier versions get with the next seal."""

_MOST_FILES = 100
"""Each sealing of a table adds one; from so many on, all seals are written into one again."""

_KEPT = timedelta(days=30)
"""How long snapshots are kept that are not current."""


class LakeSeals:
    """All seals of the cold tables of one namespace. Seals are only added.

    :param name: of the table, with its namespace
    :param told: translates what the library raises
    """

    def __init__(self, catalog: Catalog, name: str, told: Callable[[], AbstractContextManager[None]]) -> None:
        self._catalog = catalog
        self._name = name
        self._told = told
        self._table: Table | None = None
        self._known: list[Seal] = []

    @property
    def known(self) -> Sequence[Seal]:
        """Those that were read last, and those that were added since."""
        return self._known

    def read(self) -> tuple[list[Seal], list[str]]:
        """Every seal there is, in no order; one that was written twice may be there twice.

        :returns: the seals, and a sentence for each row that is none
        :raises DamagedTable: if the table is somebody else's
        """
        from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError  # noqa: PLC0415

        with self._told():
            try:
                self._table = self._catalog.load_table(self._name)
            except (NoSuchTableError, NoSuchNamespaceError):
                self._table, self._known = None, []
                return [], []
            self._check(self._table)
            rows = self._table.scan().to_arrow().to_pylist()
        seals, altered = [], []
        for row in rows:
            try:
                seals.append(Seal.read(row))
            except (ValueError, TypeError):
                altered.append(
                    f"{self._name}: the seal of {row['table_name']} {row['day']} was altered by hand. Nothing was "
                    "changed and no row is lost. docs/runbooks/consistency.md says what to do."
                )
        self._known = list(seals)
        return seals, altered

    def append(self, seals: Sequence[Seal], *, again: bool = False) -> None:
        """Add seals to the table as it was last read, in one commit.

        :param again: they were in it before, and somebody has dropped it
        :raises StaleWindow: if somebody else has added any meanwhile; nothing was changed then
        :raises DamagedTable: if the catalog has lost a table of other seals
        """
        import pyarrow as pa
        from pyiceberg.exceptions import CommitFailedException, TableAlreadyExistsError  # noqa: PLC0415
        from pyiceberg.table import TableProperties  # noqa: PLC0415
        from pyiceberg.types import BooleanType  # noqa: PLC0415

        with self._told():
            try:
                if self._table is None:
                    self._table = self._catalog.create_table(self._name, _schema(), properties=_PROPERTIES)
                if self._table.current_snapshot() is None:
                    self._check_not_lost(self._table, len(seals) if again else 0)
                # A retry would add to what somebody else has added, unseen. Set in memory only.
                self._table.metadata.properties[TableProperties.COMMIT_NUM_RETRIES] = "0"
                with self._table.transaction() as transaction:
                    if _ADDED not in self._table.schema().column_names:
                        with transaction.update_schema() as schema:
                            schema.add_column(_ADDED, BooleanType())
                    columns = transaction.table_metadata.schema().as_arrow()
                    added = pa.Table.from_pylist([seal.stored for seal in seals], columns)
                    if _files(self._table) < _MOST_FILES:
                        transaction.append(added)
                    else:
                        there = self._table.scan().to_arrow()  # also those of appends since the last read
                        rows = pa.concat_tables([there, added], promote_options="default")
                        transaction.overwrite(rows.select(columns.names).cast(columns))
            except (CommitFailedException, TableAlreadyExistsError):
                raise StaleWindow(
                    f"{self._name}: another run has sealed days meanwhile. Nothing was changed; the next run looks "
                    "anew."
                ) from None
            self._known += seals
            self._expire(self._table, max(seal.sealed_at for seal in seals) - _KEPT)

    def _check_not_lost(self, table: Table, count: int) -> None:
        """Whether the folder of a table that is new holds an older one, with seals that nobody would see any more."""
        other = other_table(table.io, table.location(), str(table.metadata.table_uuid))
        if other is None or other.rows <= count:
            return
        now = load_if_there(self._catalog, self._name)
        if now is not None and now.metadata.table_uuid == table.metadata.table_uuid:  # nobody has registered the other
            self._catalog.drop_table(self._name)
        self._table = None
        raise DamagedTable(
            f"{self._name}: the catalog does not have it, and its folder holds one of {other.rows:,} rows: "
            f"{other.metadata_file}. No day was sealed, nothing was changed and no row is lost. "
            f"`k2 register {SEALS_TABLE}` brings it back; then days are sealed again."
        )

    def _expire(self, table: Table, until: datetime) -> None:
        from pyiceberg.exceptions import CommitFailedException  # noqa: PLC0415

        before = list(table.metadata.snapshots)
        old = [each.timestamp_ms for each in before if each.timestamp_ms < until.timestamp() * 1000]
        if len(old) < _MOST_FILES:
            return
        # The newest of them stays: it may have been current until now, and somebody may be reading it.
        until = datetime.fromtimestamp(max(old) / 1000, UTC)
        with suppress(CommitFailedException):  # the seals are there, and the next one tries again
            table.maintenance.expire_snapshots().older_than(until).commit()
            self._remove_files(str(table.metadata.table_uuid), before)

    def _remove_files(self, table_uuid: str, before: Sequence[Snapshot]) -> None:
        """Remove what only expired snapshots name: pyiceberg leaves it there, and no other file is looked at.

        :param before: all snapshots that were there before some expired
        """
        try:
            with self._told():
                table = self._catalog.load_table(self._name)
                if str(table.metadata.table_uuid) != table_uuid:
                    return
                left = {each.snapshot_id for each in table.metadata.snapshots}
                expired = [each for each in before if each.snapshot_id not in left]
                for file in _named(table.io, expired) - _named(table.io, table.metadata.snapshots):
                    with suppress(FileNotFoundError):
                        table.io.delete(file)
        except OffloadError as error:  # they only take space
            log.warning("%s: files of expired snapshots were not removed: %s", self._name, error)

    def _check(self, table: Table) -> None:
        expected = [(field.name, field.field_type) for field in _schema().fields]
        found = [(field.name, field.field_type) for field in table.schema().fields]
        if found not in (expected, expected[:-1]):
            raise DamagedTable(
                f"{self._name}: a table of that name is there, and it holds no seals of cold tables. Nothing was "
                "changed and no row is lost. Rename it: days are sealed when the name is free."
            )


def _named(io: FileIO, snapshots: Iterable[Snapshot]) -> set[str]:
    """The files that snapshots consist of."""
    found: set[str] = set()
    for snapshot in snapshots:
        found.add(snapshot.manifest_list)
        for manifest in snapshot.manifests(io):
            if manifest.manifest_path not in found:
                found.add(manifest.manifest_path)
                found |= {entry.data_file.file_path for entry in manifest.fetch_manifest_entry(io)}
    return found


def _files(table: Table) -> int:
    snapshot = table.current_snapshot()
    return int(snapshot.summary["total-data-files"] or 0) if snapshot and snapshot.summary else 0


def _schema() -> Schema:
    from pyiceberg.schema import Schema  # noqa: PLC0415
    from pyiceberg.types import BooleanType, DateType, LongType, NestedField, StringType, TimestamptzType  # noqa: PLC0415

    columns = {
        "seal_id": StringType(),
        "table_name": StringType(),
        "table_uuid": StringType(),
        "day": DateType(),
        "partition_column": StringType(),
        "rows": LongType(),
        "content_hash": StringType(),
        "columns": StringType(),
        "before": StringType(),
        "snapshot_id": LongType(),
        "sealed_at": TimestamptzType(),
        _ADDED: BooleanType(),
    }
    fields = enumerate(columns.items(), start=1)
    return Schema(
        *(NestedField(number, name, type_, required=name not in ("before", _ADDED)) for number, (name, type_) in fields)
    )
