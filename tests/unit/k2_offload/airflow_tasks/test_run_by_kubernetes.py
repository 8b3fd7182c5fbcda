"""What KubernetesPodOperator and Kubernetes' own client make of an application, against a fake of Kubernetes' API."""

from __future__ import annotations

import json
import logging
import os
from contextlib import nullcontext
from datetime import timedelta
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
import tenacity
from airflow.sdk.exceptions import AirflowException

from k2_offload.adapters.connections import job_connections
from k2_offload.adapters.log_lines import FORMAT_VARIABLE
from k2_offload.adapters.settings import load_settings
from k2_offload.airflow_tasks.maintenance import MaintainOperator
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.errors import ConfigurationError, OffloadError, Unreachable
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.pods import PodOptions, secret
from tests.support.kubernetes_api import kubernetes_api
from tests.support.runners import SECRET, set_connection, set_up_runner, set_variables, write_spark_submit

pytestmark = pytest.mark.usefixtures("log_on_stdout")

SECRET_NAME = "k2-offload-connections"


@pytest.fixture
def api(tmp_path, monkeypatch):
    with kubernetes_api(tmp_path) as api:
        set_up_runner(monkeypatch, "kubernetes", api.connection, "local[*]")
        options = PodOptions("k2-offload", "k2:test", SECRET_NAME)
        api.secrets[SECRET_NAME] = secret(options, job_connections(load_settings()))["data"]
        monkeypatch.setattr(tenacity.nap.time, "sleep", lambda _: None)  # between two tries of the client
        yield api


class Context(dict):
    """Airflow's, as far as the provider asks; keeps what is pushed."""

    def __init__(self):
        self.pushed = {}
        task = SimpleNamespace(dag_id="k2_offload_gold", task_id="offload", map_index=1, try_number=1)
        task.xcom_push = lambda key, value: self.pushed.update({key: value})
        super().__init__(ti=task, run_id="scheduled__2026-03-04T12:00:00+00:00", dag=SimpleNamespace())


@pytest.fixture
def task_of(tmp_path, monkeypatch):
    """Makes a task whose spark-submit is a script; its last argument is ``$last``."""

    def make(script):
        set_variables(monkeypatch, spark_binary=write_spark_submit(tmp_path, script))
        return with_runner(MaintainOperator)(task_id="maintain", execution_timeout=timedelta(seconds=600))

    return make


def test_the_application_gets_its_arguments_and_the_variables_of_its_pod_only(
    api, task_of, tmp_path, monkeypatch, caplog, capsys
):
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("ONLY_ON_THE_WORKER", "yes")
    set_variables(monkeypatch, kubernetes_jobs_folder="/in/the/image", spark_jars="/jars/a.jar,/jars/$(b).jar")
    task = task_of(f'printf "%s\\n" "$@" > {tmp_path}/arguments; env > {tmp_path}/environment; cat "$last"')
    context = Context()
    task.submit(context, "the plan", short=True)
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[arguments.index("--master") + 1] == "local[*]"
    assert arguments[arguments.index("--driver-class-path") + 1] == "/jars/a.jar:/jars/$(b).jar"
    assert arguments[-2] == "/in/the/image/maintain.py"
    variables = dict(line.split("=", 1) for line in (tmp_path / "environment").read_text().splitlines())
    assert variables.keys() - {"PWD", "SHLVL", "_", "OLDPWD"} == {
        "PATH", "PYSPARK_PYTHON", "PYSPARK_DRIVER_PYTHON", JobConnections.VARIABLE,
        JobConnections.SERVERS_VARIABLE, FORMAT_VARIABLE,
    }  # fmt: skip
    assert JobConnections.from_environment(variables).clickhouse.password == SECRET
    variables[JobConnections.SERVERS_VARIABLE] = "of other servers"
    with pytest.raises(ConfigurationError, match="leads to other servers"):
        JobConnections.from_environment(variables)
    log = capsys.readouterr().out + caplog.text
    assert "the plan" in log, "what the application says is in the task's log"
    rendered = repr([getattr(task, name) for name in task.template_fields])
    shown = [log, rendered, json.dumps(api.created[0].manifest), json.dumps(context.pushed), *arguments]
    assert SECRET not in "".join(shown)
    assert JobConnections.VARIABLE not in os.environ
    assert api.pods == {}


