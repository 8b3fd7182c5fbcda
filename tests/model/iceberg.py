"""An Iceberg catalog whose tables change by compare-and-swap, as pyiceberg and as Iceberg's Java library show them."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import cached_property
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any

from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError

from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.core.errors import OffloadError, Unreachable
from k2_offload.core.windows import from_micros
from offload_job.cold_table_writer import ColdTableWriter
from offload_job.scan_tasks import ScannedFile
from tests.model.actors import perform
from tests.model.clickhouse import Row, Server
from tests.model.seals_table import EMPTY_STORAGE, SealsTable
from tests.model.seals_table import NAME as SEALS

MAIN = "main"


class JavaError(Exception):
    """As py4j raises what Java threw."""

    def __init__(self, kind: str, message: str):
        super().__init__(message)
        self.java_exception = SimpleNamespace(
            getClass=lambda: SimpleNamespace(getSimpleName=lambda: kind),
            getMessage=lambda: message,
            getCause=lambda: None,
        )


if "py4j" not in sys.modules:  # not installed beside Airflow; the job finds it in Spark's environment
    sys.modules["py4j"] = ModuleType("py4j")
    sys.modules["py4j.protocol"] = protocol = ModuleType("py4j.protocol")
    protocol.Py4JJavaError = JavaError


class JavaMap(dict):
    containsKey = dict.__contains__  # noqa: N815 - Java's name


class JavaList(list):
    size = list.__len__
    get = list.__getitem__


@dataclass(frozen=True)
class DataFile:
    """:param day: the partition that it is registered in"""

    path: str
    rows: tuple[Row, ...]
    day: date

    def location(self):
        return self.path


@dataclass(frozen=True)
class SimulatedSnapshot:
    """:param files: that came with it
    :param held: all that its readers look into
    """

    snapshot_id: int
    parent_snapshot_id: int | None
    sequence_number: int
    properties: Mapping[str, str]
    files: tuple[DataFile, ...]
    held: tuple[DataFile, ...]
    made_at: datetime

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        return tuple(row for file in self.held for row in file.rows)

    @property
    def summary(self):
        return _Summary(self.properties)

    @property
    def timestamp_ms(self):
        return int(self.made_at.timestamp() * 1000)

    def snapshotId(self):  # noqa: N802
        return self.snapshot_id

    def parentId(self):  # noqa: N802
        return self.parent_snapshot_id

    def sequenceNumber(self):  # noqa: N802
        return self.sequence_number

    def addedDataFiles(self, _io):  # noqa: N802
        return self.files

    def allManifests(self, _io):  # noqa: N802
        return [SimpleNamespace(snapshotId=lambda: self.snapshot_id, path=lambda: f"/lake/{self.snapshot_id}-m0.avro")]

    def manifestListLocation(self):  # noqa: N802
        return f"/lake/snap-{self.snapshot_id}.avro"


class _Summary:
    """pyiceberg has properties where Java has a method that returns a map."""

    operation = SimpleNamespace(value="append")

    def __init__(self, properties: Mapping[str, str]):
        self.additional_properties = properties

    def __call__(self):
        return self.additional_properties


@dataclass(frozen=True)
class Metadata:
    """One version of a table. Commits replace it as a whole."""

    table_uuid: str
    schema: Any
    partition_spec: Any
    properties: Mapping[str, str] = field(default_factory=dict)
    by_id: Mapping[int, SimulatedSnapshot] = field(default_factory=dict)
    branches: Mapping[str, int] = field(default_factory=dict)
    last_sequence_number: int = 0

    @property
    def current_snapshot_id(self):
        return self.branches.get(MAIN)

    @property
    def snapshots(self):
        return list(self.by_id.values())

    @cached_property
    def refs(self):
        return JavaMap(
            {
                name: SimpleNamespace(snapshot_id=head, snapshotId=lambda head=head: head)
                for name, head in self.branches.items()
            }
        )

    def metadataFileLocation(self):  # noqa: N802
        return "/lake/metadata.json"

    def lastSequenceNumber(self):  # noqa: N802
        return self.last_sequence_number

    def chain(self, head: int | None):
        """Ids from a snapshot back to where the chain ends or is cut."""
        while head in self.by_id:
            yield head
            head = self.by_id[head].parent_snapshot_id

    def held(self) -> tuple[DataFile, ...]:
        return self.by_id[self.branches[MAIN]].held if MAIN in self.branches else ()

    def rows(self) -> tuple[Row, ...]:
        return self.by_id[self.branches[MAIN]].rows if MAIN in self.branches else ()

    def currentSnapshot(self):  # noqa: N802
        return self.by_id.get(self.current_snapshot_id)


class Lakehouse:
    """All tables, and all snapshots there ever were.

    :param whole: whether any other commit conflicts (SQL catalog), or only one that moved a branch (REST catalog)
    :param check_ancestry: of fast-forward; the protocol cannot do without
    :param seals: of its tables
    :param missed: files that were removed and that a snapshot referred to then or later, whether readers see it or not
    """

    def __init__(self, clock: Callable[[], datetime], clickhouse: Server):
        self.tables: dict[str, Metadata] = {}
        self.seals = SealsTable()
        self.ever: dict[int, SimulatedSnapshot] = {}
        self.clock = clock
        self.clickhouse = clickhouse
        self.whole = True
        self.check_ancestry = True
        self.missed: set[str] = set()
        clickhouse.read_lake = lambda snapshot_id: self.ever[int(snapshot_id)].rows
        self._ids = count(1)

    def create(self, target: str, schema: Any, partition_spec: Any) -> Metadata:
        if target in self.tables:
            raise TableAlreadyExistsError(target)
        self.tables[target] = Metadata(f"uuid-{len(self.tables)}", schema, partition_spec)
        return self.tables[target]

    def prepare(
        self, base: Metadata, properties: Mapping[str, str], files: tuple[DataFile, ...] = (), removed: Collection = ()
    ) -> SimulatedSnapshot:
        """A snapshot on top of a table's head, not yet in the table.

        :param removed: paths of files that are not to be there any more; those that are not there are no mistake
        """
        held = (*(file for file in base.held() if file.path not in removed), *files)
        added, total = _count(files), _count(held)
        counts = {"added-records": added, "deleted-records": _count(base.held()) + added - total}
        return SimulatedSnapshot(
            next(self._ids),
            base.current_snapshot_id,
            base.last_sequence_number + 1,
            {
                **properties,
                **{key: str(value) for key, value in counts.items() if value},
                "total-records": str(total),
            },
            files,
            held,
            self.clock(),
        )

    def commit(
        self, target: str, base: Metadata, *, added: SimulatedSnapshot | None = None, branches=None, dropped=None
    ):
        """Compare and swap.

        :param branches: as they are to be, if they change
        :param dropped: the id of a snapshot that goes
        """
        current = self.tables[target]
        if self.check_ancestry and not self._may_follow(base, current, added, branches):
            raise JavaError("CommitFailedException", "the table was changed")
        by_id = {each: snapshot for each, snapshot in current.by_id.items() if each != dropped}
        if added is not None:
            by_id[added.snapshot_id] = self.ever[added.snapshot_id] = added
            self.missed |= {file.path for file in added.files} - self.clickhouse.files.keys()
        if branches is not None and not set(branches.values()) <= set(by_id):
            raise JavaError("ValidationException", "Cannot set a branch to an unknown snapshot")
        self.tables[target] = replace(
            current,
            by_id=by_id,
            branches=current.branches if branches is None else branches,
            last_sequence_number=added.sequence_number if added else current.last_sequence_number,
        )

    def remove_file(self, path: str):
        if self.clickhouse.files.pop(path, None) is None:
            return
        for metadata in self.tables.values():
            if any(path == file.path for snapshot in metadata.snapshots for file in snapshot.files):
                self.missed.add(path)

    def _may_follow(self, base, current, added, branches) -> bool:
        if self.whole:
            return current is base
        if added is not None and current.last_sequence_number != base.last_sequence_number:
            return False
        return branches is None or current.branches == base.branches

    def compact(self, target: str):
        """Another writer's commit to main: other files, the same rows."""
        base = self.tables[target]
        files = tuple(
            DataFile(
                f"/lake/{target}/compacted-{next(self._ids)}-{day}",
                tuple(row for file in held for row in file.rows),
                day,
            )
            for day, held in _by_day(base.held())
        )
        self.clickhouse.files.update({file.path: file.rows for file in files})
        snapshot = self.prepare(base, {}, files, removed={file.path for file in base.held()})
        self.commit(target, base, added=snapshot, branches={**base.branches, MAIN: snapshot.snapshot_id})

    def change_day(self, target: str, day: date, change: Callable[[list[Row]], list[Row]]):
        """Another writer's commit to main: one file with other rows in the place of a day's."""
        base = self.tables[target]
        old = [file for file in base.held() if file.day == day]
        path = f"/lake/{target}/changed-{next(self._ids)}-{day}"
        file = DataFile(path, tuple(change([row for each in old for row in each.rows])), day)
        self.clickhouse.files[path] = file.rows
        snapshot = self.prepare(base, {}, (file,), removed={each.path for each in old})
        self.commit(target, base, added=snapshot, branches={**base.branches, MAIN: snapshot.snapshot_id})

    def roll_back(self, target: str, snapshot_id: int):
        """Somebody moves main, and no other branch, to one of its ancestors."""
        base = self.tables[target]
        self.commit(target, base, branches={**base.branches, MAIN: snapshot_id})

    def expire(self, target: str, older_than: datetime, *, clear_parents: bool):
        """Drop old snapshots but the heads of branches, staged ones too.

        :param clear_parents: as pyiceberg does; Java leaves references to what is gone
        """
        metadata = self.tables[target]
        heads = set(metadata.branches.values())
        kept = {
            each.snapshot_id: each
            for each in metadata.by_id.values()
            if each.snapshot_id in heads or each.made_at >= older_than
        }
        if clear_parents:
            kept = {
                key: each if each.parent_snapshot_id in kept else replace(each, parent_snapshot_id=None)
                for key, each in kept.items()
            }
        self.tables[target] = replace(metadata, by_id=kept)

    def history(self, target: str) -> list[SimulatedSnapshot]:
        """From the first snapshot to main, expired ones included."""
        chain, head = [], self.tables[target].current_snapshot_id
        while head is not None:
            chain.append(self.ever[head])
            head = self.ever[head].parent_snapshot_id
        return chain[::-1]


