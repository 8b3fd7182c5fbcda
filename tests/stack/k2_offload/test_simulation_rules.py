"""The rules that the simulated services of tests/model obey are the real ones': the same scenarios run against both."""

from __future__ import annotations

import os
import shutil
import sys
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from k2_offload.adapters import connections
from k2_offload.adapters.ledger_seals import LedgerSeals
from k2_offload.adapters.ledger_sql import statements
from k2_offload.adapters.locked_table import LockedTable
from k2_offload.adapters.settings import load_settings
from k2_offload.core.cuts import CUT_STEPS
from k2_offload.core.errors import AuditFailed, OffloadError, StaleWindow
from k2_offload.core.exactly_once import PUBLISHED_BRANCH, WINDOW_PROPERTY, Stamp, WindowId, audit
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.seals import Seal
from k2_offload.core.splits import split_days
from k2_offload.core.tables import Tables
from k2_offload.core.windows import Window
from k2_offload.work.verify_seals import read_content
from offload_job.cold_table_writer import ColdTableWriter, open_catalog
from offload_job.move import move
from offload_job.publishing import publish_window
from offload_job.transports.export import ExportTransport
from tests.model.actors import Blocked
from tests.model.iceberg import SIMULATED_JVM, SimulatedColdTable
from tests.model.world import World

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(hours=20)
SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def stamp_of(planned):
    return Stamp(WindowId.parse(planned.window_id), planned.cut_on, uuid.uuid4().hex)


class Lab:
    """One table in services that are simulated or real.

    :param cycle: works on them
    """

    def __init__(self, cycle, name):
        self.cycle = cycle
        self.table = cycle.tables[name]

    def plan(self):
        return self.cycle.plan(self.table)

    def stage(self, cold, planned):
        splits = self.splits(planned)
        return self.transport.stage(self.cycle.clickhouse, cold, planned, splits, stamp_of(planned))

    def splits(self, planned):
        return split_days(self.cycle.clickhouse.rows_per_slot(planned.rows_per_slot_sql), planned.max_file_rows)

    def publish(self):
        """One whole cycle."""
        planned = self.plan()
        window_id = WindowId.parse(planned.window_id)
        published = move(
            planned, window_id, self.job_table(), self.cycle.clickhouse, self.transport, lambda: uuid.uuid4().hex
        )
        self.cycle.commit(self.table)
        return published.snapshot_id

    @property
    def metadata(self):
        raise NotImplementedError

    @property
    def head(self):
        return self.metadata.current_snapshot_id

    def snapshot(self, snapshot_id):
        """``None`` if it has gone."""
        return {each.snapshot_id: each for each in self.metadata.snapshots}.get(snapshot_id)

    @property
    def rows(self):
        """As many as readers see."""
        head = self.snapshot(self.head)
        return int(head.summary.additional_properties["total-records"]) if head else 0


class SimulatedLab(Lab):
    jvm = SIMULATED_JVM
    transport = ExportTransport(JobConnections(None, None, "lake"), "local")

    def __init__(self):
        self.world = World()
        self.world.now = LATER
        self.world.tables = Tables(
            {name: replace(spec, warm_retention_days=7) for name, spec in self.world.tables.by_name.items()}
        )
        super().__init__(self.world.cycle(), "bronze_a")

    def insert(self, *seconds):
        for each in seconds:
            self.world.trade("bronze_a", NOON + each * SECOND)

    def files(self):
        return set(self.world.clickhouse.files)

    def job_table(self):
        return SimulatedColdTable(self.world.lakehouse, self.table.target, self.table.name)

    @property
    def metadata(self):
        return self.world.lakehouse.tables[self.table.target]

    def seals_table(self):
        return self.world.lakehouse.seals.load()

    def compact(self):
        self.world.lakehouse.compact(self.table.target)

    def expire(self, *, clear_parents):
        self.world.lakehouse.expire(self.table.target, LATER + timedelta(hours=1), clear_parents=clear_parents)

    def connect(self):
        return self.world.postgres.connect()


