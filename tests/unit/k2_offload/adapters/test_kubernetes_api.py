"""What `k2 validate` finds of Kubernetes, by a fake of its API, and the Secret that `k2 kubernetes-secret` prints."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from k2_offload.adapters.connections import job_connections
from k2_offload.adapters.kubernetes_api import pod_options
from k2_offload.adapters.settings import Settings, load_settings
from k2_offload.cli.main import app
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.pods import secret
from k2_offload.work.validate import check_services
from tests.support.kubernetes_api import kubernetes_api

SETTINGS = {
    "runner": "kubernetes",
    "kubernetes_image": "k2:test",
    "kubernetes_conn_id": "unit_kubernetes",
    "spark_conn_id": "unit_spark",
    "clickhouse_conn_id": "unit_clickhouse",
    "catalog_conn_id": "unit_iceberg",
}
NAME = Settings.kubernetes_secret


@pytest.fixture
def api(tmp_path, monkeypatch):
    with kubernetes_api(tmp_path) as api:
        for name, fields in {
            "kubernetes": api.connection,
            "spark": {"conn_type": "spark", "host": "local[*]"},
            "clickhouse": {"conn_type": "clickhouse", "host": "127.0.0.1", "port": 1, "password": "a-password"},
            "iceberg": {"conn_type": "iceberg", "host": "http://127.0.0.1:1"},
        }.items():
            monkeypatch.setenv(f"AIRFLOW_CONN_UNIT_{name.upper()}", json.dumps(fields))
        settings = Settings(**SETTINGS)
        api.secrets[NAME] = secret(pod_options(settings), job_connections(settings))["data"]
        yield api


def found(**changes):
    """What the checks of the runner say, by subject; the services before them are not there."""
    checks = {check.subject: check for check in check_services(Settings(**SETTINGS | changes), [])}
    assert not {"Java", "spark-submit", "Spark jars"} & checks.keys(), "nothing of Spark has to be on the worker"
    subjects = ("Kubernetes", "Pods", "Secret", "Spark connection")
    return {subject: (checks[subject].passed, checks[subject].detail) for subject in subjects}


def test_a_cluster_that_has_all_is_found_and_nothing_is_made(api):
    told = found(kubernetes_memory="2Gi", kubernetes_cpus="2")
    assert all(passed for passed, _ in told.values()), told
    assert told["Kubernetes"][1] == f"version fake at http://127.0.0.1:{api.server_port}"
    assert told["Pods"][1] == "k2:test would be accepted in namespace k2-offload; 2 CPUs, 2Gi memory"
    assert told["Secret"][1] == f"{NAME} holds what the connections say"
    assert "POST pods dryRun" in api.requests
    assert api.created == []
    assert "a-password" not in repr(told)


@pytest.mark.parametrize(
    ("subject", "changes", "words"),
    [
        ("Kubernetes", {"kubernetes_conn_id": "not_there"}, "'not_there' does not exist"),
        ("Kubernetes", {"kubernetes_conn_id": "unit_spark"}, "'unit_spark' does not say where Kubernetes is"),
        ("Pods", {"kubernetes_image": ""}, "kubernetes_image is"),
        ("Pods", {"kubernetes_pod_template": "/none/such"}, "kubernetes_pod_template is"),
        ("Secret", {"kubernetes_secret": "other"}, "no Secret 'other' in namespace 'k2-offload'"),
        ("Secret", {"lake_collection": "other"}, "does not hold what Airflow's connections and settings say now"),
        ("Spark connection", {"spark_conn_id": "not_there"}, "'not_there' does not exist"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("api")
def test_what_is_missing_is_told_under_its_name(subject, changes, words, monkeypatch):
    monkeypatch.setenv("KUBECONFIG", "/none/such")
    passed, detail = found(**changes)[subject]
    assert not passed
    assert words in detail


def test_a_pod_that_the_cluster_would_not_take_is_told_before_a_task_fails(api):
    api.refusals["POST pods dryRun"] = (403, 'pods "k2-validate-0" is forbidden: exceeded quota: team')
    passed, detail = found()["Pods"]
    assert not passed
    assert "exceeded quota: team" in detail


def test_rights_that_a_task_needs_later_are_missed_now(api):
    api.not_granted = {"delete pods", "get pods/log"}
    passed, detail = found()["Pods"]
    assert not passed
    assert "may not delete pods, get pods/log in namespace 'k2-offload'" in detail


def test_a_secret_that_may_not_be_read_is_no_fault(api):
    api.refusals["GET secrets/"] = (403, "secrets is forbidden")
    assert found()["Secret"] == (True, f"{NAME}: not looked at, this connection may not read it")


def test_a_token_that_is_not_accepted_is_told(api):
    api.refusals["GET /version"] = (401, "Unauthorized")
    passed, detail = found()["Kubernetes"]
    assert not passed
    assert "refused: Unauthorized" in detail
    assert "token or certificate" in detail


def test_a_folder_of_jobs_is_a_path_in_the_image():
    with pytest.raises(ConfigurationError, match="kubernetes_jobs_folder is 'jobs', not an absolute path"):
        pod_options(Settings(**SETTINGS | {"kubernetes_jobs_folder": "jobs"}))


@pytest.mark.usefixtures("api")
def test_the_command_prints_the_secret_that_the_checks_want(api, monkeypatch):
    for name, value in SETTINGS.items():
        monkeypatch.setenv(f"AIRFLOW__K2_OFFLOAD__{name.upper()}", value)
    done = CliRunner().invoke(app, ["kubernetes-secret"])
    printed = json.loads(done.stdout)
    assert printed["metadata"] == {"name": NAME, "namespace": "k2-offload"}
    api.secrets[NAME] = printed["data"]
    assert found()["Secret"][0]
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__RUNNER", "docker")
    assert load_settings().runner == "docker"
    refused = CliRunner().invoke(app, ["kubernetes-secret"])
    assert (refused.exit_code, refused.stdout) == (1, "")
