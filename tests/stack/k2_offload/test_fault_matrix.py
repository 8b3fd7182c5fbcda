"""Every kind of fault at every fault point, on the real stack: then the retry, then the next cycle, then maintenance.

Tables are many and small, and cases share a Spark application wherever a fault leaves the process alive.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cached_property
from itertools import count, product

import psutil
import pytest

from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.fault_points import FaultPoint
from tests.faults.hook import (
    AFTER_FAILED_AUDIT,
    COMMIT_POINTS,
    JOB_POINTS,
    PLAN_POINTS,
    Fault,
    Kind,
    faults_at,
    kinds_at,
)
from tests.faults.output import Output
from tests.faults.tasks import run_task
from tests.support import table_file
from tests.support.workbench import Workbench

MIDNIGHT = datetime(2026, 3, 5, tzinfo=UTC)
FIRST = MIDNIGHT - timedelta(minutes=10)  # the window spans two days: two files
NOW = MIDNIGHT + timedelta(hours=1)
NEXT = NOW + timedelta(hours=1)

# The window spans two days, so two files are exported.
JOB_HITS = [(point, 1) for point in JOB_POINTS] + [(FaultPoint.FILE_EXPORTED, 2)]


class Matrix:
    """Tables with rows to move, one for each case, and what must hold of them whatever happened."""

    def __init__(self, workbench):
        self.workbench = workbench
        self.tables = []
        self._numbers = count()

    def add_table(self):
        table = self.workbench.create_trades(f"t{next(self._numbers)}")
        self.workbench.insert_trades(table, FIRST, 1200)
        self.tables.append(table)
        return table

    def cycle(self, now):
        return self.workbench.cycle(*(self.workbench.spec(table) for table in self.tables), now=now)

    def recover(self):
        """The retry with the clock of the first attempt, then the next cycle with new rows; checked after each."""
        for now in (NOW, NEXT):
            cycle = self.cycle(now)
            planned = [entry for table in self.tables if (entry := cycle.plan(cycle.tables[table])) is not None]
            if planned:
                self.workbench.publish(*planned)
            for table in self.tables:
                cycle.commit(cycle.tables[table])
            self.workbench.check(cycle, self.tables)
            for table in self.tables:
                assert self.workbench.files_referred_to(table) <= self.workbench.files_on_disk(table)
            if now == NOW:
                for table in self.tables:
                    self.workbench.insert_trades(table, MIDNIGHT + timedelta(minutes=20), 300, start_sequence=5000)

    def plan(self, faults=()):
        """The window of every table; those with a fault that only a failed audit leads to are to fail it."""
        failing = {fault.table for fault in faults if fault.point in AFTER_FAILED_AUDIT}
        cycle = self.cycle(NOW)
        planned = {table: cycle.plan(cycle.tables[table]) for table in self.tables}
        return {table: replace(entry, rows=entry.rows + (table in failing)) for table, entry in planned.items()}

    def maintain(self):
        """Expire all snapshots that may be: what faults have left must be among them, and the rows must stay."""
        for name in self.tables:
            table = self.workbench.cold_catalog.load_table(f"cold.{name}")
            before = len(table.metadata.snapshots)
            table.maintenance.expire_snapshots().older_than(datetime(2100, 1, 1)).commit()
            assert len(table.metadata.snapshots) == 1 < before, name
        self.workbench.check(self.cycle(NEXT), self.tables)


@pytest.fixture(scope="module")
def job_hits():
    """Points of the job, and which time they are reached."""
    return [*JOB_HITS, *((point, 1) for point in AFTER_FAILED_AUDIT)]


@pytest.fixture
def matrix(workbench):
    return Matrix(workbench)


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
    matrix.workbench.publish(*(cycle.plan(cycle.tables[table]) for table in matrix.tables))
    for (point, kind), table in zip(cases, matrix.tables, strict=True):
        run_with_fault(matrix, "commit", point, kind, table)
    matrix.recover()


def run_with_fault(matrix, task, point, kind, table):
    matrix.workbench.cycle(matrix.workbench.spec(table))  # the ledger's schema
    code = run_task(task, Fault(point, kind, table), table_file([matrix.workbench.spec(table)]), [table], NOW)
    assert code == {Kind.KILL: -9, Kind.HANG: -9}.get(kind, 1)


@pytest.mark.parametrize("grouped", [False, True], ids=["alone", "grouped"])
def test_the_job_may_be_killed_at_any_point(matrix, job_hits, grouped):
    cases = []
    for point, hit in job_hits:
        victim = matrix.add_table()
        cases.append((faults_at(point, Kind.KILL, victim, hit), [victim, *([matrix.add_table()] if grouped else [])]))
    planned = matrix.plan([fault for faults, _ in cases for fault in faults])

    def run(case):
        faults, tables = case
        return matrix.workbench.run_job(*(planned[table] for table in tables), faults=faults)

    with ThreadPoolExecutor(2) as pool:
        for (faults, _), (code, output) in zip(cases, pool.map(run, cases), strict=True):
            assert f"FAULT kill at '{faults[-1].point}'" in output
            assert code != 0
    matrix.recover()
    matrix.maintain()


class FaultyJob:
    """One job in which every fault happens that leaves the process alive; some of its tables hang in the end."""

    def __init__(self, matrix, job_hits):
        self.matrix = matrix
        self.faults, hanging = [], []
        for (point, hit), kind in product(job_hits, [Kind.RAISE, Kind.LOSE_REPLY, Kind.HANG]):
            if kind in kinds_at(point):
                table = matrix.add_table()
                self.faults += faults_at(point, kind, table, hit)
                hanging += [table] if kind is Kind.HANG else []
        self.bystanders = [matrix.add_table() for _ in range(2)]
        planned = matrix.plan(self.faults).values()
        self._job = Output(matrix.workbench.start_job(*planned, faults=self.faults, parallel_tables=len(planned)))
        self._job.wait_for("(?m): published|^ERROR|: already published", times=len(matrix.tables) - len(hanging))
        self._job.wait_for("FAULT hang", times=len(hanging))
        self.output = self._job.text

    @cached_property
    def left_behind(self):
        """Kill it, as Airflow does after the execution timeout; what it had started, gone and alive."""
        started = psutil.Process(self._job.process.pid).children(recursive=True)
        self._job.process.kill()
        self._job.wait_for_end()
        return psutil.wait_procs(started, timeout=5)


@pytest.fixture(scope="module")
def faulty_job(stack, start_spark, warehouse, job_hits, tmp_path_factory):
    with ExitStack() as resources:
        folder = tmp_path_factory.mktemp("faulty")
        workbench = Workbench(stack, folder, "faulty_job", resources, start_spark, warehouse)
        yield FaultyJob(Matrix(workbench), job_hits)


def test_one_job_with_every_other_fault_moves_the_rest(faulty_job):
    for fault in faulty_job.faults:
        assert f"FAULT {fault.kind} at '{fault.point}' of {fault.table}\n" in faulty_job.output
        if (
            fault.kind is Kind.LOSE_REPLY and fault.point not in AFTER_FAILED_AUDIT
        ):  # the job sees for itself what became of it
            assert f"\n{fault.table} [" in faulty_job.output, fault
    for table in faulty_job.bystanders:
        assert f"\n{table} [" in faulty_job.output


def test_an_attempt_that_fails_leaves_no_file_that_no_snapshot_refers_to(faulty_job):
    workbench, seen = faulty_job.matrix.workbench, set()
    for fault in faulty_job.faults:
        if fault.kind in (Kind.RAISE, Kind.LOSE_REPLY):
            files = workbench.files_on_disk(fault.table)
            assert files == workbench.files_referred_to(fault.table), fault
            seen.add(len(files))
    assert seen == {0, 2, 4}, "none where nothing was staged, two where one attempt staged, four where a second did"


def test_a_job_that_hangs_leaves_no_process_when_it_is_killed(faulty_job):
    gone, alive = faulty_job.left_behind
    assert (bool(gone), alive) == (True, [])


def test_the_retry_the_next_cycle_and_maintenance_clear_up_after_those_faults(faulty_job):
    assert faulty_job.left_behind
    faulty_job.matrix.recover()
    faulty_job.matrix.maintain()


def test_no_layer_passes_the_one_below_whatever_becomes_of_that(workbench):
    bronze, silver, gold = tables = [workbench.create_trades(layer) for layer in ("bronze", "silver", "gold")]
    specs = [
        workbench.spec(bronze),
        workbench.spec(silver, layer="silver", upstream=f"[{bronze}]"),
        workbench.spec(gold, layer="gold", upstream=f"[{silver}]"),
    ]
    for table in tables:
        workbench.insert_trades(table, FIRST, 1200)

    def watermarks():
        return [watermark_of(cycle.catalog.load(cycle.tables[table]).published) for table in tables]

    cycle = workbench.cycle(*specs, now=NOW)
    planned = cycle.plan(cycle.tables[bronze])
    code, _ = workbench.run_job(planned, faults=faults_at(FaultPoint.ANCESTORS_CHECKED, Kind.KILL, bronze))
    assert code != 0
    assert [cycle.plan(cycle.tables[table]) for table in (silver, gold)] == [None, None]

    code, _ = workbench.run_job(planned, faults=faults_at(FaultPoint.PUBLISHED, Kind.KILL, bronze))  # and no commit
    assert code != 0
    cycle = workbench.cycle(*specs, now=NOW)
    workbench.move(cycle, silver)
    workbench.move(workbench.cycle(*specs, now=NOW), gold)
    assert len(set(watermarks())) == 1

    for table in tables:
        workbench.insert_trades(table, MIDNIGHT + timedelta(minutes=20), 300, start_sequence=5000)
    cycle = workbench.cycle(*specs, now=NEXT)
    assert [cycle.plan(cycle.tables[table]) for table in (gold, silver)] == [None, None]
    for table in tables:
        workbench.move(workbench.cycle(*specs, now=NEXT), table)
        assert watermarks() == sorted(watermarks(), reverse=True)
    for table in tables:
        assert workbench.cold_rows(table) == workbench.warm_rows(table)
