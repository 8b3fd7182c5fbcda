"""Airflow's processes, and runs by the real scheduler, started and cleared as the UI does it: through Airflow's API."""

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

from embedded.stack import StackSettings, airflow_home, airflow_services, down, status, up
from embedded.stack.processes import STACK_VARIABLE, find_marked, start_moment, wait_until
from embedded.stack.secrets import Secrets
from embedded.stack.settings import HOST
from tests.support import SharedStack, free_stack_ports
from tests.support.collector import Collector
from tests.support.commands import connection_variables, run_k2

LAYERS = ("bronze", "silver", "gold")
DAGS = [f"k2_offload_{layer}" for layer in LAYERS]
AIRFLOW = ("api-server", "scheduler", "dag-processor", "triggerer")
KILLS = int(os.environ.get("K2_KILLS", "1"))
KILL_SEED = int(os.environ.get("K2_KILL_SEED", "20261126"))


class Airflow:
    """Airflow's REST API, signed in as the UI's user; what is asked many times a second is read from its database."""

    def __init__(self, stack: SharedStack, database: psycopg.Connection) -> None:
        self._port = stack.settings.ports.airflow
        self._database = database
        self._headers = {"Content-Type": "application/json"}
        status, answer = self.request("POST", "/auth/token", login(stack))
        assert status == http.HTTPStatus.CREATED
        self._headers["Authorization"] = f"Bearer {json.loads(answer)['access_token']}"

    def request(self, method: str, path: str, body: object = None, *, signed_in: bool = True) -> tuple[int, str]:
        connection = http.client.HTTPConnection(HOST, self._port, timeout=120)
        headers = self._headers if signed_in else {"Content-Type": "application/json"}
        connection.request(method, path, body=None if body is None else json.dumps(body), headers=headers)
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def call(self, method: str, path: str, body: object = None) -> dict:
        status, text = self.request(method, path, body)
        assert status < 300, text
        return json.loads(text)

    def start(self, dag: str, **conf: object) -> str:
        """Start a manual run; returns its id."""
        return self.call("POST", f"/api/v2/dags/{dag}/dagRuns", {"logical_date": None, "conf": conf})["dag_run_id"]

    def clear(self, dag: str, run_id: str) -> set[str]:
        """Clear all tasks of a run; returns their ids."""
        body = {"dry_run": False, "dag_run_id": run_id, "only_failed": False, "reset_dag_runs": True}
        cleared = self.call("POST", f"/api/v2/dags/{dag}/clearTaskInstances", body)["task_instances"]
        return {task["task_id"] for task in cleared}

    def known_dags(self) -> set[str]:
        return {dag for (dag,) in self._database.execute("SELECT dag_id FROM serialized_dag")}

    def wait_for(self, dag: str, run_id: str, expected: str = "success") -> None:
        query = "SELECT state FROM dag_run WHERE dag_id = %s AND run_id = %s"

        def state() -> str:
            return self._database.execute(query, (dag, run_id)).fetchone()[0]

        in_time = wait_until(lambda: state() in ("success", "failed"), 180, poll_seconds=0.1)
        assert in_time, f"{dag} {run_id} did not end within three minutes"
        assert state() == expected, f"{dag} {run_id}"


def login(stack: SharedStack) -> dict[str, str]:
    password = Secrets.load_or_make(stack.settings.state).airflow_password
    return {"username": airflow_home.UI_USER, "password": password}


WEBHOOK_SECRET = "scheduler-s-webhook-path"


@pytest.fixture(scope="module")
def webhook():
    """Is told of failures."""
    with Collector() as collector:
        yield collector


@pytest.fixture(scope="module")
def servers(tmp_path_factory, session_settings):
    """A stack of its own, still without Airflow's processes."""
    state = tmp_path_factory.mktemp("scheduler").resolve()
    settings = StackSettings(state, free_stack_ports(), session_settings.clickhouse_version)
    up(settings, airflow=False)
    try:
        yield SharedStack(settings, Secrets.load_or_make(state))
    finally:
        down(settings)


@pytest.fixture(scope="module")
def market(servers):
    market = Market(servers)
    market.trade_until(700)
    return market


@pytest.fixture(scope="module")
def scheduled(servers, market, webhook):  # noqa: ARG001
    """The same with Airflow, which finds some trades; its lines are JSON, its failures are told."""
    connection = {"conn_type": "http", "host": webhook.url, "password": WEBHOOK_SECRET}
    chosen = {
        # Runs are those that tests start.
        "AIRFLOW__K2_OFFLOAD__SCHEDULE": "0 0 1 1 *",
        "AIRFLOW__K2_OFFLOAD__LOG_FORMAT": "json",
        "AIRFLOW__K2_OFFLOAD__NOTIFY_CONN_ID": "webhook",
        "AIRFLOW_CONN_WEBHOOK": json.dumps(connection),
    }
    usual = airflow_services.own_variables
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(airflow_services, "own_variables", lambda of: usual(of) | chosen)
        up(servers.settings)
        yield servers


