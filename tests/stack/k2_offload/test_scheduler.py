"""Runs by the real scheduler, started and cleared as the UI does it: through Airflow's API."""

from __future__ import annotations

import http.client
import json
import subprocess
import time

import psycopg
import pytest

from embedded.stack import StackSettings, airflow_home, down, up
from embedded.stack.secrets import Secrets
from embedded.stack.settings import HOST
from tests.support import SharedStack, free_stack_ports

LAYERS = ("bronze", "silver", "gold")


class Api:
    """Airflow's REST API, signed in as the UI's user."""

    def __init__(self, settings: StackSettings) -> None:
        self._port = settings.ports.airflow
        self._headers = {"Content-Type": "application/json"}
        password = Secrets.load_or_make(settings.state).airflow_password
        token = self.call("POST", "/auth/token", {"username": airflow_home.UI_USER, "password": password})
        self._headers["Authorization"] = f"Bearer {token['access_token']}"

    def call(self, method: str, path: str, body: object = None) -> dict:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=30)
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=self._headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status < 300, text
        return json.loads(text)

    def wait_for(self, dag: str, run_id: str) -> None:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            state = self.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run_id}")["state"]
            if state in ("success", "failed"):
                assert state == "success", f"{dag} {run_id}"
                return
            time.sleep(0.2)
        pytest.fail(f"{dag} {run_id} did not end within three minutes")


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory, session_settings):
    """A stack of its own, with Airflow's processes and some trades."""
    state = tmp_path_factory.mktemp("scheduler").resolve()
    settings = StackSettings(state, free_stack_ports(), session_settings.clickhouse_version)
    up(settings)
    try:
        stack = SharedStack(settings, Secrets.load_or_make(state))
        trade(stack, "--seed", "3", "--starting-ago", "1200", "--for", "600")
        yield stack
    finally:
        down(settings)


def trade(stack: SharedStack, *options: str) -> None:
    port = str(stack.settings.ports.clickhouse_native)
    command = ["k2", "feed", "generate", "--rate", "20", "--port", port, *options]
    sent = subprocess.run(command, env=stack.environment, capture_output=True, text=True, check=False)
    assert sent.returncode == 0, sent.stderr


def verify(stack: SharedStack) -> list[dict]:
    command = ["k2", "verify", "--json"]
    return json.loads(subprocess.run(command, env=stack.environment, stdout=subprocess.PIPE, check=False).stdout)


def test_a_run_moves_the_rows_and_clearing_all_its_tasks_changes_none(scheduled):
    api = Api(scheduled.settings)
    runs = {}
    for layer in LAYERS:
        dag = f"k2_offload_{layer}"
        runs[dag] = api.call("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None})["dag_run_id"]
        api.wait_for(dag, runs[dag])
    before = verify(scheduled)
    assert [line for line in before if not line["equal"]] == []
    assert sum(line["cold_rows"] for line in before) > 20_000

    events = api.call("GET", "/api/v2/assets/events")["asset_events"]
    [event] = [event for event in events if event["name"] == "k2/cold.silver_trades"]
    [silver] = [line for line in before if line["table"] == "silver_trades"]
    assert (event["extra"]["rows"], event["extra"]["high"]) == (silver["cold_rows"], silver["high"])
    assert int(event["extra"]["snapshot_id"]) > 0

    for dag, run_id in runs.items():
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
        cleared = api.call("POST", f"/api/v2/dags/{dag}/clearTaskInstances", body)["task_instances"]
        assert {"plan", "commit"} <= {task["task_id"] for task in cleared}
        api.wait_for(dag, run_id)
    assert verify(scheduled) == before


def test_an_old_run_cleared_and_a_dag_tested_beside_a_new_run_double_nothing(scheduled):
    api = Api(scheduled.settings)
    dag = "k2_offload_bronze"
    [old, *_] = [run["dag_run_id"] for run in api.call("GET", f"/api/v2/dags/{dag}/dagRuns")["dag_runs"]]
    before = {line["table"]: line["cold_rows"] for line in verify(scheduled)}
    trade(scheduled, "--seed", "4", "--starting-ago", "590", "--for", "280")
    new = api.call("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None})["dag_run_id"]
    beside = subprocess.Popen(
        ["airflow", "dags", "test", dag], env=scheduled.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    body = {"dry_run": False, "dag_run_id": old, "only_failed": False, "reset_dag_runs": True}
    api.call("POST", f"/api/v2/dags/{dag}/clearTaskInstances", body)
    output, _ = beside.communicate(timeout=180)
    assert beside.returncode == 0, output.decode()
    for run_id in (new, old):
        api.wait_for(dag, run_id)
    after = verify(scheduled)
    assert [line["table"] for line in after if not line["equal"]] == []
    grown = {line["table"] for line in after if line["cold_rows"] > before[line["table"]]}
    assert {"bronze_trades_binance", "bronze_trades_kraken"} <= grown


def test_layers_that_the_schedule_starts_together_run_one_after_the_other(scheduled):
    api = Api(scheduled.settings)
    dags = [f"k2_offload_{layer}" for layer in LAYERS]
    # The API starts manual runs only; those wait for no other layer.
    starter = ("python", "-m", "embedded.stack.start_runs")
    command = [*starter, "together", "2026-01-01T00:15:00+00:00", "{}", *dags]
    subprocess.run(command, env=scheduled.environment, check=True, capture_output=True)
    ended = {}
    for dag, below in zip(dags, [None, *dags], strict=False):
        api.wait_for(dag, "together")
        tasks = api.call("GET", f"/api/v2/dags/{dag}/dagRuns/together/taskInstances")["task_instances"]
        # What was skipped has no end.
        ended[dag] = max(task["end_date"] or "" for task in tasks if task["task_id"] == "offload")
        [plan] = [task for task in tasks if task["task_id"] == "plan"]
        assert below is None or ended[below] < plan["start_date"]


def test_no_secret_reaches_a_log_an_xcom_or_a_rendered_field(scheduled):
    secrets = Secrets.load_or_make(scheduled.settings.state)
    logs = [path for path in scheduled.settings.state.rglob("*.log") if path.is_file()]
    assert any("Spark-Submit cmd" in path.read_text(errors="replace") for path in logs)
    assert [str(path) for path in logs if secrets.postgres_password in path.read_text(errors="replace")] == []
    with psycopg.connect(scheduled.ledger_dsn) as connection:
        for table, column in (("xcom", "value"), ("rendered_task_instance_fields", "rendered_fields")):
            query = f"SELECT count(*) FROM {table} WHERE {column}::text LIKE %s"
            found = connection.execute(query, (f"%{secrets.postgres_password}%",)).fetchone()
            assert found == (0,)
            assert connection.execute(f"SELECT count(*) > 0 FROM {table}").fetchone() == (True,)