class RealLab(Lab):
    def __init__(self, workbench, jvm):
        self._workbench = workbench
        self.jvm = jvm
        name = workbench.create_trades(uuid.uuid4().hex[:8])
        spec = workbench.spec(name, sequence_column=None)
        super().__init__(workbench.cycle(spec, now=LATER), name)
        self._connections = connections.job_connections(load_settings())
        self.transport = ExportTransport(self._connections, "local")

    def insert(self, *seconds):
        for each in seconds:
            self._workbench.insert_trades(self.table.name, NOON + each * SECOND, 1)

    def files(self):
        return self._workbench.files_on_disk(self.table.name)

    def job_table(self):
        catalog = open_catalog(self.jvm, self._connections.catalog)
        return ColdTableWriter(self.jvm, catalog, self.table.target, self.table.name, "catalog")

    @property
    def metadata(self):
        return self._workbench.cold_table(self.table.name).metadata

    def seals_table(self):
        return self._workbench.cold_catalog.load_table("cold.k2_seals")

    def compact(self):
        """As Iceberg's own procedure does, but that the new files are copies."""
        table = self.job_table().java
        old, new = self.jvm.java.util.HashSet(), self.jvm.java.util.HashSet()
        with closing(table.newScan().planFiles()) as tasks:
            left = tasks.iterator()
            while left.hasNext():
                file = left.next().file()
                path = Path(file.location().removeprefix("file://").removeprefix("file:"))
                copy = path.with_name(f"{uuid.uuid4().hex}.parquet")
                shutil.copy(path, copy)
                old.add(file)
                builder = self.jvm.org.apache.iceberg.DataFiles.builder(table.spec())
                new.add(builder.copy(file).withPath(str(copy)).build())
        table.newRewrite().rewriteFiles(old, new).commit()

    def expire(self, *, clear_parents):
        now = datetime.now(UTC)
        if clear_parents:
            table = self._workbench.cold_catalog.load_table(self.table.target)
            table.maintenance.expire_snapshots().older_than(now).commit()
        else:
            expiry = self.job_table().java.expireSnapshots().cleanExpiredFiles(False)
            expiry.expireOlderThan(int(now.timestamp() * 1000)).commit()

    def connect(self):
        connection = self._workbench.resources.enter_context(psycopg.connect(self._workbench.stack.ledger_dsn))
        connection.execute("SET lock_timeout = '300ms'")
        return connection


@pytest.fixture(scope="module")
def java():
    """py4j as the job has it, and a Java virtual machine of these tests' own."""
    settings = load_settings()
    [site_packages] = Path(settings.spark_python).parents[1].glob("lib/python*/site-packages")
    jars = site_packages / "pyspark" / "jars"
    with pytest.MonkeyPatch.context() as patch:
        with _py4j_of(patch, site_packages):
            from py4j.java_gateway import GatewayParameters, JavaGateway, launch_gateway  # noqa: PLC0415

            real = {name: module for name, module in sys.modules.items() if name.split(".")[0] == "py4j"}
        [jar] = jars.glob("py4j-*.jar")
        port = launch_gateway(
            jarpath=str(jar),
            classpath=os.pathsep.join([*settings.spark_jars.split(","), f"{jars}/*"]),
            javaopts=["-XX:TieredStopAtLevel=1"],
            die_on_exit=True,
        )
        gateway = JavaGateway(gateway_parameters=GatewayParameters(port=port, auto_convert=True))
        yield gateway.jvm, real
        gateway.shutdown()


@contextmanager
def _py4j_of(patch: pytest.MonkeyPatch, site_packages: Path) -> Iterator[None]:
    """Import py4j from Spark's environment, and nothing else from there."""
    stand_in = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "py4j"}
    with patch.context() as path:
        path.syspath_prepend(str(site_packages))
        yield
    for name in [name for name in sys.modules if name.split(".")[0] == "py4j"]:
        del sys.modules[name]
    sys.modules.update(stand_in)


@pytest.fixture(params=["simulated", "real"])
def lab(request, monkeypatch):
    if request.param == "simulated":
        return SimulatedLab()
    jvm, modules = request.getfixturevalue("java")
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return RealLab(request.getfixturevalue("workbench"), jvm)


def test_a_staged_snapshot_is_seen_by_no_reader_until_it_is_published(lab):
    lab.insert(0, 1, 2)
    planned = lab.plan()
    cold = lab.job_table()
    staged = lab.stage(cold, planned)
    assert (staged.rows, staged.rows_before, staged.rows_after) == (3, 0, 3)
    assert (lab.head, lab.rows) == (None, 0)
    assert lab.snapshot(staged.snapshot_id) is not None
    assert publish_window(cold, staged.snapshot_id)
    assert (lab.head, lab.rows) == (staged.snapshot_id, 3)
    assert lab.metadata.refs[PUBLISHED_BRANCH].snapshot_id == staged.snapshot_id


def test_a_snapshot_is_staged_on_the_head_of_that_moment_not_on_the_one_that_was_loaded(lab):
    lab.insert(0)
    planned = lab.plan()
    old = lab.job_table()
    head = lab.publish()
    staged = lab.stage(old, planned)
    assert staged.parent_id == head
    assert (staged.rows_before, staged.rows_after) == (1, 2)
    assert lab.rows == 1


