"""What the transport `jdbc` tells Spark; Spark itself is in the tests on the stack."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from types import SimpleNamespace

import pytest

from k2_offload.core.connections import CatalogSettings, ClickHouseEndpoint
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.plan import PlannedWindow
from k2_offload.core.splits import Split
from k2_offload.core.sql import placeholder
from offload_job.transports import jdbc

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
PLANNED = PlannedWindow(
    table="t",
    target="cold.t",
    rows=9,
    cut_on="at",
    transport="jdbc",
    partition_field="at_day",
    columns=(),
    max_file_rows=5,
    parallel_exports=2,
    rows_per_slot_sql="",
    select_split_sql=f"SELECT {placeholder('split_low')} {placeholder('split_high')}",
    column_types_sql="",
    ledger_id=None,
    replicated=(),
    longest_delay_seconds=0,
    window_id="",
)


class Spark:
    """A session, its settings, its reader, and what that has read."""

    def __init__(self):
        self.conf = self.read = self.writer = self
        self.urls, self.tables = [], []

    def newSession(self):  # noqa: N802 - Spark's
        return self

    def set(self, *_):
        pass

    def jdbc(self, url, **_):
        self.urls.append(url)
        return self

    def select(self, *_):
        return self

    def writeTo(self, table):  # noqa: N802 - Spark's
        self.tables.append(table)
        return self

    def option(self, *_):
        pass

    def append(self):
        pass


@pytest.fixture
def stage(monkeypatch):
    spark_s_own = {
        "py4j": SimpleNamespace(),
        "py4j.protocol": SimpleNamespace(Py4JJavaError=type("Py4JJavaError", (Exception,), {})),
        "pyspark": SimpleNamespace(),
        "pyspark.sql": SimpleNamespace(functions=None),
    }
    for name, module in spark_s_own.items():
        monkeypatch.setitem(sys.modules, name, module)

    def stage(catalog_name="demo", database="k2"):
        spark = Spark()
        monkeypatch.setattr(jdbc, "start_session", lambda _: spark)
        endpoint = ClickHouseEndpoint("clickhouse", "ch1", 9000, 8123, "u", "p", database, secure=False)
        transport = jdbc.JdbcTransport(
            JobConnections(endpoint, CatalogSettings("k2_iceberg", catalog_name, {}, {}), "lake"), "local"
        )
        stamp = SimpleNamespace(wap_id="w", attempt="a", summary={})
        cold = SimpleNamespace(staged_by=lambda _: "staged")
        splits = [Split(NOON, NOON.replace(hour=13), 9)]
        assert transport.stage(SimpleNamespace(host="ch2"), cold, PLANNED, splits, stamp) == "staged"
        return spark

    return stage


@pytest.mark.parametrize(("name", "quoted"), [("demo", "demo"), ("k2-lake", "`k2-lake`")])
def test_a_catalog_may_have_any_name(stage, name, quoted):
    assert stage(catalog_name=name).tables == [f"{quoted}.cold.t"]


@pytest.mark.parametrize(
    ("database", "encoded"),
    [("k2", "k2"), ("k 2", "k%202"), ("k+2/a?b#c%20", "k%2B2%2Fa%3Fb%23c%2520"), ("ä", "%C3%A4")],
)
def test_the_driver_gets_the_database_encoded_as_it_decodes_it(stage, database, encoded):
    [url] = stage(database=database).urls
    assert url == f"jdbc:clickhouse://ch2:8123/{encoded}?ssl=false&compress=0"
