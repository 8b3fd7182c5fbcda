"""Every task of every DAG begins only if Airflow gives it what its run was told."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.definitions.param import process_params
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters.dag_runs import conf_of_this_process
from k2_offload.adapters.settings import Settings
from k2_offload.airflow_tasks.dags import build_dags

OVERRIDES = "AIRFLOW__CORE__DAG_RUN_CONF_OVERRIDES_PARAMS"
LINEAGE = {"openlineage": {"parentRunId": "of the task that has triggered it"}}
TOLD = {
    "k2_maintenance": {"tables": ["silver_trades"], "dry_run": True},
    "k2_backfill": {"tables": ["silver_trades"], "from": "2026-03-01", "max_rows": 5},
    "k2_reconcile": {"tables": ["silver_trades"], "days": ["2026-03-01"], "going_rows": 3},
    "k2_report": {"day": "2026-03-01"},
    **{f"k2_offload_{layer}": {"tables": [table]} for layer, table in [
        ("bronze", "bronze_trades_kraken"), ("silver", "silver_trades"), ("gold", "ohlcv_1m"),
    ]},
}  # fmt: skip


def begin(dag_id: str, conf: dict[str, Any] | None) -> dict[str, str]:
    """Begin every task of a run; what each one says that does not."""
    refused = {}
    dag = build_dags(Settings().tables_file)[dag_id]
    for task in dag.tasks:
        hook = task.partial_kwargs["pre_execute"] if task.is_mapped else vars(task)["_pre_execute_hook"]
        params = process_params(dag, task, conf, suppress_exception=False)
        try:
            hook({"dag": dag, "params": params, "dag_run": SimpleNamespace(conf=conf)})
        except AirflowFailException as error:
            refused[task.task_id] = str(error)
    return refused


def test_all_dags_are_asked():
    assert build_dags(Settings().tables_file).keys() == TOLD.keys()


@pytest.mark.parametrize("dag_id", TOLD)
def test_a_run_of_the_schedule_and_one_that_was_told_something_begin(dag_id):
    for conf in (None, TOLD[dag_id], conf_of_this_process(TOLD[dag_id]) | LINEAGE):
        assert begin(dag_id, conf) == {}


@pytest.mark.parametrize("dag_id", TOLD)
def test_no_task_begins_if_airflow_keeps_from_it_what_its_run_was_told(monkeypatch, dag_id):
    monkeypatch.setenv(OVERRIDES, "False")
    tasks = build_dags(Settings().tables_file)[dag_id].task_ids
    for name, value in TOLD[dag_id].items():
        refused = begin(dag_id, {name: value})
        assert set(refused) == set(tasks)
        assert all(
            f"{name} = {value!r}" in each and "dag_run_conf_overrides_params" in each for each in refused.values()
        )
    assert begin(dag_id, {}) == {}


@pytest.mark.parametrize("dag_id", TOLD)
def test_no_task_begins_if_its_dag_has_no_parameter_of_that_name(dag_id):
    refused = begin(dag_id, TOLD[dag_id] | {"dryrun": True})
    assert set(refused) == set(build_dags(Settings().tables_file)[dag_id].task_ids)
    assert all("'dryrun'" in each and "Nothing was changed" in each for each in refused.values())


def test_what_is_so_anyway_does_not_need_airflows_option(monkeypatch):
    monkeypatch.setenv(OVERRIDES, "False")
    assert begin("k2_maintenance", {"tables": [], "dry_run": False}) == {}