def test_fast_forward_is_refused_when_main_has_moved(lab):
    lab.insert(0, 1)
    planned = lab.plan()
    slow = lab.job_table()
    staged = lab.stage(slow, planned)
    head = lab.publish()
    assert not publish_window(slow, staged.snapshot_id)
    assert (lab.head, lab.rows) == (head, 2)
    assert lab.metadata.refs[PUBLISHED_BRANCH].snapshot_id == head


def test_another_staged_snapshot_does_not_hinder_fast_forward(lab):
    lab.insert(0)
    planned = lab.plan()
    tables = [lab.job_table() for _ in range(2)]
    first, second = (lab.stage(cold, planned) for cold in tables)
    assert publish_window(tables[0], first.snapshot_id)
    assert not publish_window(tables[1], second.snapshot_id)
    assert lab.head == first.snapshot_id


def test_a_staged_append_whose_base_has_changed_is_refused_by_the_catalog(lab):
    """Else a snapshot could come after one with its own sequence number."""
    lab.insert(0)
    planned = lab.plan()
    cold = lab.job_table()
    append = cold.java.newAppend().set("k2.attempt", "mine").stageOnly()
    snapshot, operations = append.apply(), cold.java.operations()
    base = operations.current()
    updated = lab.jvm.org.apache.iceberg.TableMetadata.buildFrom(base).addSnapshot(snapshot).build()
    lab.stage(lab.job_table(), planned)
    with pytest.raises(Exception, match=r".") as refusal:
        operations.commit(base, updated)
    assert refusal.value.java_exception.getClass().getSimpleName() == "CommitFailedException"
    assert len(lab.metadata.snapshots) == 1


def test_a_staged_snapshot_is_discarded_with_its_files(lab):
    lab.insert(0)
    planned = lab.plan()
    cold = lab.job_table()
    staged = lab.stage(cold, planned)
    assert lab.files()
    cold.discard(staged.snapshot_id)
    assert (lab.snapshot(staged.snapshot_id), lab.files()) == (None, set())


def test_what_another_snapshot_may_refer_to_is_not_discarded(lab):
    lab.insert(0)
    planned = lab.plan()
    cold = lab.job_table()
    older = lab.stage(cold, planned)
    newer = lab.stage(lab.job_table(), planned)
    files = lab.files()
    cold.discard(older.snapshot_id)
    assert lab.snapshot(older.snapshot_id) is not None
    lab.stage(lab.job_table(), planned)  # since cold was refreshed last
    assert not cold.drop(newer.snapshot_id)
    assert lab.snapshot(newer.snapshot_id) is not None
    assert cold.drop(newer.snapshot_id), "refreshed after the conflict"
    assert files < lab.files()


def test_files_go_when_nothing_was_sent_to_the_catalog_and_stay_when_something_was(lab):
    lab.insert(0)
    planned = lab.plan()
    cold = lab.job_table()
    stamp = stamp_of(planned)
    cold.data_file = _raising
    with pytest.raises(OffloadError, match="no footer"):
        lab.transport.stage(lab.cycle.clickhouse, cold, planned, lab.splits(planned), stamp)
    assert (lab.files(), cold.may_be_named(stamp.attempt)) == (set(), False)

    cold, stamp = lab.job_table(), stamp_of(planned)
    cold.staged_by = _raising
    with pytest.raises(OffloadError, match="no footer"):
        lab.transport.stage(lab.cycle.clickhouse, cold, planned, lab.splits(planned), stamp)
    assert (len(lab.files()), cold.may_be_named(stamp.attempt)) == (1, True)


def _raising(*_):
    raise OffloadError("no footer")


def test_compaction_moves_main_and_keeps_the_rows_and_the_window_is_staged_again_on_top(lab):
    lab.insert(0, 1)
    first = lab.publish()
    lab.insert(60)
    planned = lab.plan()
    cold = lab.job_table()
    staged = lab.stage(cold, planned)
    lab.compact()
    head = lab.head
    assert head != first
    assert lab.rows == 2
    assert not publish_window(cold, staged.snapshot_id)
    compacted = lab.snapshot(head)
    assert compacted.parent_snapshot_id == first
    counts = compacted.summary.additional_properties
    assert WINDOW_PROPERTY not in counts
    assert [counts[f"{what}-records"] for what in ("added", "deleted", "total")] == ["2", "2", "2"]
    again = cold.stage_again(staged.snapshot_id, replace(stamp_of(planned), attempt="again")).snapshot_id
    on_top = cold.staged_by("again")
    assert (on_top.snapshot_id, on_top.parent_id) == (again, head)
    assert (on_top.rows, on_top.rows_before, on_top.rows_after) == (1, 2, 3)
    assert cold.parent_of(again) == head
    assert publish_window(cold, again)
    assert lab.rows == 3


