"""The task around the maintenance job: which table comes first, and what is told of those that went wrong."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from k2_offload.airflow_tasks import maintenance
from k2_offload.airflow_tasks.maintenance import MaintainOperator
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.errors import OffloadError
from k2_offload.core.maintenance import Folder, Tidied
from k2_offload.core.maintenance_plan import MaintenancePlan, PlannedMaintenance, report_to_json
from offload_job.maintenance.application import run
from tests.model.world import START, TABLES

NAMES = list(TABLES.by_name)
FOLDER = Folder(files=1, size_bytes=1, snapshots=1, metadata_bytes=1)


class Ledger:
    """What maintenance keeps there.

    :param runs: table → when each run ended that has looked at it, whether it was a dry one, and whether it came back
    """

    def __init__(self):
        self.runs = {name: [] for name in NAMES}

    def migrate(self):
        pass

    def record_maintenance(self, done, now, *, dry_run):
        self.runs[done.table].append((now, dry_run, done.came_back))

    def last_attempts(self):
        return {table: runs[-1][0] for table, runs in self.runs.items() if runs}


class Killed(BaseException):
    """The job is, at a table that never ends."""


class Maintenance:
    """Runs of the task; of the job, only what it does to a table is left out.

    :ivar says: what the job's report says of a table; ``None`` if it never comes back from it
    :ivar planned: the tables of the last attempt, in their order
    :ivar tidied: the tables that the last attempt came back from
    """

    def __init__(self):
        self.ledger, self.now, self.planned, self.tidied = Ledger(), START, [], []
        self.tiers = SimpleNamespace(tables=TABLES, ledger=self.ledger, now=self._tick)
        self.operator = with_runner(MaintainOperator)(task_id="maintain")
        self.says = lambda table: Tidied(table, FOLDER, FOLDER, 0, 0, 0, 0, 1.0)

    def _tick(self):
        self.now += timedelta(seconds=1)
        return self.now

    def tidy(self, planned, *, dry_run):  # noqa: ARG002
        if (tidied := self.says(planned.table)) is None:
            raise Killed
        self.tidied.append(planned.table)
        return tidied

    def submit(self, _, plan, *, short, report):  # noqa: ARG002
        plan = MaintenancePlan.from_json(plan)
        self.planned, self.tidied = [planned.table for planned in plan.tables], []
        try:
            done = run(self, plan, lambda told: report.write_text(report_to_json(told)))
        except Killed:
            raise AirflowException("the job was killed") from None
        if any(tidied.problems for tidied in done):
            raise AirflowException("the job has failed")

    def attempt(self, **params):
        context = {"params": {"tables": [], "dry_run": False} | params}
        self.operator.execute(context)


def planned(_, table):
    return PlannedMaintenance(
        table=table.name, target=table.target, table_uuid="", partition_column="at", sort_columns=(),
        target_file_bytes=1, closed_before=START, expire_before=START, orphans_before=START,
    )  # fmt: skip


@pytest.fixture
def task(monkeypatch):
    task = Maintenance()

    @contextmanager
    def open_tiers():
        yield task.tiers

    monkeypatch.setattr(maintenance, "open_tiers", open_tiers)
    monkeypatch.setattr(maintenance, "seen_snapshots", lambda *_: frozenset())
    monkeypatch.setattr(maintenance, "find_rewrites", lambda *_: ())
    monkeypatch.setattr("k2_offload.work.maintenance.plan_maintenance", planned)
    monkeypatch.setattr(MaintainOperator, "submit", lambda _, *rest, **named: task.submit(*rest, **named))
    return task


ENDLESS = pytest.mark.parametrize(
    "endless", [{"silver"}, {"bronze_a", "candles_1m"}, set(NAMES[:-1])], ids=lambda names: "+".join(sorted(names))
)


def killed(task, endless):
    """The tables that one attempt has tidied, which was killed at one that is endless."""
    says = task.says
    task.says = lambda table: None if table in endless else says(table)
    with pytest.raises(AirflowException, match="the job was killed"):
        task.attempt()
    task.says = says
    return task.tidied


@ENDLESS
def test_a_table_that_never_ends_comes_last_wherever_it_stood(task, endless, caplog):
    for each in range(5):
        tidied = set()
        for _ in endless:
            caplog.clear()
            tidied |= set(killed(task, endless))
            was_at = task.planned[len(task.tidied)]
            assert f"{was_at}: maintenance has begun with it, and has not come back" in caplog.text
            assert max(task.ledger.last_attempts().items(), key=lambda attempt: attempt[1])[0] == was_at, "last"
        assert each == 0 or tidied == set(NAMES) - endless, "in as many attempts as there are endless ones"
    assert not any(came_back for table in endless for *_, came_back in task.ledger.runs[table])


@ENDLESS
def test_where_the_jobs_word_is_lost_each_table_has_its_turn_all_the_same(task, monkeypatch, endless):
    monkeypatch.setattr(MaintainOperator, "_record", lambda *_, **__: None)
    for _ in range(3):
        assert {table for _ in NAMES for table in killed(task, endless)} == set(NAMES) - endless


def test_a_table_that_cannot_be_looked_at_in_the_job_is_no_endless_one(task, caplog):
    says = task.says

    def say(table):
        if table == NAMES[-1]:
            raise OffloadError(f"{table}: the cold table was dropped")
        return says(table)

    task.says = say
    task.attempt()
    assert "the cold table was dropped" in caplog.text
    assert "has not come back" not in caplog.text
    assert task.ledger.runs[NAMES[-1]] == []


def test_a_dry_run_changes_no_order(task):
    task.attempt(dry_run=True)
    assert all(dry for runs in task.ledger.runs.values() for _, dry, _ in runs)
    task.ledger.runs = {name: [] for name in NAMES}
    task.says = lambda _: None
    with pytest.raises(AirflowException, match="the job was killed"):
        task.attempt(dry_run=True)
    assert not task.ledger.last_attempts()


@pytest.mark.parametrize(
    "error", [None, AirflowException("the job has failed"), AirflowFailException("no image")], ids=str
)
def test_a_table_that_cannot_be_looked_at_is_told_whatever_becomes_of_the_others(task, monkeypatch, caplog, error):
    away = OffloadError("silver: its cold table cannot be read")

    def plan(tiers, table):
        if table.name == "silver":
            raise away
        return planned(tiers, table)

    def submit(*_, **__):
        assert str(away) in caplog.text, "also if nothing comes back from the job"
        if error:
            raise error

    monkeypatch.setattr("k2_offload.work.maintenance.plan_maintenance", plan)
    monkeypatch.setattr(task, "submit", submit)
    with pytest.raises(AirflowException) as raised:
        task.attempt()
    assert str(raised.value).splitlines() == [str(away), *([str(error)] if error else [])]
    assert isinstance(raised.value, AirflowFailException) == (error is None or isinstance(error, AirflowFailException))


def test_a_difference_fails_the_run_for_good_and_other_problems_are_tried_again(task):
    says = task.says
    difference = "silver 2026-03-04: the rewritten files hold 9 rows and the old ones 10"
    other = "bronze_a: its files could not be removed"
    task.says = lambda table: replace(says(table), problems=[other] if table == "bronze_a" else [])
    with pytest.raises(AirflowException, match="the job has failed") as raised:
        task.attempt()
    assert not isinstance(raised.value, AirflowFailException)

    with_other = task.says
    found = {"problems": [difference], "differences": [difference]}
    task.says = lambda table: replace(says(table), **found) if table == "silver" else with_other(table)
    with pytest.raises(AirflowFailException, match=difference):
        task.attempt()
    assert all([back for *_, back in runs].count(True) == 2 for runs in task.ledger.runs.values()), "on record"
