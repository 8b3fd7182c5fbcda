"""What `k2 validate` finds of a Docker engine, and which of its settings are refused."""

from __future__ import annotations

import json

import pytest

from k2_offload.adapters.docker_engine import container_options
from k2_offload.adapters.settings import Settings
from k2_offload.core.errors import ConfigurationError
from k2_offload.work.validate import check_services
from tests.support.container_engine import container_engine

SETTINGS = {
    "runner": "docker",
    "docker_image": "k2:test",
    "docker_conn_id": "unit_docker",
    "spark_conn_id": "unit_spark",
}


@pytest.fixture
def engine(tmp_path, monkeypatch):
    with container_engine(tmp_path) as engine:
        monkeypatch.setenv("AIRFLOW_CONN_UNIT_DOCKER", json.dumps({"conn_type": "docker", "host": engine.url}))
        monkeypatch.setenv("AIRFLOW_CONN_UNIT_SPARK", json.dumps({"conn_type": "spark", "host": "local[2]"}))
        yield engine


def found(**changes):
    """What the checks of the runner say, by subject; the services before them are not there."""
    checks = {check.subject: check for check in check_services(Settings(**SETTINGS | changes))}
    assert not {"Java", "spark-submit", "Spark jars"} & checks.keys(), "nothing of Spark has to be on the worker"
    subjects = ("Docker engine", "Docker image", "Containers", "Spark connection")
    return {subject: (checks[subject].passed, checks[subject].detail) for subject in subjects}


def test_an_engine_that_has_all_is_found_and_nothing_is_made(engine):
    told = found(docker_network="host", docker_memory="2g", docker_cpus="2", docker_mounts="/srv/lake:/srv/lake")
    assert all(passed for passed, _ in told.values()), told
    assert told["Docker engine"][1] == f"version stand-in at {engine.url}"
    assert told["Containers"][1] == "network host, 1 mounts, 2 CPUs, 2048 MiB"
    assert {request.partition(" ")[0] for request in engine.requests} == {"GET"}


@pytest.mark.parametrize(
    ("subject", "changes", "words"),
    [
        ("Docker image", {"docker_image": "k2:other"}, "has no image 'k2:other'"),
        (
            "Containers",
            {"docker_network": "none-such"},
            "docker_network is 'none-such', which the Docker engine has not",
        ),
        ("Spark connection", {"spark_conn_id": "not_there"}, "'not_there' does not exist"),
        ("Docker engine", {"docker_conn_id": "not_there"}, "'not_there' does not exist"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.usefixtures("engine")
def test_what_is_missing_is_told_under_its_name(subject, changes, words):
    passed, detail = found(**changes)[subject]
    assert not passed
    assert words in detail


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("docker_image", ""),
        ("docker_jobs_folder", "include/spark_jobs"),
        ("docker_mounts", "/srv/warehouse"),
        ("docker_mounts", "/srv/warehouse:relative"),
        ("docker_mounts", "/a:/b:rw"),
        ("docker_memory", "much"),
        ("docker_cpus", "two"),
        ("docker_cpus", "-1"),
        ("docker_cpus", "0"),
        ("docker_cpus", "nan"),
        ("docker_cpus", "inf"),
    ],
)
def test_a_setting_that_means_nothing_is_refused_with_its_name(setting, value):
    with pytest.raises(ConfigurationError, match=f"{setting} is .*k2 validate"):
        container_options(Settings(**SETTINGS | {setting: value}))
