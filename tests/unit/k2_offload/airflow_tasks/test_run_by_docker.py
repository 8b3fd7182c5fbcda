"""What DockerOperator and Docker's own client make of an application, against a stand-in for the container engine."""

from __future__ import annotations

import inspect
import logging
import os
import sys
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
from airflow.providers.apache.spark.operators import spark_submit
from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.providers.docker.operators.docker import DockerOperator
from airflow.sdk.exceptions import AirflowException

from k2_offload.adapters.log_lines import FORMAT_VARIABLE
from k2_offload.adapters.settings import Settings
from k2_offload.airflow_tasks.dags import build_dags
from k2_offload.airflow_tasks.maintenance import MaintainOperator
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.errors import ConfigurationError, OffloadError, Unreachable
from k2_offload.core.job_connections import JobConnections
from tests.support.container_engine import container_engine
from tests.support.runners import SECRET, set_connection, set_up_runner, set_variables, write_spark_submit

pytestmark = pytest.mark.usefixtures("log_on_stdout")


@pytest.fixture
def engine(tmp_path, monkeypatch):
    with container_engine(tmp_path) as engine:
        set_up_runner(monkeypatch, "docker", {"conn_type": "docker", "host": engine.url}, "local[2]")
        yield engine


@pytest.fixture
def task_of(tmp_path, monkeypatch):
    """Makes a task whose spark-submit is a script; its last argument is ``$last``."""

    def make(script):
        set_variables(monkeypatch, spark_binary=write_spark_submit(tmp_path, script))
        return with_runner(MaintainOperator)(task_id="maintain")

    return make


def test_the_application_gets_its_arguments_and_the_variables_of_its_container_only(
    engine, task_of, tmp_path, monkeypatch, caplog, capsys
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ONLY_ON_THE_WORKER", "yes")
    set_variables(monkeypatch, docker_jobs_folder="/in/the/image", spark_jars="/jars/a.jar,/jars/b.jar")
    task = task_of(f'printf "%s\\n" "$@" > {tmp_path}/arguments; env > {tmp_path}/environment; cat "$last"')
    assert SECRET not in repr([getattr(task, name) for name in task.template_fields])
    task.submit({}, "the plan", short=True)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[arguments.index("--master") + 1] == "local[2]"
    assert arguments[arguments.index("--driver-class-path") + 1] == "/jars/a.jar:/jars/b.jar"
    assert arguments[-2] == "/in/the/image/maintain.py"
    [java] = [line for line in arguments if line.startswith("spark.driver.extraJavaOptions=")]
    assert "-Dlog4j2.configurationFile=file:///in/the/image/log4j2.properties" in java
    variables = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines())
    assert variables.keys() - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        "PATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", JobConnections.VARIABLE, FORMAT_VARIABLE,
    }  # fmt: skip
    assert JobConnections.from_json(variables[JobConnections.VARIABLE]).clickhouse.password == SECRET
    log = capsys.readouterr().out
    assert "the plan" in log, "what the application says is in the task's log"
    shown = [log, caplog.text, repr([getattr(task, name) for name in task.template_fields]), *arguments]
    assert SECRET not in "".join(shown)
    assert JobConnections.VARIABLE not in os.environ
    assert engine.containers == {}


def test_limits_mounts_and_the_network_are_those_of_the_settings(engine, task_of, monkeypatch):
    mounts = "/srv/warehouse:/srv/warehouse, code:/opt/k2:ro"
    set_variables(monkeypatch, docker_mounts=mounts, docker_memory="1500m", docker_cpus="1.5", docker_network="bridge")
    task_of("true").submit({}, "{}", short=True)
    [created] = engine.created
    host = created.config["HostConfig"]
    assert (host["Memory"], host["NanoCpus"], host["NetworkMode"]) == (1500 * 2**20, 1_500_000_000, "bridge")
    found = [(each["Type"], each["Source"], each["Target"], each.get("ReadOnly")) for each in host["Mounts"]]
    assert found == [("bind", "/srv/warehouse", "/srv/warehouse", False), ("volume", "code", "/opt/k2", True)]


