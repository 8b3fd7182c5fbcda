"""Every kind of fault at every fault point, on the real stack: then the retry, then the next cycle, then maintenance.

Tables are many and small, and cases share a Spark application wherever a fault leaves the process alive.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta
from itertools import count, product

import psutil
import pytest
from pyiceberg.catalog import load_catalog

from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.fault_points import FaultPoint
from tests.faults.hook import COMMIT_POINTS, JOB_POINTS, PLAN_POINTS, Fault, Kind, faults_at, kinds_at
from tests.faults.output import Output
from tests.faults.tasks import run_task
from tests.support import table_file

MIDNIGHT = datetime(2026, 3, 5, tzinfo=UTC)
FIRST = MIDNIGHT - timedelta(minutes=10)  # the window spans two days: two files
NOW = MIDNIGHT + timedelta(hours=1)
NEXT = NOW + timedelta(hours=1)

# The window spans two days, so two files are exported.
JOB_HITS = [(point, 1) for point in JOB_POINTS] + [(FaultPoint.FILE_EXPORTED, 2)]


class Matrix:
    """Tables with rows to move, one for each case, and what must hold of them whatever happened."""

    def __init__(self, bench):
        self.bench = bench
        self.tables = []
        self._numbers = count()

    def add_table(self):
        table = self.bench.create_trades(f"t{next(self._numbers)}")
        self.bench.insert_trades(table, FIRST, 1200)
        self.tables.append(table)
        return table

    def cycle(self, now):
        return self.bench.cycle(*(self.bench.spec(table) for table in self.tables), now=now)

    def recover(self):
        """The retry with the clock of the first attempt, then the next cycle with new rows; checked after each."""
        for now in (NOW, NEXT):
            cycle = self.cycle(now)
            planned = [entry for table in self.tables if (entry := cycle.plan(cycle.tables[table])) is not None]
            if planned:
                code, output = self.bench.run_job(*planned)
                assert code == 0, output
            for table in self.tables:
                cycle.commit(cycle.tables[table])
            self.bench.check(cycle, self.tables)
            if now == NOW:
                for table in self.tables:
                    self.bench.insert_trades(table, MIDNIGHT + timedelta(minutes=20), 300, start_sequence=5000)

    def maintain(self):
        """Expire all snapshots that may be: what faults have left must be among them, and the rows must stay."""
        settings = load_settings()
        with closing(load_catalog("demo", **connections.catalog_settings(settings).pyiceberg)) as catalog:
            for name in self.tables:
                table = catalog.load_table(f"cold.{name}")
                before = len(table.metadata.snapshots)
                table.maintenance.expire_snapshots().older_than(datetime(2100, 1, 1)).commit()
                assert len(table.metadata.snapshots) == 1 < before, name
        self.bench.check(self.cycle(NEXT), self.tables)


@pytest.fixture
def matrix(bench):
    return Matrix(bench)


def test_plan_may_die_at_any_point(matrix):
    cases = [(point, kind) for point in PLAN_POINTS for kind in kinds_at(point)]
    for point, kind in cases:
        run_with_fault(matrix, "plan", point, kind, matrix.add_table())
    matrix.recover()
    matrix.maintain()


def test_commit_may_die_at_any_point(matrix):
    cases = [(point, kind) for point in COMMIT_POINTS for kind in kinds_at(point)]
    for _ in cases:
        matrix.add_table()
    cycle = matrix.cycle(NOW)
    code, output = matrix.bench.run_job(*(cycle.plan(cycle.tables[table]) for table in matrix.tables))
    assert code == 0, output
    for (point, kind), table in zip(cases, matrix.tables, strict=True):
        run_with_fault(matrix, "commit", point, kind, table)
    matrix.recover()


def run_with_fault(matrix, task, point, kind, table):
    matrix.bench.cycle(matrix.bench.spec(table))  # the ledger's schema
    code = run_task(task, Fault(point, kind, table), table_file([matrix.bench.spec(table)]), [table], NOW)
    assert code == {Kind.KILL: -9, Kind.HANG: -9}.get(kind, 1)


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "grouped"])
def test_the_job_may_be_killed_at_any_point(matrix, grouped):
    cases = []
    for point, hit in JOB_HITS:
        victim = matrix.add_table()
        cases.append((faults_at(point, Kind.KILL, victim, hit), [victim, *([matrix.add_table()] if grouped else [])]))
    cycle = matrix.cycle(NOW)
    planned = {table: cycle.plan(cycle.tables[table]) for table in matrix.tables}

    def run(case):
        faults, tables = case
        return matrix.bench.run_job(*(planned[table] for table in tables), faults=faults)

    with ThreadPoolExecutor(2) as pool:
        for (faults, _), (code, output) in zip(cases, pool.map(run, cases), strict=True):
            assert f"FAULT kill at '{faults[-1].point}'" in output
            assert code != 0
    matrix.recover()
    matrix.maintain()


def test_one_job_with_every_other_fault_moves_the_rest_and_leaves_no_process_when_it_is_killed(matrix):
    faults, hanging = [], []
    for (point, hit), kind in product(JOB_HITS, [Kind.RAISE, Kind.LOSE_REPLY, Kind.HANG]):
        if kind in kinds_at(point):
            table = matrix.add_table()
            faults += faults_at(point, kind, table, hit)
            hanging += [table] if kind is Kind.HANG else []
    bystanders = [matrix.add_table() for _ in range(2)]
    cycle = matrix.cycle(NOW)
    planned = [cycle.plan(cycle.tables[table]) for table in matrix.tables]
    job = Output(matrix.bench.start_job(*planned, faults=faults, parallel_tables=len(planned)))
    job.wait_for("(?m): published|^ERROR|: already published", times=len(matrix.tables) - len(hanging))
    job.wait_for("FAULT hang", times=len(hanging))
    output = job.text
    for fault in faults:
        assert f"FAULT {fault.kind} at '{fault.point}' of {fault.table}\n" in output
        if fault.kind is Kind.LOSE_REPLY:  # the job sees for itself what became of it
            assert f"\n{fault.table} [" in output, fault
    for table in bystanders:
        assert f"\n{table} [" in output
    left = psutil.Process(job.process.pid).children(recursive=True)
    job.process.kill()  # as Airflow's hook does when the execution timeout has passed
    job.wait_for_end()
    gone, alive = psutil.wait_procs(left, timeout=5)
    assert (bool(gone), alive) == (True, [])
    matrix.recover()
    matrix.maintain()


def test_no_layer_passes_the_one_below_whatever_becomes_of_that(bench):
    bronze, silver, gold = tables = [bench.create_trades(layer) for layer in ("bronze", "silver", "gold")]
    specs = [
        bench.spec(bronze),
        bench.spec(silver, layer="silver", upstream=f"[{bronze}]"),
        bench.spec(gold, layer="gold", upstream=f"[{silver}]"),
    ]
    for table in tables:
        bench.insert_trades(table, FIRST, 1200)

    def watermarks():
        return [watermark_of(cycle.catalog.load(cycle.tables[table]).published) for table in tables]

    cycle = bench.cycle(*specs, now=NOW)
    planned = cycle.plan(cycle.tables[bronze])
    code, _ = bench.run_job(planned, faults=faults_at(FaultPoint.ANCESTORS_CHECKED, Kind.KILL, bronze))
    assert code != 0
    assert [cycle.plan(cycle.tables[table]) for table in (silver, gold)] == [None, None]

    code, _ = bench.run_job(planned, faults=faults_at(FaultPoint.PUBLISHED, Kind.KILL, bronze))  # and no commit
    assert code != 0
    cycle = bench.cycle(*specs, now=NOW)
    bench.move(cycle, silver)
    bench.move(bench.cycle(*specs, now=NOW), gold)
    assert len(set(watermarks())) == 1

    for table in tables:
        bench.insert_trades(table, MIDNIGHT + timedelta(minutes=20), 300, start_sequence=5000)
    cycle = bench.cycle(*specs, now=NEXT)
    assert [cycle.plan(cycle.tables[table]) for table in (gold, silver)] == [None, None]
    for table in tables:
        bench.move(bench.cycle(*specs, now=NEXT), table)
        assert watermarks() == sorted(watermarks(), reverse=True)
    for table in tables:
        assert bench.cold_rows(table) == bench.warm_rows(table)
