"""What `k2 validate` finds of a Docker engine, and which of its settings are refused."""

from __future__ import annotations

import json
import socket
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from k2_offload.adapters.docker_engine import container_options, open_engine
from k2_offload.adapters.settings import Settings
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.limits import SILENCE_SECONDS
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
    checks = {check.subject: check for check in check_services(Settings(**SETTINGS | changes), [])}
    assert not {"Java", "spark-submit", "Spark jars"} & checks.keys(), "nothing of Spark has to be on the worker"
    subjects = ("Docker engine", "Docker image", "Containers", "Spark connection")
    return {subject: (checks[subject].passed, checks[subject].detail) for subject in subjects}


def test_an_engine_that_has_all_is_found_and_nothing_is_made(engine):
    told = found(docker_network="host", docker_memory="2g", docker_cpus="2", docker_mounts="/srv/lake:/srv/lake")
    assert all(passed for passed, _ in told.values()), told
    assert told["Docker engine"][1] == f"version stand-in at {engine.url}"
    assert told["Containers"][1] == "network host, 1 mounts, 2 CPUs, 2048 MiB"
    assert {request.partition(" ")[0] for request in engine.requests} == {"GET"}


class Version(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = json.dumps({"ApiVersion": "1.47", "Version": "stand-in"}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def test_a_machine_that_vanishes_is_noticed_although_a_container_may_run_for_long(monkeypatch):
    connected = []
    real = socket.create_connection
    with ThreadingHTTPServer(("127.0.0.1", 0), Version) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        address = {"conn_type": "docker", "host": f"tcp://127.0.0.1:{server.server_port}"}
        monkeypatch.setenv("AIRFLOW_CONN_UNIT_DOCKER", json.dumps(address))

        def keep(*args, **named):
            options = named.pop("socket_options", None) or []
            made = real(*args)
            for option in options:
                made.setsockopt(*option)
            connected.append(made)
            return made

        monkeypatch.setattr("urllib3.connection.connection.create_connection", keep)
        with closing(open_engine(Settings(**SETTINGS))) as client:
            client.version()
            last = connected[-1]
            assert last.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            waits = [last.getsockopt(socket.IPPROTO_TCP, each) for each in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL)]
            assert max(waits) * 4 <= SILENCE_SECONDS
        server.shutdown()


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
