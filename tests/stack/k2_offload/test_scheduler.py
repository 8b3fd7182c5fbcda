"""Runs by the real scheduler, started and cleared as the UI does it: through Airflow's API."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime

import psycopg
import pytest

from embedded.stack import StackSettings, airflow_home, airflow_services, down, up
from embedded.stack.processes import STACK_VARIABLE, find_marked, start_moment, wait_until
from embedded.stack.secrets import Secrets
from embedded.stack.settings import HOST
from tests.support import SharedStack, free_stack_ports
from tests.support.collector import Collector

LAYERS = ("bronze", "silver", "gold")
DAGS = [f"k2_offload_{layer}" for layer in LAYERS]
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")
KILLS = int(os.environ.get("K2_KILLS", "1"))
KILL_SEED = int(os.environ.get("K2_KILL_SEED", "20261126"))


class Api:
    """Airflow's REST API, signed in as the UI's user."""

    def __init__(self, settings: StackSettings) -> None:
        self._port = settings.ports.airflow
        self._headers = {"Content-Type": "application/json"}
        password = Secrets.load_or_make(settings.state).airflow_password
        token = self.call("POST", "/auth/token", {"username": airflow_home.UI_USER, "password": password})
        self._headers["Authorization"] = f"Bearer {token['access_token']}"

    def call(self, method: str, path: str, body: object = None) -> dict:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=120)
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=self._headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        assert answer.status < 300, text
        return json.loads(text)

    def wait_for(self, dag: str, run_id: str, expected: str = "success") -> None:
        deadline = time.monotonic() + 180
        while time.monotonic() < deadline:
            state = self.call("GET", f"/api/v2/dags/{dag}/dagRuns/{run_id}")["state"]
            if state in ("success", "failed"):
                assert state == expected, f"{dag} {run_id}"
                return
            time.sleep(0.2)
        pytest.fail(f"{dag} {run_id} did not end within three minutes")


WEBHOOK_SECRET = "scheduler-s-webhook-path"


@pytest.fixture(scope="module")
def webhook():
    """Is told of failures."""
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def scheduled(tmp_path_factory, session_settings, webhook):
    """A stack of its own, with Airflow's processes and some trades; its lines are JSON, its failures are told."""
    state = tmp_path_factory.mktemp("scheduler").resolve()
    settings = StackSettings(state, free_stack_ports(), session_settings.clickhouse_version)
    connection = {"conn_type": "http", "host": webhook.url, "password": WEBHOOK_SECRET}
    chosen = {
        "AIRFLOW__K2_OFFLOAD__LOG_FORMAT": "json",
        "AIRFLOW__K2_OFFLOAD__NOTIFY_CONN_ID": "webhook",
        "AIRFLOW_CONN_WEBHOOK": json.dumps(connection),
    }
    usual = airflow_services.own_variables
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(airflow_services, "own_variables", lambda of: usual(of) | chosen)
        up(settings)
        try:
            yield SharedStack(settings, Secrets.load_or_make(state))
        finally:
            down(settings)


@pytest.fixture(scope="module")
def market(scheduled):
    market = Market(scheduled)
    market.trade_until(700)
    return market


