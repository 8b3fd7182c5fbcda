"""The job believes no server that lacks rows, whoever `plan` has asked. The embedded engine has no Keeper."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from types import SimpleNamespace

import clickhouse_driver
import pytest

from k2_offload.adapters.replicas import open_planned
from k2_offload.core.backfill import BackfillId
from k2_offload.core.connections import CatalogSettings, ClickHouseEndpoint
from k2_offload.core.errors import ReplicaBehind, Unreachable
from k2_offload.core.exactly_once import WindowId
from k2_offload.core.heal import HealId
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.plan import PlannedBackfill, PlannedColumn, PlannedHeal, PlannedWindow
from k2_offload.core.splits import Split
from k2_offload.core.sql import placeholder
from k2_offload.core.windows import Window
from offload_job import application
from offload_job.application import Job
from offload_job.export_task import TRY, Export
from offload_job.spark_cluster import SparkCluster
from offload_job.transports.export import ExportTransport

ENDPOINT = ClickHouseEndpoint("clickhouse", "ch1", 9000, 8123, "u", "p", "k2", secure=False)
NOON, ONE = datetime(2026, 3, 4, 12, tzinfo=UTC), datetime(2026, 3, 4, 13, tzinfo=UTC)
ROWS = {
    "table": "ohlcv_1m",
    "target": "cold.ohlcv_1m",
    "rows": 9,
    "cut_on": "at",
    "transport": "export",
    "partition_field": "at_day",
    "columns": (PlannedColumn("at", "timestamptz"),),
    "max_file_rows": 5,
    "parallel_exports": 2,
    "rows_per_slot_sql": "SELECT slots",
    "select_split_sql": f"SELECT rows {placeholder('split_low')} {placeholder('split_high')}",
    "column_types_sql": "SELECT types",
    "ledger_id": None,
    "replicated": ("k2.ohlcv_1m",),
    "longest_delay_seconds": 300,
}
WINDOW = PlannedWindow(**ROWS, window_id=str(WindowId("u", Window(NOON, ONE))))
HEAL = PlannedHeal(
    **ROWS, heal_id=str(HealId("u", date(2026, 3, 4), 7)), partition_column="at", content_hash=1, files=()
)
BACKFILL = PlannedBackfill(**ROWS, backfill_id=str(BackfillId("u", Window(NOON, ONE))))


class Servers:
    """What answers at one address: the servers of a list, or those behind a load balancer.

    :param delays: of the replicas of each, in the order in which they are connected to; the last one goes on
    """

    def __init__(self, *delays: int | None):
        self.delays, self.asked, self.closes = list(delays), [], False

    def client(self, **_) -> Client:
        return Client(self)


class Client:
    """The part of clickhouse_driver's client that the adapter uses: it connects when something is asked."""

    def __init__(self, servers: Servers):
        self._servers, self.connection = servers, self
        self.host, self.delay, self.connected, self.lost, self.busy = None, None, False, False, False

    def receive_hello(self):
        pass

    def connect(self):
        number = len({host for host, _ in self._servers.asked}) + 1
        self.host, self.delay = f"ch{number}", self._servers.delays[0]
        self.connected, self.lost = True, False
        if len(self._servers.delays) > 1:
            self._servers.delays.pop(0)

    def execute(self, sql: str):
        assert not self.busy, "the driver refuses a query within another, also while it connects"
        self.busy = True
        if not self.connected or self.lost:
            try:
                self.connection.connect()  # in silence
            except Exception:
                self.disconnect()
                raise
        self.busy = False
        self._servers.asked.append((self.host, sql))
        self.lost = self._servers.closes
        if sql == "SELECT break":
            raise EOFError("gone")
        if "FROM system.replicas" in sql:
            return [] if self.delay is None else [("k2.ohlcv_1m", 0, self.delay)]
        return [(1,)]

    def disconnect(self):
        self.connected = self.busy = False


@pytest.fixture
def servers(monkeypatch):
    def answering(*delays):
        servers = Servers(*delays)
        monkeypatch.setattr(clickhouse_driver, "Client", servers.client)
        return servers

    return answering


def test_a_connection_that_was_lost_between_two_statements_is_no_way_around(servers):
    answering = servers(0, 0, 7200)
    clickhouse = open_planned(ENDPOINT, WINDOW)
    clickhouse.execute("SELECT 1")
    answering.closes = True
    clickhouse.execute("SELECT 2")
    answering.closes = False
    clickhouse.execute("SELECT 3")
    answering.closes = True
    clickhouse.execute("SELECT 4")
    with pytest.raises(ReplicaBehind, match="on server ch3"):
        clickhouse.execute("SELECT 5")
    assert [sql for host, sql in answering.asked if host == "ch2" and "replicas" not in sql] == ["SELECT 3", "SELECT 4"]


def test_who_closes_each_connection_at_once_is_away(servers):
    answering = servers(0)
    answering.closes = True
    with pytest.raises(Unreachable, match="the connection was lost"):
        open_planned(ENDPOINT, WINDOW).execute("SELECT 1")


