"""The DAG of a layer: its order, its limits, and what its form offers."""

from __future__ import annotations

from datetime import timedelta

import pytest

from k2_offload.adapters.connections import clickhouse_endpoint
from k2_offload.adapters.settings import Settings, load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.airflow_tasks.backfill_dag import build_backfill_dag
from k2_offload.airflow_tasks.layer_dag import build_dag
from k2_offload.airflow_tasks.maintenance_dag import build_maintenance_dag
from k2_offload.airflow_tasks.reconcile_dag import build_reconcile_dag
from k2_offload.core.dag_ids import attempt_seconds
from k2_offload.core.limits import TASK_RETRIES, TASK_SECONDS, layer_seconds, run_seconds

TABLES = load_tables(Settings().tables_file)


@pytest.mark.parametrize(("layer", "waits_for"), [("bronze", None), ("silver", "bronze"), ("gold", "silver")])
def test_each_layer_plans_moves_and_commits_after_the_one_below(layer, waits_for):
    dag = build_dag(layer, TABLES)
    assert dag.dag_id == f"k2_offload_{layer}"
    waits = {f"wait_for_{waits_for}"} if waits_for else set()
    assert {task.task_id for task in dag.tasks} == waits | {"plan", "offload", "commit"}
    assert dag.get_task("plan").upstream_task_ids == waits
    assert dag.get_task("offload").upstream_task_ids == {"plan"}
    assert dag.get_task("commit").upstream_task_ids == {"plan", "offload"}


def test_commit_runs_whatever_became_of_offload_and_goes_with_it_when_that_is_cleared():
    dag = build_dag("bronze", TABLES)
    assert dag.get_task("plan").is_setup
    assert dag.get_task("commit").is_teardown


def test_one_run_at_a_time_none_of_the_past_and_no_task_for_ever():
    dag = build_dag("gold", TABLES)
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    for task_id in ("plan", "commit"):
        assert dag.get_task(task_id).execution_timeout == timedelta(seconds=TASK_SECONDS)
    assert dag.get_task("wait_for_silver").timeout == layer_seconds(TASK_SECONDS)
    assert dag.dagrun_timeout == timedelta(seconds=run_seconds(1, TASK_SECONDS))


def test_a_longer_timeout_of_the_task_takes_all_that_follows_from_it_with_it(monkeypatch):
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__TASK_TIMEOUT_SECONDS", "3600")
    monkeypatch.setenv("AIRFLOW_CONN_K2_CLICKHOUSE", '{"conn_type": "clickhouse", "host": "c"}')
    dag = build_dag("gold", TABLES)
    assert dag.get_task("plan").execution_timeout == timedelta(hours=1)
    assert dag.get_task("offload").partial_kwargs["execution_timeout"] == timedelta(hours=1)
    assert dag.get_task("wait_for_silver").timeout > 3600
    assert dag.dagrun_timeout == timedelta(seconds=run_seconds(1, 3600))
    assert build_reconcile_dag(TABLES).get_task("compare").execution_timeout == timedelta(hours=1)
    assert clickhouse_endpoint(load_settings()).query_seconds == 3600


@pytest.mark.parametrize("task_seconds", [TASK_SECONDS, 3600])
@pytest.mark.parametrize(("applications", "one_after_the_other"), [(1, 1), (2, 1), (3, 2), (6, 3)])
def test_a_run_may_take_as_long_as_its_tasks_with_all_their_attempts(task_seconds, applications, one_after_the_other):
    attempts = 1 + TASK_RETRIES
    longest = layer_seconds(task_seconds) + (2 + one_after_the_other) * attempts * task_seconds
    assert longest < run_seconds(applications, task_seconds) < longest * 1.1


def test_the_form_offers_the_layers_tables():
    schema = build_dag("gold", TABLES).params.get_param("tables").schema
    assert schema["items"]["enum"] == ["ohlcv_1m", "ohlcv_5m", "ohlcv_15m", "ohlcv_30m", "ohlcv_1h", "ohlcv_1d"]


def test_the_description_names_sources_and_targets():
    assert "`k2.silver_trades` → `cold.silver_trades`" in build_dag("silver", TABLES).doc_md


@pytest.mark.parametrize(
    ("text", "cron", "missing"), [(None, "*/15 * * * *", 120), ("1m", "*/1 * * * *", 60), ("1h", "0 * * * *", 120)]
)
def test_all_layers_follow_the_schedule_that_is_set(monkeypatch, text, cron, missing):
    if text:
        monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__SCHEDULE", text)
    dags = [build_dag(layer, TABLES) for layer in ("bronze", "silver", "gold")]
    assert [dag.schedule for dag in dags] == [cron] * 3
    assert [
        dag.get_task(f"wait_for_{below}").missing_seconds
        for dag, below in zip(dags[1:], ("bronze", "silver"), strict=True)
    ] == [missing] * 2
    assert f"`{cron}`" in dags[0].doc_md


@pytest.mark.parametrize("build", [build_backfill_dag, build_maintenance_dag, build_reconcile_dag])
def test_no_task_may_take_longer_than_its_run_may_be_unchanged(build):
    dag = build(TABLES)
    limits = [
        getattr(task, "partial_kwargs", {}).get("execution_timeout") or task.execution_timeout for task in dag.tasks
    ]
    assert max(limits) == timedelta(seconds=attempt_seconds(dag.dag_id, TASK_SECONDS))