class Market:
    """Trades on both exchanges, without a gap."""

    def __init__(self, stack: SharedStack) -> None:
        self._stack = stack
        self._start = self._until = time.time() - 1300

    def trade_until(self, ago_seconds: int) -> None:
        now = time.time()
        self._trade(round(now - self._until), ago_seconds)
        self._until = now - ago_seconds

    def trade_late(self) -> list[str]:
        """Trades of before the first watermark; returns the days that they may be of."""
        late = self._start + 300
        ago = round(time.time() - late)
        self._trade(ago, ago - 1)
        return sorted({f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}" for at in (late - 100, late + 100)})

    def _trade(self, begin: int, end: int) -> None:
        port = str(self._stack.settings.ports.clickhouse_native)
        span = ["--starting-ago", str(begin), "--for", str(begin - end)]
        command = ["k2", "feed", "generate", "--rate", "20", "--port", port, "--seed", str(begin), *span]
        sent = subprocess.run(command, env=self._stack.environment, capture_output=True, text=True, check=False)
        assert sent.returncode == 0, sent.stderr


def k2(stack: SharedStack, *arguments: str) -> list[dict]:
    command = ["k2", *arguments, "--json"]
    return json.loads(subprocess.run(command, env=stack.environment, stdout=subprocess.PIPE, check=False).stdout)


def verify(stack: SharedStack) -> list[dict]:
    return k2(stack, "verify")


def start_together(stack: SharedStack, run_id: str, logical_date: str) -> None:
    """As the schedule does it; the API starts manual runs only, and those wait for no other layer."""
    command = ["python", "-m", "embedded.stack.start_runs", run_id, logical_date, "{}", *DAGS]
    subprocess.run(command, env=stack.environment, check=True, capture_output=True)


@pytest.mark.usefixtures("market")
def test_a_run_moves_the_rows_and_clearing_all_its_tasks_changes_none(scheduled):
    api = Api(scheduled.settings)
    runs = {}
    for dag in DAGS:
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


def test_an_old_run_cleared_and_a_dag_tested_beside_a_new_run_double_nothing(scheduled, market):
    api = Api(scheduled.settings)
    dag = "k2_offload_bronze"
    [old, *_] = [run["dag_run_id"] for run in api.call("GET", f"/api/v2/dags/{dag}/dagRuns")["dag_runs"]]
    before = {line["table"]: line["cold_rows"] for line in verify(scheduled)}
    market.trade_until(450)
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
    start_together(scheduled, "together", "2026-01-01T00:15:00+00:00")
    ended = {}
    for dag, below in zip(DAGS, [None, *DAGS], strict=False):
        api.wait_for(dag, "together")
        tasks = api.call("GET", f"/api/v2/dags/{dag}/dagRuns/together/taskInstances")["task_instances"]
        # What was skipped has no end.
        ended[dag] = max(task["end_date"] or "" for task in tasks if task["task_id"] == "offload")
        [plan] = [task for task in tasks if task["task_id"] == "plan"]
        assert below is None or ended[below] < plan["start_date"]


def test_heals_and_rewrites_are_told_as_windows_are(scheduled, market):
    api = Api(scheduled.settings)
    one = {"tables": ["bronze_trades_kraken"]}
    for dag, conf in (
        ("k2_reconcile", {"days": market.trade_late()}),
        ("k2_maintenance", one),
        ("k2_backfill", one),
    ):
        body = {"logical_date": None, "conf": conf}
        api.wait_for(dag, api.call("POST", f"/api/v2/dags/{dag}/dagRuns", body)["dag_run_id"])
    assert [line for line in verify(scheduled) if not line["equal"]] == []
    events = api.call("GET", "/api/v2/assets/events?limit=1000")["asset_events"]
    kinds = {(event["name"], event["extra"]["kind"], event["source_task_id"]) for event in events}
    assert {("k2/cold.silver_trades", "heal", "heal"), ("k2/cold.silver_trades", "window", "commit")} <= kinds


def test_no_secret_reaches_a_log_an_xcom_or_a_rendered_field(scheduled):
    """Of cycles, a heal and maintenance: neither the tasks' logs nor those of services, nor Spark's whole ones."""
    secrets = [WEBHOOK_SECRET, *asdict(Secrets.load_or_make(scheduled.settings.state)).values()]
    logs = {path: path.read_text(errors="replace") for path in scheduled.settings.state.rglob("*.log")}
    of_tasks = [text for path, text in logs.items() if path.name.startswith("attempt=") and "spark" not in path.name]
    for task in ("Spark-Submit cmd", "offload.py", "maintain.py", r"\"phase\": \"publish\"", r"\"phase\": \"heal\""):
        assert any(task in text for text in of_tasks), task
    whole = [text for path, text in logs.items() if path.name.endswith(".spark.log")]
    assert any(" INFO org.apache.spark.SparkContext" in text for text in whole)
    assert [str(path) for path, text in logs.items() if any(secret in text for secret in secrets)] == []
    with psycopg.connect(scheduled.ledger_dsn) as connection:
        for table, column in (("xcom", "value"), ("rendered_task_instance_fields", "rendered_fields")):
            query = f"SELECT count(*) FROM {table} WHERE {column}::text LIKE ANY(%s)"
            found = connection.execute(query, ([f"%{secret}%" for secret in secrets],)).fetchone()
            assert found == (0,)
            assert connection.execute(f"SELECT count(*) > 0 FROM {table}").fetchone() == (True,)


def test_one_red_table_holds_back_what_is_made_of_it_and_stops_no_layer(scheduled, market, webhook):
    api = Api(scheduled.settings)
    market.trade_until(320)
    with renamed(scheduled, "bronze_trades_kraken", "raw_message"):
        start_together(scheduled, "red", "2026-01-01T00:30:00+00:00")
        api.wait_for("k2_offload_bronze", "red", "failed")
        for dag in DAGS[1:]:
            api.wait_for(dag, "red")
        tables = {line["table"]: line for line in k2(scheduled, "status")}
    red, green, silver = (tables[name] for name in ("bronze_trades_kraken", "bronze_trades_binance", "silver_trades"))
    # Silver's last row below the red table's watermark may be an older one.
    assert silver["watermark"] <= red["watermark"] < green["watermark"]
    assert red["status"] == "failed"
    assert wait_until(lambda: len(webhook.posted) > 0, 60)
    [(path, _, told)] = webhook.posted
    assert path == f"/{WEBHOOK_SECRET}"
    assert told["text"].startswith("k2_offload_bronze has failed (task_failure), run red. bronze_trades_kraken: ")
    assert told["text"].endswith("What to do: docs/runbooks/offload-failure.md")


@contextlib.contextmanager
def renamed(stack: SharedStack, table: str, column: str) -> Iterator[None]:
    with stack.clickhouse_client() as client:
        client.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO renamed")
        try:
            yield
        finally:
            client.execute(f"ALTER TABLE {table} RENAME COLUMN renamed TO {column}")


def kill_airflow(stack: SharedStack) -> None:
    """All of it at once: the services, their workers, the tasks, and the Spark job that one of them has started."""

    def find() -> list[int]:
        stack_processes = {STACK_VARIABLE: str(stack.settings.state)}
        return [pid for name in AIRFLOW for pid in find_marked({**stack_processes, "K2_STACK_SERVICE": name})]

    while pids := find():
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda killed=pids: not any(map(start_moment, killed)), 30)


