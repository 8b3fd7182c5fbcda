"""Faults of the network on the real stack: what the back-off bridges, what the next attempt mends, what fails at once.

All three services are reached through proxies. After each fault follows what Airflow would run next, and then every
row has to be cold exactly once.
"""

from __future__ import annotations

import json
import shutil
import threading
import time
from contextlib import ExitStack, closing
from datetime import UTC, datetime, timedelta
from functools import partial

import psycopg
import pytest
from airflow.providers.postgres.hooks.postgres import PostgresHook
from airflow.sdk import BaseHook
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from embedded.stack.settings import HOST
from k2_offload.adapters import clickhouse_connection, connections, postgres
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.retry import with_retries
from k2_offload.adapters.settings import load_settings
from k2_offload.core.errors import Busy, ConfigurationError, Overloaded, Refused, StoreFailed, Unreachable
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.limits import STORE_ATTEMPTS
from tests.faults.hook import Fault, Kind
from tests.faults.output import Output
from tests.proxy import Proxy
from tests.support import free_ports
from tests.support.gateway import Gateway

MIDNIGHT = datetime(2026, 3, 5, tzinfo=UTC)
FIRST = MIDNIGHT - timedelta(minutes=10)  # the window spans two days: two files
NOW = MIDNIGHT + timedelta(hours=1)
SETTINGS = {"clickhouse": "clickhouse_conn_id", "ledger": "ledger_conn_id", "catalog": "catalog_conn_id"}


class Network:
    """The workbench's services behind proxies, and tables with rows to move."""

    def __init__(self, workbench, monkeypatch, resources):
        self.workbench = workbench
        self.tables = []
        self._monkeypatch = monkeypatch
        self._real = {
            name: BaseHook.get_connection(getattr(load_settings(), setting)) for name, setting in SETTINGS.items()
        }
        self.proxies = {name: resources.enter_context(Proxy(real.port)) for name, real in self._real.items()}
        self.clickhouse, self.ledger, self.catalog = (self.proxies[name] for name in SETTINGS)
        for name in SETTINGS:
            self.reach(name)

    def reach(self, name, **changes):
        """Let the connection of a service pass through its proxy, or be another one."""
        real = self._real[name]
        fields = {
            **{key: getattr(real, key) for key in ("conn_type", "host", "login", "password", "schema")},
            "port": self.proxies[name].port,
            "extra": real.extra_dejson,
        }
        self._monkeypatch.setenv(f"AIRFLOW__K2_OFFLOAD__{SETTINGS[name].upper()}", f"far_{name}")
        self._monkeypatch.setenv(f"AIRFLOW_CONN_FAR_{name.upper()}", json.dumps(fields | changes))

    def reach_directly(self, name):
        self.reach(name, port=self._real[name].port)

    def add_table(self, suffix=None):
        table = self.workbench.create_trades(suffix or f"t{len(self.tables)}")
        self.workbench.insert_trades(table, FIRST, 1200)
        self.tables.append(table)
        return table

    def cycle(self):
        return self.workbench.cycle(*(self.workbench.spec(table) for table in self.tables), now=NOW)

    def plan(self, cycle, *tables):
        """As the task does."""
        return [with_retries(partial(cycle.plan, cycle.tables[table])) for table in tables or self.tables]

    def commit(self, cycle, *tables):
        for table in tables or self.tables:
            with_retries(partial(cycle.commit, cycle.tables[table]))

    def recover(self):
        """What Airflow runs next: plan, the job if there is anything left to move, commit."""
        cycle = self.cycle()
        planned = [entry for entry in self.plan(cycle) if entry is not None]
        if planned:
            code, output = self.run(*planned)
            assert code == 0, output
        self.commit(cycle)
        self.workbench.check(cycle, self.tables)

    def start(self, *planned, **options):
        """The job, with the connections of the moment; what the network does is the same to a process that is up."""
        return self.workbench.start_warm_job(*planned, **options)

    def run(self, *planned, **options):
        """Returns the exit code and the output."""
        return self.start(*planned, **options).wait_for_end()