@pytest.mark.parametrize("clear_parents", [False, True], ids=["Java", "pyiceberg"])
def test_expiry_leaves_the_marker_and_the_head_and_takes_what_is_staged(lab, clear_parents):
    lab.insert(0, 1)
    first = lab.publish()
    lab.insert(60)
    second = lab.publish()
    published = lab.cycle.catalog.load(lab.table).published
    lab.insert(120)
    staged = lab.stage(lab.job_table(), lab.plan())
    for _ in range(2):
        lab.compact()
    gone = lab.snapshot(lab.head).parent_snapshot_id
    lab.expire(clear_parents=clear_parents)
    assert {each.snapshot_id for each in lab.metadata.snapshots} == {second, lab.head}
    assert first != second
    assert lab.snapshot(staged.snapshot_id) is None
    assert lab.snapshot(lab.head).parent_snapshot_id == (None if clear_parents else gone)
    found = lab.cycle.catalog.load(lab.table).published
    assert found.window_id == published.window_id
    assert lab.job_table().published().window_id == published.window_id


def lock(workbench, connection):
    """Whether the table's row in the ledger is now locked by this connection."""
    values = {"table": workbench.table.name}
    try:
        with connection.cursor() as cursor:
            cursor.execute(statements()["add_table"], values)
            cursor.execute(statements()["lock_table"], values)
    except (Blocked, psycopg.errors.LockNotAvailable):
        return False
    return True


@pytest.mark.parametrize("known", [False, True], ids=["new table", "known table"])
def test_a_locked_row_makes_others_wait_until_its_holder_commits_or_dies(lab, known):
    if known:
        lab.plan()
    holder, other, third = (lab.connect() for _ in range(3))
    assert lock(lab, holder)
    assert not lock(lab, other)
    holder.close()
    other = lab.connect()
    assert lock(lab, other)
    assert not lock(lab, third)
    other.commit()
    assert lock(lab, lab.connect())


def test_what_a_transaction_wrote_is_gone_when_it_fails(lab):
    window_id = WindowId("uuid", Window(NOON, LATER))
    ledger, name = lab.cycle.ledger, lab.table.name
    with suppress(ZeroDivisionError), ledger.locked(name) as locked:
        open_window(locked, window_id)
        assert locked.entry().open_window == window_id
        raise ZeroDivisionError
    with ledger.locked(name) as locked:
        assert locked.entry().open_window is None


def test_a_second_open_window_is_refused(lab):
    first, second = (WindowId("uuid", Window(NOON, LATER + hours * timedelta(hours=1))) for hours in range(2))
    ledger, name = lab.cycle.ledger, lab.table.name
    with ledger.locked(name) as locked:
        open_window(locked, first)
    with pytest.raises(OffloadError, match="one_open"), ledger.locked(name) as locked:
        open_window(locked, second)
    with ledger.locked(name) as locked:
        assert locked.entry().open_window == first
        locked.abandon(first)
        open_window(locked, second)
    with ledger.locked(name) as locked:
        assert locked.entry().open_window == second


def open_window(locked: LockedTable, window_id: WindowId) -> None:
    locked.entry()
    locked.open(window_id, dag_run_id="test", rows=1, max_sequence=None, first_row=None, now=LATER)


def test_bounds_are_half_open(lab):
    lab.insert(0, 10, 3600)
    clickhouse, table = lab.cycle.clickhouse, lab.table
    at = [NOON, NOON + 10 * SECOND, NOON + 3600 * SECOND]
    assert clickhouse.newest_row(table) == at[2]
    assert clickhouse.newest_row(table, at[2]) == at[2]
    assert clickhouse.newest_row(table, at[0], at[2]) == at[1]
    assert clickhouse.newest_row(table, at[2] + SECOND) is None
    assert clickhouse.rows_per_step(table, Window(at[0], at[2]), HOUR).rows == {NOON: 2}
    assert clickhouse.rows_per_step(table, Window(at[1], at[2] + SECOND), HOUR).rows == {NOON: 1, at[2]: 1}
    assert clickhouse.rows_per_step(table, Window(at[2] + SECOND, LATER), HOUR).rows == {}
    assert clickhouse.rows_per_step(table, Window(NOON - HOUR, LATER), HOUR).first_row == at[0]
    assert clickhouse.rows_per_step(table, Window(at[0] + SECOND, LATER), HOUR).first_row == at[1]
    for step in CUT_STEPS[1:]:
        expected = {NOON: 2, at[2]: 1} if step > 10 * SECOND else dict.fromkeys(at, 1)
        assert clickhouse.rows_per_step(table, Window(at[0], LATER), step).rows == expected