def _count(files: Iterable[DataFile]) -> int:
    return sum(len(file.rows) for file in files)


def _by_day(files: Iterable[DataFile]):
    days: dict[date, list[DataFile]] = {}
    for file in files:
        days.setdefault(file.day, []).append(file)
    return days.items()


def _lost():
    return ConnectionError("the reply was lost")


class _PyCatalog:
    """The part of pyiceberg's catalog that the adapter uses."""

    def __init__(self, lakehouse: Lakehouse):
        self._lakehouse = lakehouse

    def load_table(self, target: str):
        if target == SEALS:
            return self._lakehouse.seals.load()
        metadata = perform("load table", lambda: self._lakehouse.tables.get(target), _lost)
        return _PyTable(metadata, target, self._lakehouse)

    def create_namespace_if_not_exists(self, _name: str):
        pass

    def create_table(self, target: str, schema: Any, *, partition_spec: Any = None, **_):
        if target == SEALS:
            return self._lakehouse.seals.create(schema)
        create = self._lakehouse.create
        metadata = perform("create table", lambda: create(target, schema, partition_spec), _lost)
        return _PyTable(metadata, target, self._lakehouse)

    def close(self):
        pass


class _PyTable:
    def __init__(self, metadata: Metadata | None, target: str, lakehouse: Lakehouse):
        if metadata is None:
            raise NoSuchTableError(target)
        self.metadata = metadata
        self._target = target
        self._lakehouse = lakehouse

    @contextmanager
    def transaction(self):
        transaction = _PyTransaction(self._lakehouse, self.metadata)
        yield transaction
        transaction.commit(self._target)

    def spec(self):
        return self.metadata.partition_spec

    def name(self):
        return ("cold", "table")

    def schema(self):
        return self.metadata.schema

    def specs(self):
        return {0: self.metadata.partition_spec}

    def location(self):
        return f"/lake/{self._target}"

    catalog = SimpleNamespace(name="cold")

    io = EMPTY_STORAGE

    @property
    def metadata_location(self):
        """Names the snapshot: that is all that a reader wants of it."""
        return f"{self.location()}/{self.metadata.current_snapshot_id}"

    def scan(self, row_filter: str, snapshot_id: int | None = None):
        low, *high = [date.fromisoformat(day) for day in re.findall(r"'(\d{4}-\d\d-\d\d)T", row_filter)]
        held = self.metadata.held() if snapshot_id is None else self.metadata.by_id[snapshot_id].held
        files = [_PyFile(file) for file in held if low <= file.day and (not high or file.day < high[0])]
        return SimpleNamespace(plan_files=lambda: [SimpleNamespace(file=file, delete_files=()) for file in files])