@pytest.fixture
def network(workbench, monkeypatch):
    with ExitStack() as resources:
        yield Network(workbench, monkeypatch, resources)


def export_of(table):
    return rf"INSERT INTO FUNCTION.*?/{table}/data/".encode()


def commit_of(table):
    """The catalog's UPDATE of a table's metadata file: the first one stages, the second one publishes."""
    return rf"/{table}/metadata/.*?/{table}/metadata/".encode()


def test_plan_and_commit_go_on_when_a_service_comes_back_in_time(network):
    first, second, third = (network.add_table() for _ in range(3))
    cycle = network.cycle()
    cycle.clickhouse.execute("SELECT 1")
    cycle.catalog.ping()
    planned = []
    for table, proxy in ((first, network.clickhouse), (second, network.ledger), (third, network.catalog)):
        timer = proxy.unplug(1.0)
        planned += network.plan(cycle, table)
        timer.join()
    network.clickhouse.when(export_of(first), lambda: network.clickhouse.unplug(1.5))
    network.catalog.when(commit_of(second), lambda: network.catalog.unplug(1.5))
    code, output = network.run(*planned)
    assert (code, output.count(": published 1200 rows")) == (0, 3), output
    assert "Trying again" in output
    for table, proxy in ((first, network.ledger), (second, network.catalog)):
        timer = proxy.unplug(1.0)
        network.commit(cycle, table)
        timer.join()
    network.commit(cycle)
    network.workbench.check(cycle, network.tables)


def test_what_is_lost_while_planning_and_committing_is_tried_again(network):
    losses = {
        "ledger's COMMIT": partial(network.ledger.lose_request, rb"COMMIT"),
        "reply to the ledger's COMMIT": partial(network.ledger.lose_reply, rb"COMMIT"),
        "end of the ledger's reply": partial(network.ledger.reset_after, 700, to_server=False),
        "catalog's INSERT": partial(network.catalog.lose_request, rb"INSERT INTO iceberg_tables"),
        "reply to the catalog's INSERT": partial(network.catalog.lose_reply, rb"INSERT INTO iceberg_tables"),
        "reply to the catalog's COMMIT": partial(network.catalog.lose_reply, rb"COMMIT"),
        "end of ClickHouse's reply": partial(network.clickhouse.reset_after, 300, to_server=False),
    }
    for _ in losses:
        network.add_table()
    cycle = network.cycle()
    planned = []
    for table, (what, lose) in zip(network.tables, losses.items(), strict=True):
        rule = lose()
        planned += network.plan(cycle, table)
        assert rule.fired == 1, what
    code, output = network.run(*planned)
    assert (code, output.count(": published 1200 rows")) == (0, len(losses)), output
    losses_of_commit = [
        partial(network.ledger.lose_request, rb"COMMIT"),
        partial(network.ledger.lose_reply, rb"COMMIT"),
        partial(network.catalog.lose_reply, rb"FROM iceberg_tables"),
    ]
    for table, lose in zip(network.tables, losses_of_commit, strict=False):
        rule = lose()
        network.commit(cycle, table)
        assert rule.fired == 1
    network.commit(cycle)
    network.workbench.check(cycle, network.tables)