@pytest.fixture(scope="module")
def airflow(scheduled):
    with psycopg.connect(scheduled.ledger_dsn, autocommit=True) as database:
        airflow = Airflow(scheduled, database)
        assert wait_until(lambda: airflow.known_dags() >= set(DAGS), 120)
        yield airflow


@pytest.fixture(scope="module")
def first_runs(scheduled, airflow):
    """Runs of all layers that were started together, all of them green: their ids by DAG."""
    start_together(scheduled, "together", "2026-01-01T00:15:00+00:00")
    for dag in DAGS:
        airflow.wait_for(dag, "together")
    return dict.fromkeys(DAGS, "together")


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
        sent = run_k2("feed", "generate", "--rate", "20", "--port", port, "--seed", str(begin), *span)
        assert sent.exit_code == 0, sent.output


def verify(stack: SharedStack) -> list[dict]:
    connections = airflow_home.connections(stack.settings, stack.secrets)
    sides = {"LEDGER": "k2_ledger", "CLICKHOUSE": "k2_clickhouse", "CATALOG": "k2_iceberg"}
    environment = connection_variables({side: connections[name] for side, name in sides.items()})
    said = run_k2("verify", "--json", environment=environment)
    assert said.stdout, said.stderr
    return json.loads(said.stdout)


def start_together(stack: SharedStack, run_id: str, logical_date: str) -> None:
    """As the schedule does it; the API starts manual runs only, and those wait for no other layer."""
    command = ["python", "-m", "embedded.stack.start_runs", run_id, logical_date, "{}", *DAGS]
    subprocess.run(command, env=stack.environment, check=True, capture_output=True)


def test_every_service_is_up(scheduled):
    assert {each.name: each.state for each in status(scheduled.settings)} == dict.fromkeys(
        ("postgres", "clickhouse", *AIRFLOW), "up"
    )


def test_shown_login_works(scheduled, airflow):
    shown = login(scheduled)
    assert airflow.request("POST", "/auth/token", shown, signed_in=False)[0] == http.HTTPStatus.CREATED
    guess = shown | {"password": "guess"}
    assert airflow.request("POST", "/auth/token", guess, signed_in=False)[0] == http.HTTPStatus.UNAUTHORIZED


def test_layers_that_the_schedule_starts_together_run_one_after_the_other(airflow, first_runs):
    ended = {}
    for dag, below in zip(DAGS, [None, *DAGS], strict=False):
        tasks = airflow.call("GET", f"/api/v2/dags/{dag}/dagRuns/{first_runs[dag]}/taskInstances")["task_instances"]
        ended[dag] = max(task["end_date"] for task in tasks if task["task_id"] == "offload")
        [plan] = [task for task in tasks if task["task_id"] == "plan"]
        assert below is None or ended[below] < plan["start_date"]


def test_a_run_moves_the_rows_and_clearing_all_its_tasks_changes_none(scheduled, airflow, first_runs):
    before = verify(scheduled)
    assert [line for line in before if not line["equal"]] == []
    assert sum(line["cold_rows"] for line in before) > 20_000

    events = airflow.call("GET", "/api/v2/assets/events")["asset_events"]
    [event] = [event for event in events if event["name"] == "k2/cold.silver_trades"]
    [silver] = [line for line in before if line["table"] == "silver_trades"]
    assert (event["extra"]["rows"], event["extra"]["high"]) == (silver["cold_rows"], silver["high"])
    assert int(event["extra"]["snapshot_id"]) > 0

    for dag, run_id in first_runs.items():
        assert {"plan", "commit"} <= airflow.clear(dag, run_id)
    for dag, run_id in first_runs.items():
        airflow.wait_for(dag, run_id)
    assert verify(scheduled) == before


def test_the_page_is_in_the_navigation_and_asks_for_the_login(scheduled, airflow, first_runs):  # noqa: ARG001
    assert airflow.request("GET", "/k2/", signed_in=False)[0] == http.HTTPStatus.UNAUTHORIZED
    cold = {line["table"]: f">{line['cold_rows']:,}</td>" for line in verify(scheduled)}

    def missing() -> dict[str, str]:
        _, page = airflow.request("GET", "/k2/")
        return {table: rows for table, rows in cold.items() if f">{table}</a>" not in page or rows not in page}

    assert wait_until(lambda: not missing(), 120, poll_seconds=0.5), missing()
    plugins = airflow.call("GET", "/api/v2/plugins")["plugins"]
    [view] = [view for plugin in plugins for view in plugin["external_views"] if plugin["name"] == "k2_offload"]
    assert (view["name"], view["href"]) == ("Cold tier", "k2/")
    assert airflow.call("GET", "/api/v2/plugins/importErrors")["total_entries"] == 0