class _PyTransaction:
    """A snapshot without rows, and the branches that move to it."""

    def __init__(self, lakehouse: Lakehouse, base: Metadata):
        self._lakehouse = lakehouse
        self._base = base
        self._branches = dict(base.branches)

    def update_snapshot(self, summary: Mapping[str, str]):
        def commit():
            self._added = self._lakehouse.prepare(self._base, summary)
            self._branches[MAIN] = self._added.snapshot_id

        return SimpleNamespace(fast_append=lambda: SimpleNamespace(commit=commit))

    @property
    def table_metadata(self):
        return SimpleNamespace(current_snapshot_id=self._added.snapshot_id)

    def _set_ref_snapshot(self, snapshot_id: int, ref_name: str, **_):
        self._branches[ref_name] = snapshot_id
        return (), ()

    def _apply(self, *_):
        pass

    def commit(self, target: str):
        change = {"added": self._added, "branches": self._branches}
        try:
            perform("adopt", lambda: self._lakehouse.commit(target, self._base, **change), _lost)
        except JavaError as error:
            raise CommitFailedException(str(error)) from None


class _PyFile:
    spec_id = 0

    def __init__(self, file: DataFile):
        self.file_path = file.path
        self.record_count = len(file.rows)
        self.partition = [(file.day - date(1970, 1, 1)).days]


