"""What the offload task submits, when it submits nothing, and where secrets are not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters import spark_submit
from k2_offload.airflow_tasks import offload
from k2_offload.airflow_tasks.offload import OffloadOperator
from k2_offload.core.connections import JobConnections
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.plan import Plan, PlannedWindow, RefusedTable

SECRET = "a-secret-of-this-test"


def window(transport="export"):
    return PlannedWindow(
        table="t",
        target="cold.t",
        window_id="k2/u/a/b",
        rows=9,
        cut_on="t",
        transport=transport,
        partition_field="t_day",
        columns=(),
        max_file_rows=5,
        parallel_exports=2,
        rows_per_slot_sql="SELECT 1",
        select_split_sql="SELECT 2",
    )


@pytest.fixture
def submitted(monkeypatch):
    """What would have been submitted, one entry each; Spark itself is left out."""
    for name, fields in {
        "ch": {"conn_type": "clickhouse", "host": "ch", "password": SECRET},
        "lake": {"conn_type": "iceberg", "host": "http://rest", "extra": {"s3.secret-access-key": SECRET}},
        "spark": {"conn_type": "spark", "host": "local[2]"},
    }.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_UNIT_{name.upper()}", json.dumps(fields))
    for setting, value in {
        "clickhouse_conn_id": "unit_ch",
        "catalog_conn_id": "unit_lake",
        "spark_conn_id": "unit_spark",
        "spark_binary": "/opt/spark-submit",
        "spark_python": "/opt/python",
        "spark_jars": "/jars/a.jar,/jars/b.jar",
        "parallel_tables": "3",
    }.items():
        monkeypatch.setenv(f"AIRFLOW__K2_OFFLOAD__{setting.upper()}", value)
    seen = []

    def execute(self, _):
        plan_file = Path(self.application_args[0])
        seen.append({"operator": self, "plan": plan_file.read_text(), "args": self.application_args[1:]})

    monkeypatch.setattr(SparkSubmitOperator, "execute", execute)
    monkeypatch.setattr(offload, "check_java", lambda: 17)
    return seen


def operator(plan):
    return OffloadOperator(task_id="offload", job_group=plan.job_group, plan=plan.to_json())


def test_the_plan_goes_into_a_file_and_secrets_into_the_environment_only(submitted):
    plan = Plan("bronze", (window(),))
    task = operator(plan)
    task.execute({})
    [run] = submitted
    assert Plan.from_json(run["plan"]) == plan
    assert run["args"] == ["--parallel-tables", "3"]
    assert (task.application, task.driver_class_path) == (str(spark_submit.OFFLOAD), "/jars/a.jar:/jars/b.jar")
    connections = JobConnections.from_json(task.env_vars.pop(JobConnections.VARIABLE))
    assert connections.clickhouse.password == SECRET
    assert task.env_vars["PYSPARK_PYTHON"] == "/opt/python"
    shown = json.dumps([task.env_vars, task.conf, task.application_args, task.plan, run["plan"]])
    assert SECRET not in shown


def test_nothing_secret_is_there_before_the_task_runs(submitted):
    task = operator(Plan("bronze", (window(),)))
    rendered = {name: getattr(task, name, None) for name in task.template_fields}
    assert SECRET not in repr(rendered)
    assert submitted == []


@pytest.mark.parametrize(("transports", "short"), [(["export"], True), (["jdbc"], False), (["export", "jdbc"], False)])
def test_a_job_that_is_over_in_seconds_gets_a_short_job_s_options(submitted, transports, short):
    task = operator(Plan("bronze", tuple(window(transport) for transport in transports)))
    task.execute({})
    assert (spark_submit.SHORT_JOB in task.conf["spark.driver.extraJavaOptions"]) is short
    assert len(submitted) == 1


def test_a_refused_table_fails_the_task_once_the_others_have_moved(submitted):
    plan = Plan("bronze", (window(),), (RefusedTable("x", "x: no such source"), RefusedTable("y", "y: NULL")))
    with pytest.raises(AirflowFailException, match="x: no such source\ny: NULL"):
        operator(plan).execute({})
    assert len(submitted) == 1


def test_with_refused_tables_alone_no_spark_is_started(submitted):
    with pytest.raises(AirflowFailException, match="no such source"):
        operator(Plan("bronze", (), (RefusedTable("x", "x: no such source"),))).execute({})
    assert submitted == []


def test_a_missing_spark_connection_is_named_before_spark_makes_something_up(submitted, monkeypatch):
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__SPARK_CONN_ID", "not_there")
    with pytest.raises(ConfigurationError, match="'not_there' does not exist"):
        operator(Plan("bronze", (window(),))).execute({})
    assert submitted == []