@pytest.mark.parametrize("code", [0, 3])
def test_what_the_application_reports_comes_back_also_when_it_fails(engine, task_of, tmp_path, code):
    report = tmp_path / "report.json"
    task = task_of(f'echo "[1]" > "$last"; exit {code}')
    with pytest.raises(AirflowException, match="'StatusCode': 3") if code else nullcontext():
        task.submit({}, "{}", short=False, report=report)
    assert report.read_text() == "[1]\n"
    assert engine.containers == {}


def test_a_failure_is_told_with_the_application_s_last_words(engine, task_of, tmp_path):
    report = tmp_path / "report.json"
    with pytest.raises(AirflowException) as failed:
        task_of("echo starting; echo ERROR t: no such column >&2; exit 1").submit({}, "{}", short=True, report=report)
    assert "spark-submit of k2-maintenance in image k2:test" in str(failed.value)
    assert set(str(failed.value).splitlines()[-2:]) == {"starting", "ERROR t: no such column"}
    assert SECRET not in str(failed.value)
    assert not report.exists()
    assert engine.containers == {}


def test_a_container_that_was_ended_for_its_memory_says_which_setting_helps(engine, task_of):
    task = task_of("kill -9 $$")
    engine.before["POST /containers/0"] = lambda: setattr(engine.created[0], "out_of_memory", True)
    with pytest.raises(AirflowException, match=r"137.*make \[k2_offload\] docker_memory larger"):
        task.submit({}, "{}", short=True)


def test_a_task_that_is_killed_ends_its_container_at_once(engine, task_of):
    task = task_of("trap '' TERM; echo began; while :; do sleep 60; done")
    engine.when_said["began"] = task.on_kill
    with pytest.raises(AirflowException, match="was stopped before its end"):
        task.submit({}, "{}", short=True)
    assert engine.created[0].process.returncode == -9
    assert engine.containers == {}
    task.on_kill()  # Airflow calls it after a timeout, too, when all is over


def test_a_container_that_could_not_be_removed_is_named(engine, task_of, capsys):
    task = task_of("echo began; while :; do sleep 60; done")

    def kill():
        engine.refusals["DELETE /containers/"] = "device or resource busy"
        task.on_kill()
        engine.created[0].kill()

    engine.when_said["began"] = kill
    with pytest.raises(AirflowException, match="was stopped before its end"):
        task.submit({}, "{}", short=True)
    log = capsys.readouterr().out
    assert engine.created[0].name in log
    assert "device or resource busy" in log
    assert "docker rm --force" in log


@pytest.mark.parametrize("request_under_way", ["POST /containers/create", "PUT /containers/"])
def test_a_task_that_is_killed_before_its_container_starts_starts_none(engine, task_of, request_under_way):
    task = task_of("echo began")
    engine.before[request_under_way] = task.on_kill
    with pytest.raises(AirflowException, match="was stopped before its end"):
        task.submit({}, "{}", short=True)
    assert engine.created[0].process is None
    assert engine.containers == {}


def test_a_task_that_is_killed_between_two_applications_starts_no_other(engine, task_of):
    task = task_of("echo began")
    task.submit({}, "{}", short=True)
    task.on_kill()
    with pytest.raises(AirflowException, match="task was killed; nothing more was started"):
        task.submit({}, "{}", short=True)
    assert len(engine.created) == 1


def test_a_task_that_is_killed_while_it_looks_for_the_engine_starts_none(engine, task_of):
    task = task_of("echo began")
    engine.before["GET /version"] = task.on_kill  # it has no client yet
    with pytest.raises(AirflowException, match="was stopped before its end"):
        task.submit({}, "{}", short=True)
    assert all(each.process is None for each in engine.created)
    assert engine.containers == {}


def test_a_container_whose_creation_was_not_heard_of_is_removed(engine, task_of):
    engine.lost_replies.add("POST /containers/create")
    with pytest.raises(Unreachable):
        task_of("true").submit({}, "{}", short=True)
    [created] = engine.created
    assert SECRET in repr(created.config), "whoever may use the engine could read it"
    assert engine.containers == {}


def test_an_engine_that_refuses_is_quoted_and_nothing_is_left(engine, task_of):
    task = task_of("true")
    engine.refusals["PUT /containers/"] = "no space left on device"
    with pytest.raises(OffloadError, match=r"'unit_docker'.*refused: no space left on device.*k2 validate"):
        task.submit({}, "{}", short=True)
    assert engine.containers == {}