class SimulatedCatalog(ColdCatalog):
    """The real adapter; the catalog underneath is simulated."""

    def __init__(self, lakehouse: Lakehouse):
        self._settings = SimpleNamespace(connection_id="catalog")
        self.__dict__["_catalog"] = _PyCatalog(lakehouse)


class _JavaTable:
    """The part of Iceberg's ``Table`` that the job uses."""

    def __init__(self, lakehouse: Lakehouse, target: str):
        self.lakehouse = lakehouse
        self.target = target
        self.refresh()

    def refresh(self):
        self.metadata = perform("refresh", lambda: self.lakehouse.tables[self.target], self.lost)

    def lost(self):
        """The JDBC catalog sends the commit again, and that conflicts with the first; a REST catalog says so."""
        kind = "CommitFailedException" if self.lakehouse.whole else "CommitStateUnknownException"
        return JavaError(kind, "the reply was lost")

    def uuid(self):
        return self.metadata.table_uuid

    def location(self):
        return f"/lake/{self.target}"

    def refs(self):
        return self.metadata.refs

    def schema(self):
        fields = self.metadata.schema.fields
        columns = [SimpleNamespace(name=lambda f=f: f.name, type=lambda f=f: f.field_type) for f in fields]
        return SimpleNamespace(columns=lambda: columns)

    def currentSnapshot(self):  # noqa: N802
        return self.metadata.by_id.get(self.metadata.current_snapshot_id)

    def snapshot(self, snapshot_id: int):
        return self.metadata.by_id.get(snapshot_id)

    def snapshots(self):
        return JavaList(self.metadata.snapshots)

    def io(self):
        """A storage that keeps what it was given, until it is told to remove it."""
        return SimpleNamespace(
            newInputFile=lambda _: SimpleNamespace(exists=lambda: True),
            deleteFile=lambda path: perform("remove file", lambda: self.lakehouse.remove_file(path), self.lost),
        )

    def operations(self):
        return _Operations(self)

    def newAppend(self):  # noqa: N802
        return _StagedUpdate(self)

    newOverwrite = newAppend  # noqa: N815

    def newRewrite(self):  # noqa: N802
        return _StagedUpdate(self, misses_files=True)

    def newScan(self):  # noqa: N802
        return _Scan(self)

    def manageSnapshots(self):  # noqa: N802
        self.refresh()
        return _References(self)