def test_a_server_is_asked_once_and_each_one_that_takes_its_place(servers):
    asked = servers(0, 5, 7200).asked
    clickhouse = open_planned(ENDPOINT, WINDOW)
    for statement in ("SELECT 1", "SELECT 2", "SELECT break"):
        try:
            clickhouse.execute(statement)
        except Unreachable:
            assert statement == "SELECT break"
    clickhouse.execute("SELECT 3")
    assert [(host, "replicas" if "system.replicas" in sql else sql) for host, sql in asked] == [
        ("ch1", "replicas"),
        ("ch1", "SELECT 1"),
        ("ch1", "SELECT 2"),
        ("ch1", "SELECT break"),
        ("ch2", "replicas"),
        ("ch2", "SELECT 3"),
    ]
    with pytest.raises(Unreachable):
        clickhouse.execute("SELECT break")
    with pytest.raises(ReplicaBehind, match=r"ohlcv_1m: on server ch3, the replica of k2\.ohlcv_1m is 7,200 s behind"):
        clickhouse.execute("SELECT 4")
    assert "SELECT 4" not in [sql for _, sql in asked], "nothing else is asked of a server that is not believed"


@pytest.mark.parametrize(
    ("planned", "then"),
    [(WINDOW, "`k2 run ohlcv_1m`"), (HEAL, "`k2 run ohlcv_1m`"), (BACKFILL, "`k2 backfill ohlcv_1m`")],
)
@pytest.mark.parametrize(("delay", "how"), [(301, "is 301 s behind, and 300 s are the most"), (None, "is read-only")])
def test_what_is_said_is_what_plan_says(servers, planned, then, delay, how):
    asked = servers(delay).asked
    clickhouse = open_planned(ENDPOINT, planned)
    for _ in range(2):  # it is no better known the second time
        with pytest.raises(ReplicaBehind, match=f"{how}.*Nothing was moved and no row is lost.*{then}"):
            clickhouse.execute("SELECT 1")
    assert "SELECT 1" not in [sql for _, sql in asked]


def test_a_source_without_replicas_and_a_plan_of_before_cost_no_query(servers):
    asked = servers(None).asked
    open_planned(ENDPOINT, replace(WINDOW, replicated=(), longest_delay_seconds=0)).execute("SELECT 1")
    assert asked == [("ch1", "SELECT 1")]


@pytest.mark.parametrize(
    ("step", "act", "planned"),
    [("move", Job.move, WINDOW), ("heal", Job.heal, HEAL), ("backfill", Job.backfill, BACKFILL)],
)
def test_no_step_of_the_job_asks_a_server_that_lags(servers, monkeypatch, step, act, planned):
    asked = servers(7200).asked

    def count(*arguments):
        [clickhouse] = [each for each in arguments if hasattr(each, "rows_per_slot")]
        clickhouse.rows_per_slot(planned.rows_per_slot_sql)

    monkeypatch.setattr(application, step, count)
    for name in ("Swap", "open_catalog", "load_transport"):
        monkeypatch.setattr(application, name, lambda *_: None)
    monkeypatch.setattr(application, "ColdTableWriter", lambda *_: SimpleNamespace(require=lambda _: None))
    lang = SimpleNamespace(System=SimpleNamespace(getProperty=lambda _: "local"))
    catalog = CatalogSettings("k2_iceberg", "demo", {}, {})
    job = Job(JobConnections(ENDPOINT, catalog, "lake"), SimpleNamespace(java=SimpleNamespace(lang=lang)))
    with pytest.raises(ReplicaBehind):
        act(job, planned)
    assert [sql for _, sql in asked if "system.replicas" not in sql] == []


SPLITS = [Split(NOON, ONE, 5), Split(ONE, ONE.replace(hour=14), 4)]


class Cold:
    location = "file:///lake/t"

    @contextmanager
    def removing_unnamed(self, *_) -> Iterator[None]:
        yield

    def stage_files(self, *_):
        raise AssertionError("staged")

    def data_file(self, *_):
        return "a file"


def test_the_connections_of_each_file_are_their_own_and_are_not_believed_either(servers):
    asked = servers(0, 7200).asked
    clickhouse = open_planned(ENDPOINT, WINDOW)
    clickhouse.execute("SELECT slots")
    transport = ExportTransport(JobConnections(ENDPOINT, None, "lake"), "local")
    stamp = SimpleNamespace(attempt="a", window=Window(NOON, ONE))
    with pytest.raises(ReplicaBehind):
        transport.stage(clickhouse, Cold(), WINDOW, SPLITS, stamp)
    assert not [sql for _, sql in asked if sql.startswith("INSERT")]


def test_nor_are_those_of_a_cluster_s_workers(servers, monkeypatch):
    servers(7200)
    context = SimpleNamespace(get=lambda: SimpleNamespace(taskAttemptId=lambda: 3))
    in_spark_s_environment = {
        "pyspark": SimpleNamespace(TaskContext=context),
        "py4j": SimpleNamespace(),
        "py4j.protocol": SimpleNamespace(Py4JJavaError=type("Py4JJavaError", (Exception,), {})),
    }
    for name, module in in_spark_s_environment.items():
        monkeypatch.setitem(sys.modules, name, module)

    class Context:
        def parallelize(self, exports, _):
            self.exports = exports
            return self

        def map(self, run):
            return SimpleNamespace(collect=lambda: [run(each) for each in self.exports])

    cluster, written = SparkCluster(ENDPOINT), []
    monkeypatch.setattr(cluster, "_started", Context)
    with pytest.raises(ReplicaBehind):
        cluster.run(WINDOW, [Export(f"file:///lake/a-{TRY}", f"INSERT {TRY}")], written)
    assert written == ["file:///lake/a-3"]
