"""What the offload task submits, when it submits nothing, and where secrets are not."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters import spark_submit
from k2_offload.adapters.log_lines import FORMAT_VARIABLE
from k2_offload.airflow_tasks import run_by_spark_submit
from k2_offload.airflow_tasks.offload import OffloadOperator
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.plan import Plan, PlannedWindow, RefusedTable

SECRET = "a-secret-of-this-test"
RUN = SimpleNamespace(dag_id="k2_offload_bronze", run_id="r+1", task_id="offload", map_index=2, try_number=1)
CONTEXT = {"ti": RUN}
SUBMIT = SparkSubmitOperator.execute


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
        column_types_sql="SELECT 3",
        ledger_id=None,
        replicated=(),
        longest_delay_seconds=0,
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
        seen.append({"environment": dict(os.environ), "plan": plan_file.read_text(), "args": self.application_args[1:]})

    monkeypatch.setattr(SparkSubmitOperator, "execute", execute)
    monkeypatch.setattr(run_by_spark_submit, "check_java", lambda: 17)
    return seen


def operator(plan):
    return with_runner(OffloadOperator)(task_id="offload", job_group=plan.job_group, plan=plan.to_json())


def test_the_plan_goes_into_a_file_and_secrets_into_the_environment_only(submitted):
    plan = Plan("bronze", (window(),))
    task = operator(plan)
    task.execute(CONTEXT)
    [run] = submitted
    assert Plan.from_json(run["plan"]) == plan
    assert run["args"] == ["--parallel-tables", "3"]
    assert (task.application, task.driver_class_path) == (str(spark_submit.OFFLOAD), "/jars/a.jar:/jars/b.jar")
    connections = JobConnections.from_json(run["environment"][JobConnections.VARIABLE])
    assert connections.clickhouse.password == SECRET
    assert run["environment"]["PYSPARK_PYTHON"] == "/opt/python"
    assert JobConnections.VARIABLE not in os.environ
    shown = json.dumps([task.env_vars, task.conf, task.application_args, task.plan, run["plan"]])
    assert SECRET not in shown


@pytest.mark.parametrize(
    "spark",
    [
        {"host": "local[2]"},
        {"host": "spark://node:7077"},
        {"host": "spark://yarn-node", "port": 7077, "extra": {"deploy-mode": "client"}},
        {"host": "yarn"},
        {"host": "yarn", "extra": {"deploy-mode": "client"}},
    ],
    ids=str,
)
@pytest.mark.usefixtures("submitted")
def test_no_secret_is_on_the_command_line_that_others_can_list(monkeypatch, tmp_path, spark):
    binary = tmp_path / "spark-submit"
    listing = "ps -ww -o args= -p $$; ps -ww -o args= -p $PPID"
    binary.write_text(f"#!/bin/sh\n({listing}) > {tmp_path}/listed\nenv > {tmp_path}/environment\n")
    binary.chmod(0o700)
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__SPARK_BINARY", str(binary))
    monkeypatch.setenv("AIRFLOW_CONN_UNIT_SPARK", json.dumps({"conn_type": "spark", **spark}))
    monkeypatch.setattr(SparkSubmitOperator, "execute", SUBMIT)
    operator(Plan("bronze", (window(),))).execute(CONTEXT)
    listed = (tmp_path / "listed").read_text()
    assert f"--master {spark['host']}" in listed
    assert SECRET not in listed
    assert SECRET in (tmp_path / "environment").read_text()


@pytest.mark.parametrize(
    "spark",
    [
        {"host": "yarn", "extra": {"deploy-mode": "cluster"}},
        {"host": "spark://node:7077", "extra": {"deploy-mode": "cluster"}},
        {"host": "k8s://https://node:6443"},
        {"host": "k8s://https://node:6443", "extra": {"deploy-mode": "cluster"}},
    ],
    ids=str,
)
def test_a_master_that_would_put_secrets_on_command_lines_is_refused(submitted, monkeypatch, spark):
    monkeypatch.setenv("AIRFLOW_CONN_UNIT_SPARK", json.dumps({"conn_type": "spark", **spark}))
    with pytest.raises(ConfigurationError, match="command lines"):
        operator(Plan("bronze", (window(),))).execute(CONTEXT)
    assert submitted == []


def test_sparks_whole_log_is_beside_the_tasks_which_names_it(submitted, monkeypatch, tmp_path, caplog):
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path))
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__LOG_FORMAT", "json")
    with caplog.at_level("INFO"):
        operator(Plan("bronze", (window(),))).execute(CONTEXT)
    folder = tmp_path / "dag_id=k2_offload_bronze" / "run_id=r+1" / "task_id=offload" / "map_index=2"
    file = folder / "attempt=1.spark.log"
    assert folder.is_dir()
    assert submitted[0]["environment"].items() >= spark_submit.full_log(file).items()
    assert submitted[0]["environment"][FORMAT_VARIABLE] == "json"
    assert f"Spark's whole log: {file}" in caplog.text


def test_where_that_log_cannot_be_kept_the_rows_move_all_the_same(submitted, monkeypatch, tmp_path, caplog):
    (tmp_path / "file").touch()
    monkeypatch.setenv("AIRFLOW__LOGGING__BASE_LOG_FOLDER", str(tmp_path / "file"))
    operator(Plan("bronze", (window(),))).execute(CONTEXT)
    assert len(submitted) == 1
    assert "Spark's whole log is not kept" in caplog.text


def test_nothing_secret_is_there_before_the_task_runs(submitted):
    task = operator(Plan("bronze", (window(),)))
    rendered = {name: getattr(task, name, None) for name in task.template_fields}
    assert SECRET not in repr(rendered)
    assert submitted == []


@pytest.mark.parametrize(("transports", "short"), [(["export"], True), (["jdbc"], False), (["export", "jdbc"], False)])
def test_a_job_that_is_over_in_seconds_gets_a_short_job_s_options(submitted, transports, short):
    task = operator(Plan("bronze", tuple(window(transport) for transport in transports)))
    task.execute(CONTEXT)
    assert (spark_submit.SHORT_JOB in task.conf["spark.driver.extraJavaOptions"]) is short
    assert len(submitted) == 1


def test_a_refused_table_fails_the_task_once_the_others_have_moved(submitted):
    plan = Plan("bronze", (window(),), (RefusedTable("x", "x: no such source"), RefusedTable("y", "y: NULL")))
    with pytest.raises(AirflowFailException, match="x: no such source\ny: NULL"):
        operator(plan).execute(CONTEXT)
    assert len(submitted) == 1


def test_with_refused_tables_alone_no_spark_is_started(submitted):
    with pytest.raises(AirflowFailException, match="no such source"):
        operator(Plan("bronze", (), (RefusedTable("x", "x: no such source"),))).execute(CONTEXT)
    assert submitted == []


def test_a_missing_spark_connection_is_named_before_spark_makes_something_up(submitted, monkeypatch):
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__SPARK_CONN_ID", "not_there")
    with pytest.raises(ConfigurationError, match="'not_there' does not exist"):
        operator(Plan("bronze", (window(),))).execute(CONTEXT)
    assert submitted == []


@pytest.mark.usefixtures("submitted")
def test_each_application_of_one_task_gets_its_own_plan(monkeypatch, tmp_path):
    binary = tmp_path / "spark-submit"
    binary.write_text(f'#!/bin/sh\nfor last; do :; done\ncat "$last" >> {tmp_path}/plans\n')
    binary.chmod(0o700)
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__SPARK_BINARY", str(binary))
    monkeypatch.setattr(SparkSubmitOperator, "execute", SUBMIT)
    task = operator(Plan("bronze", (window(),)))
    for plan in ("first,", "second"):
        task.submit(CONTEXT, plan, short=True)
    assert (tmp_path / "plans").read_text() == "first,second"