class _StagedUpdate:
    def __init__(self, table: _JavaTable, *, misses_files: bool = False):
        self._table = table
        self._misses_files = misses_files
        self._properties: dict[str, str] = {}
        self._files: list[DataFile] = []
        self._removed: set[str] = set()

    def set(self, key: str, value: str):
        self._properties[key] = value
        return self

    def stageOnly(self):  # noqa: N802
        return self

    def appendFile(self, file: DataFile):  # noqa: N802
        self._files.append(file)

    addFile = appendFile  # noqa: N815

    def deleteFile(self, file: DataFile):  # noqa: N802
        self._removed.add(file.path)

    def validateFromSnapshot(self, _snapshot_id: int):  # noqa: N802
        return self

    def dataSequenceNumber(self, _number: int):  # noqa: N802
        return self

    def validateNoConflictingDeletes(self):  # noqa: N802
        """Nobody in the model writes delete files."""

    def apply(self):
        self._table.refresh()
        if self._misses_files and self._removed - {file.path for file in self._table.metadata.held()}:
            raise JavaError("ValidationException", "Missing required files to delete")
        return self._table.lakehouse.prepare(self._table.metadata, self._properties, tuple(self._files), self._removed)


class _Scan:
    """Of the files of some days in a row."""

    def __init__(self, table: _JavaTable):
        self._table = table

    def ignoreResiduals(self):  # noqa: N802
        return self

    def useSnapshot(self, snapshot_id: int):  # noqa: N802
        self._held = self._table.snapshot(snapshot_id).held
        return self

    def filter(self, range_micros: tuple[int, int]):
        low, high = (from_micros(micros).date() for micros in range_micros)
        self.files = [file for file in self._held if low <= file.day < high]
        return self


class _Operations:
    """Iceberg's ``TableOperations``."""

    def __init__(self, table: _JavaTable):
        self._table = table

    def current(self):
        return self._table.metadata

    def commit(self, base: Metadata, change: Mapping[str, Any]):
        table = self._table
        name = "stage" if "added" in change else "swap" if "branches" in change else "drop"
        perform(name, lambda: table.lakehouse.commit(table.target, base, **change), table.lost)

    def getClass(self):  # noqa: N802
        name = "JdbcTableOperations" if self._table.lakehouse.whole else "RESTTableOperations"
        return SimpleNamespace(getSimpleName=lambda: name)


class _MetadataBuilder:
    """``TableMetadata.buildFrom(base)`` with one change and ``build()``, which gives only the change."""

    def __init__(self, base: Metadata):
        self._base = base
        self._change = {}

    def addSnapshot(self, snapshot: SimulatedSnapshot):  # noqa: N802
        self._change["added"] = snapshot
        return self

    def removeSnapshots(self, snapshots: list[SimulatedSnapshot]):  # noqa: N802
        [self._change["dropped"]] = [each.snapshot_id for each in snapshots]
        return self

    def setBranchSnapshot(self, snapshot_id: int, name: str):  # noqa: N802
        self._change["branches"] = {**self._base.branches, **self._change.get("branches", {}), name: snapshot_id}
        return self

    def build(self):
        return self._change


def _delete_files(io, files, _kind):
    for file in files:
        io.deleteFile(file)