def test_counts_and_exports_see_the_rows_of_their_own_moment(lab):
    lab.insert(0, 10)
    planned = lab.plan()
    window_id = WindowId.parse(planned.window_id)
    clickhouse = lab.cycle.clickhouse
    splits = lab.splits(planned)
    counted = sum(split.rows for split in splits)
    lab.insert(5)
    staged = lab.transport.stage(clickhouse, lab.job_table(), planned, splits, stamp_of(planned))
    assert (counted, staged.rows) == (2, 3)
    with pytest.raises(AuditFailed):
        audit("t", window_id.window, staged_rows=staged.rows, source_rows=counted, planned_rows=planned.rows)
    assert sum(split.rows for split in lab.splits(planned)) == 3


def test_a_table_is_created_once(lab):
    lab.insert(0)
    columns = lab.cycle.clickhouse.columns(lab.table)
    catalog = lab.cycle.catalog
    assert catalog.load(lab.table) is None
    first = catalog.create(lab.table, columns)
    assert catalog.create(lab.table, columns).uuid == first.uuid


AT = (PlannedColumn("at", "timestamptz"),)


def seal_of(lab, **changes):
    return replace(Seal(lab.table.name, "uuid", NOON.date(), "at", 1, 7, AT, None, 1, LATER), **changes)


def in_lake(lab):
    seals, altered = lab.cycle.catalog.seals("cold").read()
    assert altered == []
    return sorted((seal for seal in seals if seal.table == lab.table.name), key=lambda seal: seal.rows)


def read_twice(lab):
    if lab.cycle.catalog.load(lab.table) is None:  # its namespace may be missing, too
        lab.insert(0)
        lab.plan()
    both = [lab.cycle.catalog.seals("cold") for _ in range(2)]
    for each in both:
        each.read()
    return both


def test_seals_are_added_only_to_those_that_were_read(lab):
    for rows in (10, 20):  # the first time, there may be no table
        first, second = read_twice(lab)
        first.append([seal_of(lab, rows=rows)])
        with pytest.raises(StaleWindow, match="another run has sealed days meanwhile"):
            second.append([seal_of(lab, rows=rows + 1)])
        first.append([seal_of(lab, rows=rows + 2)])
    assert [seal.rows for seal in in_lake(lab)] == [10, 12, 20, 22]


def test_a_library_that_may_try_again_adds_to_seals_that_it_has_not_read(lab):
    """So the adapter does not let it."""
    import pyarrow as pa

    [first, _] = read_twice(lab)
    first.append([seal_of(lab)])
    for number, table in enumerate([lab.seals_table(), lab.seals_table()]):
        added = pa.Table.from_pylist([seal_of(lab, rows=10 + number).stored], table.schema().as_arrow())
        with table.transaction() as transaction:
            transaction.append(added)
    assert [seal.rows for seal in in_lake(lab)] == [1, 10, 11]


def test_a_seal_is_recorded_once_with_its_last_verification(lab):
    seals, seal = LedgerSeals(lab.cycle.ledger), seal_of(lab)

    def recorded():
        [found] = seals.read([lab.table.name])
        return found.seal.snapshot_id, found.verified_snapshot, found.problem

    seals.record([seal])
    assert recorded() == (1, None, None)
    seals.record_verification(seal, 5, None, LATER)
    seals.record([replace(seal, snapshot_id=2)])
    assert recorded() == (2, 5, None)
    seals.record_verification(seal, 6, "broken", LATER)
    assert recorded() == (2, 5, "broken")
    for verified in (5, None):
        seals.record_verification(seal, verified, None, LATER)
        assert recorded() == (2, verified, None)


def test_a_day_is_read_as_a_snapshot_held_it(lab):
    lab.insert(0)
    first = lab.publish()
    lab.insert(60)
    second = lab.publish()
    cold = lab.cycle.catalog.load(lab.table)
    contents = [read_content(lab.cycle.tiers, cold, NOON.date(), "at", AT, each) for each in (first, second)]
    assert [rows for rows, _ in contents] == [1, 2]
    assert contents[0][1] != contents[1][1]
    assert cold.chain.step(cold.chain.ancestors(first)[0], "at", NOON.date()).state != ()