def test_the_job_outlives_the_loss_of_any_request_and_any_reply(network):
    at_catalog, at_clickhouse = network.catalog, network.clickhouse
    losses = {
        "stage": lambda table: at_catalog.lose_request(commit_of(table)),
        "stage_reply": lambda table: at_catalog.lose_reply(commit_of(table)),
        "publish": lambda table: at_catalog.lose_request(commit_of(table), occurrence=2),
        "publish_reply": lambda table: at_catalog.lose_reply(commit_of(table), occurrence=2),
        "export": lambda table: at_clickhouse.lose_request(export_of(table)),
        "export_reply": lambda table: at_clickhouse.lose_reply(export_of(table), quiet=0.3),
        "second_export_reply": lambda table: at_clickhouse.lose_reply(export_of(table), occurrence=2, quiet=0.3),
        "bystander": lambda _: at_catalog.reset_after(4000, to_server=False),
    }
    for suffix in losses:
        network.add_table(suffix)
    planned = network.plan(network.cycle())
    rules = [lose(table) for table, lose in zip(network.tables, losses.values(), strict=True)]
    code, output = network.run(*planned, parallel_tables=len(losses))
    assert dict.fromkeys(losses, 1) == dict(zip(losses, (rule.fired for rule in rules), strict=True))
    assert (code, output.count(": published 1200 rows")) == (0, len(losses)), output
    network.recover()


@pytest.mark.parametrize("transport", ["export", "jdbc"])
def test_a_lost_reply_never_publishes_what_was_only_staged(network, transport):
    """Iceberg's JDBC catalog repeats the commit, and its append then takes it for a rollback to what it staged."""
    table = network.add_table()
    spec = network.workbench.spec(table, transport=transport)
    cycle = network.workbench.cycle(spec, now=NOW)
    [planned] = network.plan(cycle)
    rule = network.catalog.lose_reply(commit_of(table))
    network.workbench.run_job(planned, faults=[Fault(FaultPoint.AUDITED, Kind.KILL, table)])
    assert rule.fired == 1
    metadata = network.workbench.cold_table(table).metadata
    assert (len(metadata.snapshots), metadata.refs) == (1, {})
    if transport == "export":
        assert network.workbench.files_referred_to(table) == network.workbench.files_on_disk(table)
    network.recover()


def test_a_service_that_stays_away_fails_the_attempt_and_the_next_one_resumes_the_window(network):
    exporting, staging, opening = (network.add_table() for _ in range(3))
    cycle = network.cycle()
    planned = dict(zip((exporting, staging), network.plan(cycle, exporting, staging), strict=True))
    network.clickhouse.when(export_of(exporting), network.clickhouse.unplug)
    network.reach_directly("catalog")
    without_clickhouse = Output(network.workbench.start_job(planned[exporting]))
    network.reach("catalog")
    network.reach_directly("clickhouse")
    network.catalog.when(commit_of(staging), network.catalog.unplug)
    without_catalog = network.start(planned[staging])
    network.ledger.unplug()
    with pytest.raises(Unreachable, match="far_ledger"):
        network.plan(network_cycle_without_schema(network), opening)
    for job, connection in ((without_clickhouse, "far_clickhouse"), (without_catalog, "far_catalog")):
        code, output = job.wait_for_end()
        assert code == 1
        assert output.count("Trying again") == 3, output
        assert f"is not reachable through Airflow connection '{connection}'" in output
    for name, proxy in network.proxies.items():
        network.reach(name)
        proxy.forward()
    assert [entry.window_id for entry in network.plan(network.cycle(), exporting, staging)] == [
        planned[exporting].window_id,
        planned[staging].window_id,
    ]
    network.recover()


def network_cycle_without_schema(network):
    """A cycle that has not talked to the ledger yet."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("k2_offload.adapters.ledger.Ledger.migrate", lambda _: None)
        return network.cycle()


def test_a_slow_network_needs_no_second_try(network, caplog):
    network.add_table()
    for proxy in network.proxies.values():
        proxy.slow(0.01, bytes_per_second=200_000)
    cycle = network.cycle()
    code, output = network.run(*network.plan(cycle))
    network.commit(cycle)
    assert (code, "Trying again" in output + caplog.text) == (0, False), output
    network.workbench.check(cycle, network.tables)


@pytest.fixture
def gateway(network, monkeypatch, tmp_path):
    """In place of the stack's ClickHouse, behind the same proxy."""
    gateway = Gateway(network.workbench.stack, tmp_path, *free_ports(2), password="open sesame")
    gateway.start()
    gateway.sql("CREATE DATABASE k2")
    monkeypatch.setattr(network.workbench, "sql", partial(gateway.sql, database="k2"))
    network.clickhouse.upstream_port = gateway.native_port
    network.reach("clickhouse", password="open sesame")
    yield gateway
    gateway.kill()