class _References:
    """A change of branches, prepared on the metadata as it was refreshed last."""

    def __init__(self, table: _JavaTable):
        self._table = table
        self._base = table.metadata
        self._branches = dict(table.metadata.branches)

    def replaceBranch(self, name: str, snapshot_id: int):  # noqa: N802
        if snapshot_id not in self._base.by_id:
            raise JavaError("ValidationException", f"Cannot set {name} to unknown snapshot: {snapshot_id}")
        self._branches[name] = snapshot_id
        return self

    createBranch = replaceBranch  # noqa: N815

    def removeBranch(self, name: str):  # noqa: N802
        self._branches.pop(name, None)
        return self

    def fastForwardBranch(self, name: str, to: str):  # noqa: N802
        head = self._branches.get(name)
        ancestors = self._base.chain(self._branches[to])
        if head is not None and self._table.lakehouse.check_ancestry and head not in ancestors:
            raise JavaError("IllegalArgumentException", f"Cannot fast-forward: {name} is not an ancestor of {to}")
        self._branches[name] = self._branches[to]
        return self

    def commit(self):
        table = self._table
        commit = table.lakehouse.commit
        perform("fast-forward", lambda: commit(table.target, self._base, branches=self._branches), table.lost)


SIMULATED_JVM = SimpleNamespace(
    org=SimpleNamespace(
        apache=SimpleNamespace(
            iceberg=SimpleNamespace(
                catalog=SimpleNamespace(TableIdentifier=SimpleNamespace(parse=str)),
                TableMetadata=SimpleNamespace(buildFrom=_MetadataBuilder),
                CatalogUtil=SimpleNamespace(deleteFiles=_delete_files),
                expressions=SimpleNamespace(
                    Expressions=SimpleNamespace(
                        greaterThanOrEqual=lambda _, micros: micros,
                        lessThan=lambda _, micros: micros,
                        **{"and": lambda low, high: (low, high)},
                    )
                ),
            )
        )
    )
)
"""The Java packages and classes that the job names."""


class SimulatedTasks:
    """Stands for :class:`offload_job.scan_tasks.ScanTasks`."""

    def __init__(self, held: Sequence[DataFile]):
        self.held = held
        self.paths = [file.path for file in held]

    def files(self):
        return [ScannedFile(file.path, file.day, len(file.rows), 1, 0) for file in self.held]

    def of_files(self, paths):
        return SimulatedTasks([file for file in self.held if file.path in paths])

    def remove_from(self, update, _kind):
        for file in self.held:
            update.deleteFile(file)


class SimulatedRewriter:
    """Stands for Spark: reads and writes files. It may lose a row, as an export may: of the last day first."""

    def __init__(self, lakehouse: Lakehouse, new_id: Callable[[], int]):
        self._clickhouse = lakehouse.clickhouse
        self._new_id = new_id

    def content(self, tasks, _partition_column):
        return {
            day: (len(rows), sum(row.content_hash for row in rows)) for day, rows in self._by_day(tasks).items() if rows
        }

    def rewrite(self, tasks, _planned, _into, _days):
        files = []
        for day, rows in reversed(self._by_day(tasks).items()):
            if self._clickhouse.losses:
                self._clickhouse.losses -= 1
                rows.pop()
            files.append(DataFile(f"/lake/rewritten-{self._new_id()}-{day}", tuple(rows), day))
            self._clickhouse.files[files[-1].path] = files[-1].rows
        return files

    def _by_day(self, tasks):
        days = {}
        for file in tasks.held:
            days.setdefault(file.day, []).extend(self._read(file.path))
        return days

    def _read(self, path):
        try:
            return perform("read file", lambda: self._clickhouse.files[path], lambda: OSError("away"))
        except OSError as error:
            raise OffloadError(str(error)) from error


class SimulatedColdTable(ColdTableWriter):
    """The job's real class; Iceberg's Java library underneath is simulated."""

    def __init__(self, lakehouse: Lakehouse, target: str, name: str):
        catalog = SimpleNamespace(
            tableExists=lakehouse.tables.__contains__, loadTable=lambda identifier: _JavaTable(lakehouse, identifier)
        )
        super().__init__(SIMULATED_JVM, catalog, target, name, "catalog")
        self._files = lakehouse.clickhouse.files

    def plan(self, scan):
        return SimulatedTasks(scan.files)

    def data_file(self, uri, _partition_field, day):
        reading = perform("read footer", lambda: self._files[uri], lambda: Unreachable("storage", "catalog", "away"))
        return DataFile(uri, reading, day)