@pytest.mark.parametrize("kill", range(KILLS))
def test_after_all_of_airflow_was_killed_the_window_is_published_within_three_minutes(scheduled, market, kill, capsys):
    """At a random moment, in each kill of another part of the cycle; ``K2_KILLS`` kills it more often."""
    moment = ((3 * kill + 1) % 5 + random.Random(KILL_SEED + kill).random()) * 4  # noqa: S311 - a seed for the repeat
    before = {line["table"]: line["cold_rows"] for line in verify(scheduled)}
    market.trade_until(305)
    run_id = f"killed-{kill}"
    start_together(scheduled, run_id, f"2026-02-01T{kill // 4:02}:{kill % 4 * 15:02}:00+00:00")
    time.sleep(moment)
    kill_airflow(scheduled)
    up(scheduled.settings)
    healthy = time.monotonic()
    api = Api(scheduled.settings)
    for dag in DAGS:
        api.wait_for(dag, run_id)
    seconds = time.monotonic() - healthy
    with capsys.disabled():
        print(f"\nkilled {moment:.1f} s after the runs had been started: published {seconds:.0f} s after the restart")
    assert seconds < 180
    after = verify(scheduled)
    assert [line["table"] for line in after if not line["equal"]] == []
    grown = {line["table"] for line in after if line["cold_rows"] > before[line["table"]]}
    assert {"bronze_trades_binance", "silver_trades"} <= grown