def test_a_clickhouse_that_is_killed_during_an_export_and_started_again(network, gateway):
    table = network.add_table()
    network.workbench.insert_trades(table, MIDNIGHT + timedelta(minutes=10), 100_000, step_micros=1000)
    cycle = network.cycle()
    planned = network.plan(cycle)
    network.reach("clickhouse", password="wrong one")
    assert_refused(partial(network.plan, network.cycle()), "far_clickhouse", "wrong one")
    code, output = network.run(*planned)
    assert (code, "Trying again" in output, "wrong one" in output) == (1, False, False)
    assert "refuses Airflow connection 'far_clickhouse'" in output

    network.reach("clickhouse", password="open sesame")
    restarted = threading.Event()

    def restart():
        gateway.restart()
        restarted.set()

    rule = network.clickhouse.when(export_of(table), restart)
    code, output = network.run(*planned)
    assert (rule.fired, restarted.wait(30)) == (1, True)
    assert (code, "Trying again" in output) == (0, True), output
    network.commit(cycle)
    network.workbench.check(cycle, network.tables)


def assert_refused(step, connection, secret):
    started = time.monotonic()
    with pytest.raises(ConfigurationError) as refusal:
        with_retries(step)
    assert time.monotonic() - started < 3
    assert isinstance(refusal.value, Refused)
    assert f"refuses Airflow connection '{connection}'" in str(refusal.value)
    assert "k2 validate" in str(refusal.value)
    assert secret not in str(refusal.value)


class Storage:
    """The folder of a cold table, as on a file system that is mounted there."""

    def __init__(self, network, table):
        self.folder = network.workbench.stack.settings.warehouse / "cold" / table
        self._away = self.folder.with_name(f"{self.folder.name}_away")

    def go(self):
        self.folder.rename(self._away)

    def come_back(self):
        """What was written meanwhile, in a folder that was made anew, is out of everybody's reach."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._away.rename(self.folder)

    def files(self):
        return sorted(self.folder.rglob("*.parquet"))


def test_a_storage_that_is_away_for_a_moment(network):
    """Before the job has opened the table, between two exports, and after the last one."""
    points = {"first_export": (FaultPoint.FILE_EXPORTED, 1), "last_export": (FaultPoint.FILE_EXPORTED, 2)}
    opening = network.add_table("opening")
    for suffix in points:
        network.add_table(suffix)
    cycle = network.cycle()
    planned = network.plan(cycle)
    storages = {table: Storage(network, table) for table in network.tables}
    faults = [
        Fault(point, Kind.WAIT, table, hit)
        for table, (point, hit) in zip(network.tables[1:], points.values(), strict=True)
    ]

    storages[opening].go()
    job = network.start(*planned, faults=faults)
    job.wait_for("FAULT wait", times=len(faults))
    for table in network.tables[1:]:
        storages[table].go()
    network.workbench.wake_file.touch()
    job.wait_for("Trying again", times=len(storages))
    for storage in storages.values():
        storage.come_back()
    code, output = job.wait_for_end()
    assert (code, output.count(": published 1200 rows")) == (0, len(storages)), output
    network.recover()


def test_a_folder_that_is_made_anew_is_not_taken_for_the_table(network):
    """Whoever writes a file makes the folders above it; nothing of that is there when the storage comes back."""
    table = network.add_table()
    planned = network.plan(network.cycle())
    storage = Storage(network, table)
    job = network.start(*planned, faults=[Fault(FaultPoint.JOB_STARTED, Kind.WAIT, table)])
    job.wait_for("FAULT wait")
    storage.go()
    network.workbench.wake_file.touch()
    job.wait_for("Trying again")
    assert not storage.files(), "what the attempt wrote into a folder that was made anew, it has removed"
    storage.come_back()
    code, output = job.wait_for_end()
    assert "metadata.json is not there" in output
    assert (code, output.count(": published 1200 rows")) == (0, 1), output
    network.recover()


def test_a_file_that_vanishes_after_its_export_is_not_published(network):
    table = network.add_table()
    cycle = network.workbench.cycle(network.workbench.spec(table, parallel_exports=1), now=NOW)
    planned = network.plan(cycle)
    second_file = Fault(FaultPoint.FILE_EXPORTED, Kind.WAIT, table, hit=2)
    job = network.start(*planned, faults=[second_file])
    job.wait_for("FAULT wait")
    first, _ = Storage(network, table).files()
    first.unlink()
    network.workbench.wake_file.touch()
    code, output = job.wait_for_end()
    assert f"{first.name} is not there" in output
    assert (code, output.count(": published 1200 rows")) == (0, 1), output
    network.recover()


def test_a_file_that_clickhouse_wrote_somewhere_else_is_a_refusal(network):
    """As with a named collection of another bucket than the warehouse's."""
    table = network.add_table()
    cycle = network.workbench.cycle(network.workbench.spec(table, parallel_exports=1), now=NOW)
    planned = network.plan(cycle)
    job = network.start(*planned, faults=[Fault(FaultPoint.FILE_EXPORTED, Kind.WAIT, table)])
    job.wait_for("FAULT wait")
    [file] = Storage(network, table).files()
    file.rename(network.workbench.folder / file.name)
    network.workbench.wake_file.touch()
    code, output = job.wait_for_end()
    assert code == 1, output
    assert "Trying again" not in output
    assert "ClickHouse writes somewhere else than the catalog's warehouse is" in output
    assert file.name in output
    network.recover()