def test_an_image_that_the_engine_has_not_is_not_fetched(engine, task_of, monkeypatch):
    set_variables(monkeypatch, docker_image="k2:other")
    with pytest.raises(ConfigurationError, match=r"has no image 'k2:other'.*docker_image"):
        task_of("true").submit({}, "{}", short=True)
    assert not [request for request in engine.requests if "create" in request]  # which is also how one is pulled


def test_an_engine_that_is_away_is_told_with_its_connection(engine, task_of, tmp_path, monkeypatch):
    set_connection(monkeypatch, "docker", conn_type="docker", host=f"unix://{tmp_path}/nobody.sock")
    with pytest.raises(Unreachable, match="Docker engine is not reachable through Airflow connection 'unit_docker'"):
        task_of("true").submit({}, "{}", short=True)
    assert engine.created == []


@pytest.mark.usefixtures("engine")
def test_a_cluster_that_a_container_does_not_know_is_refused(task_of, monkeypatch):
    set_connection(monkeypatch, "spark", conn_type="spark", host="yarn")
    with pytest.raises(ConfigurationError, match="names master yarn"):
        task_of("true").submit({}, "{}", short=True)


@pytest.mark.parametrize(
    ("runner", "operator"),
    [("spark-submit", SparkSubmitOperator), ("docker", DockerOperator), ("kubernetes", KubernetesPodOperator)],
    ids=str,
)
def test_the_setting_decides_what_starts_every_application(monkeypatch, runner, operator):
    set_variables(monkeypatch, runner=runner)
    found = {
        (dag_id, task.task_id)
        for dag_id, dag in build_dags(Settings().tables_file).items()
        for task in dag.tasks
        if issubclass(getattr(task, "operator_class", type(task)), operator)
    }
    layers = {(f"k2_offload_{layer}", "offload") for layer in ("bronze", "silver", "gold")}
    assert found == layers | {("k2_reconcile", "heal"), ("k2_maintenance", "maintain"), ("k2_backfill", "backfill")}


def test_spark_submit_starts_nothing_after_a_kill_and_gets_no_key_of_openlineage(monkeypatch, tmp_path):
    set_variables(monkeypatch, runner="spark-submit")
    # As with `[openlineage] spark_inject_transport_info`, which the provider reads when it is imported.
    defaults = inspect.unwrap(SparkSubmitOperator.__init__).__kwdefaults__
    monkeypatch.setitem(defaults, "openlineage_inject_transport_info", True)
    with_key = lambda properties, _: properties | {"spark.openlineage.transport.auth.apiKey": SECRET}  # noqa: E731
    monkeypatch.setattr(spark_submit, "inject_transport_information_into_spark_properties", with_key)
    set_connection(monkeypatch, "spark", conn_type="spark", host="local[2]")
    set_connection(monkeypatch, "catalog", conn_type="iceberg", host="http://rest")
    set_connection(monkeypatch, "clickhouse", conn_type="clickhouse", host="ch")
    binary = tmp_path / "spark-submit"
    binary.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >> {tmp_path}/arguments\n')
    binary.chmod(0o700)
    names = {"spark_conn_id": "unit_spark", "catalog_conn_id": "unit_catalog", "clickhouse_conn_id": "unit_clickhouse"}
    set_variables(monkeypatch, spark_binary=str(binary), **names)
    task = with_runner(MaintainOperator)(task_id="maintain")
    of_run = SimpleNamespace(dag_id="d", run_id="r", task_id="t", map_index=-1, try_number=1)
    task.submit({"ti": of_run}, "{}", short=True)
    arguments = (tmp_path / "arguments").read_text()
    assert "maintain.py" in arguments
    assert SECRET not in arguments
    task.on_kill()
    with pytest.raises(AirflowException, match="nothing more was started"):
        task.submit({"ti": of_run}, "{}", short=True)
    assert (tmp_path / "arguments").read_text() == arguments


def test_a_provider_that_is_not_installed_is_named(monkeypatch):
    set_variables(monkeypatch, runner="docker")
    monkeypatch.delitem(sys.modules, "k2_offload.airflow_tasks.run_by_docker", raising=False)
    for name in [each for each in sys.modules if each.startswith("airflow.providers.docker")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "airflow.providers.docker", None)
    with pytest.raises(ConfigurationError, match="runner needs the package apache-airflow-providers-docker"):
        with_runner(MaintainOperator)
