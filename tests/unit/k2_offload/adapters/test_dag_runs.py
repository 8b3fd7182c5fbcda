"""Which run nobody runs any more; how runs are read and ended is tested with a real one, in the test of ``k2 run``."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from sqlalchemy import Column, MetaData, Table, create_engine, insert
from sqlalchemy.orm import Session

from k2_offload.adapters import dag_runs
from k2_offload.adapters.dag_runs import ActiveRun, conf_of_this_process
from k2_offload.core.limits import BACKFILL_SECONDS, MAINTENANCE_SECONDS, TASK_SECONDS, unchanged_seconds

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
HERE = conf_of_this_process({})["process"]
GONE = "/".join([*HERE.split("/")[:-1], "1"])
LONG_AGO = NOW - timedelta(seconds=unchanged_seconds(TASK_SECONDS) + 1)
RUN = ActiveRun("k2_offload_bronze", "manual", "running", LONG_AGO, NOW, True, None)


@pytest.mark.parametrize(
    ("run", "abandoned"),
    [
        pytest.param(replace(RUN, process=GONE), True, id="its process is gone"),
        pytest.param(replace(RUN, process=HERE, last_change=LONG_AGO), False, id="its process lives, however slow"),
        pytest.param(replace(RUN, process="elsewhere/1/2"), False, id="another machine's, at work"),
        pytest.param(replace(RUN, process="elsewhere/1/2", last_change=LONG_AGO), True, id="another machine's, still"),
        pytest.param(RUN, False, id="airflow dags test, at work"),
        pytest.param(replace(RUN, last_change=LONG_AGO), True, id="airflow dags test, left"),
        pytest.param(replace(RUN, last_change=LONG_AGO, task_seconds=3600), False, id="its tasks may take longer"),
        pytest.param(replace(RUN, outside=False, last_change=LONG_AGO), False, id="the scheduler's"),
        pytest.param(replace(RUN, state="queued", last_change=LONG_AGO), False, id="waiting for the scheduler"),
    ],
)
def test_only_a_run_that_nobody_can_be_running_is_abandoned(run, abandoned):
    assert run.is_abandoned(NOW) is abandoned


def test_a_run_of_this_process_names_it_and_keeps_its_conf():
    assert conf_of_this_process({"tables": ["a"]}) == {"tables": ["a"], "process": HERE}


@pytest.fixture
def record_runs(monkeypatch):
    """A function that records runs of a DAG in an Airflow database of the test's own."""
    engine = create_engine("sqlite://")

    def make(model):
        sqlite_table = model.__table__.to_metadata(MetaData())
        columns = [Column(each.name, each.type, primary_key=each.primary_key) for each in sqlite_table.columns]
        table = Table(sqlite_table.name, MetaData(), *columns)
        table.create(engine)
        return table

    made, _ = make(DagRun), make(TaskInstance)
    monkeypatch.setattr(dag_runs, "_session", lambda: Session(engine))

    def record(*runs, dag_id="k2_reconcile"):
        with engine.begin() as connection:
            for number, (state, conf) in enumerate(runs):
                at = NOW + timedelta(hours=number)
                values = {"id": number + 1, "dag_id": dag_id, "state": state, "start_date": at, "end_date": at}
                connection.execute(insert(made).values(values | {"conf": conf}))

    return record


def test_the_last_success_is_known_however_many_runs_have_failed_since(record_runs):
    record_runs(("success", {}), *[("failed", {})] * 24)
    seen = dag_runs.read_latest_runs("k2_reconcile", {"a", "b"})
    assert (seen.last_success, seen.failures) == (NOW, 20)
    assert dag_runs.read_latest_runs("k2_report", {"a", "b"}).last_success is None


@pytest.mark.parametrize("conf", [{"tables": ["a"]}, {"days": ["2026-03-01"]}, {"dry_run": True}])
def test_a_run_for_a_part_is_neither_a_success_nor_a_failure(record_runs, conf):
    record_runs(("success", None), ("failed", {"tables": []}), ("success", conf), ("failed", conf))
    seen = dag_runs.read_latest_runs("k2_reconcile", {"a", "b"})
    assert (seen.last_success, seen.failures) == (NOW, 1)


def test_a_run_that_names_all_tables_is_a_whole_one(record_runs):
    record_runs(("failed", {}), ("success", {"tables": ["b", "a"], "dry_run": False, "days": []}))
    assert dag_runs.read_latest_runs("k2_reconcile", {"a", "b"}).last_success == NOW + timedelta(hours=1)


@pytest.mark.parametrize(
    ("dag_id", "seconds"),
    [("k2_backfill", BACKFILL_SECONDS), ("k2_maintenance", MAINTENANCE_SECONDS), ("k2_reconcile", 777)],
)
def test_a_run_may_be_unchanged_for_as_long_as_its_own_tasks_take(record_runs, monkeypatch, dag_id, seconds):
    monkeypatch.setattr(dag_runs, "load_settings", lambda: SimpleNamespace(task_timeout_seconds=777))
    record_runs(("running", {}), dag_id=dag_id)
    [run] = dag_runs.read_active_runs([dag_id])
    assert not run.is_unchanged(NOW + timedelta(seconds=seconds))
    assert run.is_unchanged(NOW + timedelta(seconds=unchanged_seconds(seconds) + 1))