@pytest.mark.parametrize("name", ["ledger", "catalog"])
@pytest.mark.parametrize(
    "changes",
    [{"password": "wrong one"}, {"login": "nobody", "password": "wrong one"}, {"schema": "nowhere"}],
    ids=["password", "user", "database"],
)
def test_a_login_that_postgres_refuses_fails_at_once(network, name, changes):
    table = network.add_table()
    network.reach(name, **changes)
    cycle = network_cycle_without_schema(network)
    assert_refused(partial(cycle.plan, cycle.tables[table]), f"far_{name}", changes.get("password", "nothing"))


def test_what_a_user_may_not_do_fails_at_once(network):
    dsn = network.workbench.stack.ledger_dsn
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute("DROP ROLE IF EXISTS k2_stranger")
        connection.execute("CREATE ROLE k2_stranger LOGIN PASSWORD 'wrong one'")
    try:
        table = network.add_table()
        network.cycle()
        network.reach("ledger", login="k2_stranger", password="wrong one")
        cycle = network_cycle_without_schema(network)
        assert_refused(partial(cycle.plan, cycle.tables[table]), "far_ledger", "wrong one")
        network.reach("ledger")
        network.reach("catalog", login="k2_stranger", password="wrong one")
        cycle = network.cycle()
        assert_refused(partial(cycle.plan, cycle.tables[table]), "far_catalog", "wrong one")
        for code in (81, 192, 193, 497, 516):
            refusing = partial(_raise, ServerException("default: no", code))
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Client, "execute", refusing)
                clickhouse = ClickHouse(connections.clickhouse_endpoint(load_settings()))
                assert_refused(clickhouse.now, "far_clickhouse", "nothing")
    finally:
        with psycopg.connect(dsn, autocommit=True) as connection:
            connection.execute("DROP ROLE k2_stranger")


def _raise(error, *_):
    raise error


def test_the_job_says_at_once_that_the_catalog_refuses_it(network):
    network.add_table()
    planned = network.plan(network.cycle())
    network.reach("catalog", password="wrong one")
    code, output = network.workbench.run_job(*planned)
    assert code != 0
    assert "refuses Airflow connection 'far_catalog'" in output
    assert (output.count("Trying again"), output.count("wrong one")) == (0, 0)