def test_the_pod_is_what_the_settings_and_the_template_say(api, task_of, tmp_path, monkeypatch):
    template = tmp_path / "pod.yaml"
    template.write_text(
        "kind: Pod\nmetadata: {name: other, annotations: {team: data}}\n"
        "spec: {nodeSelector: {disk: fast}, imagePullSecrets: [{name: registry}]}\n"
    )
    set_variables(
        monkeypatch, kubernetes_memory="2Gi", kubernetes_cpus="1500m", kubernetes_service_account="lake",
        kubernetes_pod_template=str(template),
    )  # fmt: skip
    task_of("true").submit(Context(), "{}", short=True)
    [created] = api.created
    spec, container = created.manifest["spec"], created.container
    assert created.name.startswith("k2-maintenance-")
    amounts = {"memory": "2Gi", "cpu": "1500m"}
    assert container["resources"] == {"limits": amounts, "requests": amounts}
    assert (spec["serviceAccountName"], spec["automountServiceAccountToken"]) == ("lake", False)
    assert (spec["restartPolicy"], spec["activeDeadlineSeconds"]) == ("Never", 600)
    assert (spec["nodeSelector"], spec["imagePullSecrets"]) == ({"disk": "fast"}, [{"name": "registry"}])
    assert created.manifest["metadata"]["annotations"]["team"] == "data"
    labels = created.manifest["metadata"]["labels"]
    assert labels["k2-offload"] == "k2-maintenance"
    assert all(len(value) <= 63 for value in labels.values())


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("kind: Pod\nspec: {nodeselector: {a: b}}", "spec.nodeselector is not known"),
        ("kind: Pod\nspec: {priority: high}", "which is not a pod: invalid literal"),
        ("kind: Pod\nspec: {hostNetwork: 'no'}", "spec.hostNetwork is 'no', of a wrong type"),
        ("kind: Pod\nspec: {containers: [{name: spark}]}", "whose one container is called base"),
        ("kind: Job\nspec: {}", "not a Pod"),
        ("[", "which is not a pod"),
        (None, "No such file"),
    ],
)
def test_a_template_that_is_no_pod_is_refused_and_nothing_is_started(api, task_of, tmp_path, monkeypatch, text, told):
    template = tmp_path / "pod.yaml"
    if text:
        template.write_text(text)
    set_variables(monkeypatch, kubernetes_pod_template=str(template))
    with pytest.raises(ConfigurationError, match=rf"kubernetes_pod_template is .*{told}"):
        task_of("true").submit(Context(), "{}", short=True)
    assert api.created == []


@pytest.mark.parametrize("code", [0, 3])
def test_what_the_application_reports_comes_back_also_when_it_fails(api, task_of, tmp_path, code, capsys):
    report = tmp_path / "report.json"
    task = task_of(f'echo "[1]" > "$last"; exit {code}')
    with pytest.raises(AirflowException, match="Exit code 3") if code else nullcontext():
        task.submit(Context(), "{}", short=False, report=report)
    assert report.read_text() == "[1]\n"
    assert "K2-OFFLOAD-REPORT H4s" not in capsys.readouterr().out, "which is gzip in base64"
    assert api.pods == {}


@pytest.mark.usefixtures("api")
def test_a_report_is_fetched_where_the_log_was_interrupted(task_of, tmp_path, monkeypatch):
    report = tmp_path / "report.json"
    task = task_of('echo "[1]" > "$last"')
    monkeypatch.setattr(task, "await_pod_completion", lambda **_: None)  # whose log nobody follows
    task.submit(Context(), "{}", short=False, report=report)
    assert report.read_text() == "[1]\n"


def test_a_failure_is_told_with_the_application_s_last_words(api, task_of, tmp_path):
    report = tmp_path / "report.json"
    with pytest.raises(AirflowException) as failed:
        task_of("echo starting; echo ERROR t: no such column >&2; exit 1").submit(
            Context(), "{}", short=True, report=report
        )
    assert "of k2-maintenance in image k2:test: Exit code 1. No row is lost" in str(failed.value)
    assert str(failed.value).splitlines()[-2:] == ["starting", "ERROR t: no such column"]
    assert SECRET not in str(failed.value)
    assert not report.exists()
    assert api.pods == {}


def test_a_pod_that_was_ended_for_its_memory_says_which_setting_helps(api, task_of):
    api.out_of_memory = True
    with pytest.raises(AirflowException, match=r"make \[k2_offload\] kubernetes_memory larger"):
        task_of("kill -9 $$").submit(Context(), "{}", short=True)


WAITING = {"name": "base", "image": "k2:test", "imageID": "", "ready": False, "restartCount": 0}


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (
            {
                "containerStatuses": [
                    WAITING | {"state": {"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}}
                ]
            },
            r"image cannot be pulled \(ErrImagePull\): manifest unknown\. Look at \[k2_offload\] kubernetes_image",
        ),
        (
            {
                "conditions": [
                    {
                        "type": "PodScheduled",
                        "status": "False",
                        "reason": "Unschedulable",
                        "message": "0/3 nodes are available: 3 Insufficient memory.",
                    }
                ]
            },
            r"No node takes it \(Unschedulable\): 0/3 nodes are available: 3 Insufficient memory\. Make",
        ),
        (
            {"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."},
            "Its node has evicted it: The node was low on resource: memory",
        ),
    ],
    ids=["image", "unschedulable", "evicted"],
)
def test_a_pod_that_does_not_begin_says_why(api, task_of, status, told):
    api.stuck = status
    task = task_of("echo began")
    task.execution_timeout = timedelta(seconds=4)
    with pytest.raises(AirflowException, match=told):
        task.submit(Context(), "{}", short=True)
    assert api.pods == {}