def test_an_old_run_cleared_and_a_dag_tested_beside_a_new_run_double_nothing(scheduled, airflow, market, first_runs):
    dag = DAGS[0]
    before = {line["table"]: line["cold_rows"] for line in verify(scheduled)}
    market.trade_until(450)
    new = {started: airflow.start(started) for started in DAGS[:2]}
    beside = subprocess.Popen(
        ["airflow", "dags", "test", dag], env=scheduled.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    airflow.clear(dag, first_runs[dag])
    output, _ = beside.communicate(timeout=180)
    # Airflow's own processes may lock each other out of its database; that is theirs, and doubles nothing either.
    assert beside.returncode == 0 or b"DeadlockDetected" in output, output.decode()
    for started, run_id in (*new.items(), (dag, first_runs[dag])):
        airflow.wait_for(started, run_id)
    after = verify(scheduled)
    assert [line["table"] for line in after if not line["equal"]] == []
    grown = {line["table"] for line in after if line["cold_rows"] > before[line["table"]]}
    assert {"bronze_trades_binance", "bronze_trades_kraken"} <= grown


def test_heals_and_rewrites_are_told_as_windows_are(scheduled, airflow, market, first_runs):  # noqa: ARG001
    one = {"tables": ["bronze_trades_kraken"]}
    for dag, conf in (
        ("k2_reconcile", {"days": market.trade_late()}),
        ("k2_maintenance", one),
        ("k2_backfill", one),
    ):
        airflow.wait_for(dag, airflow.start(dag, **conf))
    assert [line for line in verify(scheduled) if not line["equal"]] == []
    events = airflow.call("GET", "/api/v2/assets/events?limit=1000")["asset_events"]
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


def test_one_red_table_holds_back_what_is_made_of_it_and_stops_no_layer(scheduled, airflow, market, webhook):
    market.trade_until(320)
    with renamed(scheduled, "bronze_trades_kraken", "raw_message"):
        start_together(scheduled, "red", "2026-01-01T00:30:00+00:00")
        airflow.wait_for("k2_offload_bronze", "red", "failed")
        for dag in DAGS[1:]:
            airflow.wait_for(dag, "red")
        said = subprocess.run(
            ["k2", "status", "--json"], env=scheduled.environment, stdout=subprocess.PIPE, check=False
        )
        tables = {line["table"]: line for line in json.loads(said.stdout)}
    red, green, silver = (tables[name] for name in ("bronze_trades_kraken", "bronze_trades_binance", "silver_trades"))
    # Silver's last row below the red table's watermark may be an older one.
    assert silver["watermark"] <= red["watermark"] < green["watermark"]
    assert red["status"] == "failed"
    # A comparison whose half hour has come meanwhile is red, too, and told.
    head = "k2_offload_bronze has failed (task_failure), run red. "

    def told() -> list[str]:
        return [body["text"] for _, _, body in webhook.posted if body["text"].startswith(head)]

    assert wait_until(told, 60)
    [text] = told()
    assert text.startswith(f"{head}bronze_trades_kraken: ")
    assert text.endswith("What to do: docs/runbooks/offload-failure.md")
    assert {path for path, _, _ in webhook.posted} == {f"/{WEBHOOK_SECRET}"}


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
def test_after_all_of_airflow_was_killed_the_window_is_published_within_three_minutes(
    scheduled, airflow, market, kill, capsys
):
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
    for dag in DAGS:
        airflow.wait_for(dag, run_id)
    seconds = time.monotonic() - healthy
    with capsys.disabled():
        print(f"\nkilled {moment:.1f} s after the runs had been started: published {seconds:.0f} s after the restart")
    assert seconds < 180
    after = verify(scheduled)
    assert [line["table"] for line in after if not line["equal"]] == []
    grown = {line["table"] for line in after if line["cold_rows"] > before[line["table"]]}
    assert {"bronze_trades_binance", "silver_trades"} <= grown


def test_killed_scheduler_takes_no_other_service_along_and_comes_back(scheduled):
    settings = scheduled.settings
    before = {each.name: each.pid for each in status(settings)}
    scheduler = before["scheduler"]
    assert scheduler is not None
    orphans = find_marked({STACK_VARIABLE: str(settings.state), "K2_STACK_SERVICE": "scheduler"})
    assert len(orphans) > 1, "the scheduler has workers, which its death orphans"
    os.kill(scheduler, signal.SIGKILL)
    assert wait_until(lambda: {each.name for each in status(settings) if each.state == "down"} == {"scheduler"}, 10)
    assert up(settings) == ["scheduler"]
    after = {each.name: each.pid for each in status(settings)}
    assert {name for name in after if after[name] != before[name]} == {"scheduler"}
    assert not set(orphans) & set(find_marked({STACK_VARIABLE: str(settings.state)}))


def test_down_leaves_no_process(scheduled):
    assert len(down(scheduled.settings)) == 6
    assert find_marked({STACK_VARIABLE: str(scheduled.settings.state)}) == []
    assert {each.state for each in status(scheduled.settings)} == {"down"}