def test_a_ledger_whose_table_another_run_holds(network, monkeypatch):
    table = network.add_table()
    opened = []
    connect = PostgresHook.get_conn
    monkeypatch.setattr(PostgresHook, "get_conn", lambda hook: opened.append(connect(hook)) or opened[-1])
    cycle = network.cycle()
    with cycle.ledger.locked(table), opened[-1].cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout')")
        assert cursor.fetchone() == ("1min", "10min")
    limits = "SET LOCAL lock_timeout = '100ms'; SET LOCAL idle_in_transaction_session_timeout = '500ms'"
    monkeypatch.setattr(postgres, "TRANSACTION_LIMITS", limits)

    def hold():
        with cycle.ledger.locked(table) as holder:
            holder.entry()
            with pytest.raises(Busy, match=r"Another run .*no row is lost"), cycle.ledger.locked(table) as locked:
                locked.entry()
            time.sleep(0.7)  # whoever holds it has vanished: Postgres frees the table
            assert network.plan(cycle)
            holder.entry()

    with pytest.raises(Unreachable, match="terminating connection due to idle-in-transaction timeout"):
        hold()


def test_a_clickhouse_that_accepts_connections_and_never_greets_is_given_up(network, monkeypatch):
    monkeypatch.setattr(clickhouse_connection, "CONNECT_SECONDS", 1)
    network.add_table()
    cycle = network.cycle()
    network.clickhouse.blackhole()
    started = time.monotonic()
    with pytest.raises(Unreachable, match="far_clickhouse"):
        cycle.clickhouse.execute("SELECT 1")
    assert time.monotonic() - started < 3
    assert network.clickhouse.swallowed > 0
    network.clickhouse.forward()
    network.recover()


def test_a_rest_catalog_that_accepts_connections_and_stays_silent_is_given_up_by_the_job(network):
    """Java's client; pyiceberg's is in the unit tests."""
    network.add_table()
    planned = network.plan(network.cycle())
    network.catalog.blackhole()
    extra = {"catalog_type": "rest", "rest.client.socket-timeout-ms": "300"}
    host = f"http://{HOST}:{network.catalog.port}"
    network.reach("catalog", host=host, port=None, login="k2", password="k2", extra=extra)
    code, output = network.run(*planned)
    assert (code, output.count("Trying again")) == (1, 3), output
    assert "is not reachable through Airflow connection 'far_catalog'" in output
    assert "timed out" in output
    assert network.catalog.swallowed > 0


def test_an_object_store_that_stays_away_fails_an_export_in_seconds(network):
    [closed] = free_ports(1)
    network.add_table()
    clickhouse = network.cycle().clickhouse
    assert clickhouse.execute("SELECT getSetting('s3_retry_attempts')") == [(STORE_ATTEMPTS,)]
    started = time.monotonic()
    with pytest.raises(StoreFailed, match="lake_collection"):
        clickhouse.execute(
            f"INSERT INTO FUNCTION s3('http://{HOST}:{closed}/lake/a.parquet', 'key', 'secret', 'Parquet') SELECT 1"
        )
    assert time.monotonic() - started < 60


def test_a_ledger_that_swallows_everything_is_given_up(network):
    network.add_table()
    network.reach("ledger", extra={"connect_timeout": 2})
    network.ledger.blackhole()
    started = time.monotonic()
    with pytest.raises(Unreachable, match="timeout"):
        network.cycle()
    assert time.monotonic() - started < 4
    assert network.ledger.swallowed > 0


@pytest.mark.usefixtures("workbench")
def test_a_look_that_takes_too_long_is_no_server_that_is_away():
    endpoint = connections.clickhouse_endpoint(load_settings(), 2)
    with closing(ClickHouse(endpoint)) as clickhouse_, pytest.raises(Overloaded, match="code 159"):
        clickhouse_.execute("SELECT count() FROM numbers(100000000000) WHERE cityHash64(number) = 1")