def test_a_secret_that_is_missing_is_told_with_the_command_that_writes_it(api, task_of):
    api.secrets.clear()
    task = task_of("echo began")
    task.execution_timeout = timedelta(seconds=4)
    with pytest.raises(AirflowException, match=f'secret "{SECRET_NAME}" not found.*k2 kubernetes-secret'):
        task.submit(Context(), "{}", short=True)
    assert api.pods == {}


def test_a_task_that_is_killed_ends_its_pod_at_once(api, task_of):
    task = task_of("trap '' TERM; echo began; while :; do sleep 60; done")
    api.when_said["began"] = task.on_kill
    with pytest.raises(AirflowException, match="was stopped before its end"):
        task.submit(Context(), "{}", short=True)
    assert api.created[0].process.returncode == -9
    assert api.pods == {}
    task.on_kill()  # Airflow calls it after a timeout, too, when all is over


def test_a_pod_that_could_not_be_removed_is_named(api, task_of, monkeypatch):
    task = task_of("echo began; while :; do sleep 60; done")
    log = Mock()
    monkeypatch.setattr(type(task), "log", log)

    def kill():
        api.refusals["DELETE pods/"] = (500, "etcd is busy")
        task.on_kill()
        api.created[0].remove()

    api.when_said["began"] = kill
    with pytest.raises(AirflowException, match="was stopped before its end"):
        task.submit(Context(), "{}", short=True)
    said = {call.args[0] % call.args[1:] for call in log.warning.call_args_list}
    [warning] = {each for each in said if "may still be there" in each}
    assert f"kubectl delete pod --namespace k2-offload {api.created[0].name}" in warning
    assert warning.endswith("Kubernetes says: etcd is busy")


@pytest.mark.parametrize("request_under_way", ["POST pods", "GET /version"])
def test_a_task_that_is_killed_before_its_pod_begins_leaves_none(api, task_of, request_under_way):
    task = task_of("sleep 60")
    if request_under_way == "POST pods":
        api.before[request_under_way] = task.on_kill
    else:
        build = task.build_pod_request_obj
        task.build_pod_request_obj = lambda context: (task.on_kill(), build(context))[1]
    with pytest.raises(AirflowException, match="was stopped before its end"):
        task.submit(Context(), "{}", short=True)
    assert len(api.created) == (request_under_way == "POST pods")
    assert api.pods == {}


def test_each_attempt_has_a_pod_of_its_own_and_leaves_a_forgotten_one_alone(api, task_of, tmp_path, monkeypatch):
    script = f"[ -e {tmp_path}/second ] || {{ touch {tmp_path}/second; exec sleep 60; }}"
    first = task_of(script)
    monkeypatch.setattr(first, "await_pod_completion", lambda **_: 1 / 0)
    api.refusals["DELETE pods/"] = (500, "a worker that has died removes nothing")
    with pytest.raises(ZeroDivisionError):
        first.submit(Context(), "{}", short=True)
    api.refusals.clear()
    task_of(script).submit(Context(), "{}", short=True)
    forgotten, removed = api.created
    assert forgotten.name != removed.name
    assert list(api.pods) == [forgotten.name]
    assert forgotten.manifest["spec"]["activeDeadlineSeconds"] == 600, "Kubernetes ends it"


def test_a_pod_whose_creation_was_not_heard_of_is_removed(api, task_of):
    api.lost_replies.add("POST pods")
    with pytest.raises(OffloadError, match=r"already exists|is not reachable"):
        task_of("sleep 60").submit(Context(), "{}", short=True)
    assert len(api.created) == 1
    assert api.pods == {}


def test_a_pod_that_somebody_removes_is_told_as_gone(api, task_of):
    task = task_of("echo began; exec sleep 60")
    api.when_said["began"] = lambda: api.pods.pop(api.created[0].name).remove()
    with pytest.raises(OffloadError, match="The pod is gone"):
        task.submit(Context(), "{}", short=True)


def test_a_right_that_is_missing_is_quoted_and_nothing_is_left(api, task_of):
    api.refusals["POST pods"] = (403, 'pods is forbidden: User "worker" cannot create resource "pods"')
    with pytest.raises(OffloadError, match=r"'unit_kubernetes'.*refused: pods is forbidden.*#rights-in-kubernetes"):
        task_of("true").submit(Context(), "{}", short=True)
    assert api.created == []


def test_a_server_that_is_away_is_told_with_its_connection(api, task_of):
    task = task_of("true")
    api.lost_replies.add("")
    with pytest.raises(Unreachable, match="API server of Kubernetes is not reachable through Airflow connection 'unit"):
        task.submit(Context(), "{}", short=True)
    assert api.created[0].name not in api.pods


@pytest.mark.usefixtures("api")
def test_a_cluster_that_a_pod_does_not_know_is_refused(task_of, monkeypatch):
    set_connection(monkeypatch, "spark", conn_type="spark", host="yarn")
    with pytest.raises(ConfigurationError, match="names master yarn"):
        task_of("true").submit(Context(), "{}", short=True)
