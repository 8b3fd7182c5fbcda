"""Two ClickHouse engines behind one connection, each with rows of its own: nothing replicates but the test."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from types import SimpleNamespace

import pytest
from airflow.sdk import BaseHook

from embedded.stack.settings import HOST
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.connections import clickhouse_endpoint
from k2_offload.adapters.settings import load_settings
from k2_offload.core import queries
from k2_offload.core.day_comparison import Verdict
from k2_offload.work.compare import compare_day, count_days
from k2_offload.work.validate import check_other_servers, check_services
from tests.support.gateway import Gateway

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
NOW = NOON + timedelta(hours=1)
FIRST_HOST = "127.0.0.2"


@pytest.fixture
def servers(workbench, monkeypatch, tmp_path):
    """``first`` is the test's own, the second is the one that all tests share; ``on_first()`` sends SQL there."""
    ports = workbench.stack.settings.ports
    first = Gateway(workbench.stack, tmp_path, ports.clickhouse_native, ports.clickhouse_http, host=FIRST_HOST)
    first.start()
    first.sql("CREATE DATABASE k2")
    real = BaseHook.get_connection(load_settings().clickhouse_conn_id)
    fields = {"conn_type": "clickhouse", "host": f"{FIRST_HOST}, {HOST}:{real.port}", "extra": real.extra_dejson}
    monkeypatch.setenv("AIRFLOW_CONN_TWO_SERVERS", json.dumps(fields | {"port": real.port, "schema": "k2"}))
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__CLICKHOUSE_CONN_ID", "two_servers")

    @contextmanager
    def on_first():
        with monkeypatch.context() as patch:
            patch.setattr(workbench, "sql", partial(first.sql, database="k2"))
            yield

    yield SimpleNamespace(first=first, on_first=on_first)
    first.kill()


def create_on_both(workbench, servers, suffix, *, first, second):
    """A table with so many rows on each server; the fewer are those of the first minutes."""
    with servers.on_first():
        table = workbench.create_trades(suffix)
        workbench.insert_trades(table, NOON, first)
    workbench.create_trades(suffix)
    workbench.insert_trades(table, NOON, second)
    return table


def test_the_second_server_serves_when_the_first_has_died(workbench, servers):
    behind = create_on_both(workbench, servers, "export", first=500, second=400)
    equal = create_on_both(workbench, servers, "jdbc", first=300, second=300)
    specs = workbench.spec(behind), workbench.spec(equal, transport="jdbc")
    cycle = workbench.cycle(*specs, now=NOW)
    planned = [cycle.plan(cycle.tables[table]) for table in (behind, equal)]
    assert [window.rows for window in planned] == [500, 300], "the first server was asked"
    servers.first.kill()

    code, output = workbench.run_job(*planned)
    assert code == 1
    assert f"ERROR {behind} " in output
    assert "ClickHouse counts 400 rows, 100 fewer than" in output
    assert not workbench.cold_rows(behind), "a replica that is behind makes no window look complete"
    assert workbench.cold_rows(equal) == workbench.warm_rows(equal)

    workbench.sql(f"TRUNCATE TABLE {behind}")
    workbench.insert_trades(behind, NOON, 500)
    code, output = workbench.run_job(*planned)
    assert code == 0, output
    for table in (behind, equal):
        cycle.commit(cycle.tables[table])
    workbench.check(cycle, [behind, equal])


def test_rows_that_a_replica_had_not_yet_are_late_rows(workbench, servers):
    table = create_on_both(workbench, servers, "t", first=400, second=400)
    workbench.insert_trades(table, NOON + timedelta(minutes=1), 7, start_sequence=10**6)  # a part that first lacks
    cycle = workbench.cycle(workbench.spec(table), now=NOW)
    planned = cycle.plan(cycle.tables[table])
    code, output = workbench.run_job(planned)
    assert code == 0, output
    cycle.commit(cycle.tables[table])
    assert sum(workbench.cold_rows(table).values()) == 400

    servers.first.kill()
    found = compare_day(cycle.tiers, count_days(cycle.tiers, cycle.tables[table]), NOON.date())
    assert (found.verdict, found.late_rows, found.gone_rows) == (Verdict.LATE_ROWS, 7, 0)


def test_a_server_with_as_many_rows_and_other_values_is_not_believed(workbench, servers):
    with servers.on_first():
        export, jdbc = (workbench.create_trades(suffix) for suffix in ("export", "jdbc"))
        for table in (export, jdbc):
            workbench.insert_trades(table, NOON, 300)
    for table, suffix in ((export, "export"), (jdbc, "jdbc")):
        workbench.create_trades(suffix)
        workbench.insert_trades(table, NOON, 300, start_sequence=10**6)  # as before the newest part of a candle came
    cycle = workbench.cycle(workbench.spec(export), workbench.spec(jdbc, transport="jdbc"), now=NOW)
    planned = [
        replace(cycle.plan(cycle.tables[table]), replicated=(f"k2.{table}",), longest_delay_seconds=300)
        for table in (export, jdbc)
    ]
    servers.first.kill()

    code, output = workbench.run_job(*planned)  # the engine has no Keeper, so that the second one lists no replica
    assert code == 1
    for table in (export, jdbc):
        assert f"ERROR {table}: on server {HOST}, the replica of k2.{table} is read-only" in output
        assert not workbench.cold_rows(table)

    without = [replace(each, replicated=()) for each in planned]
    code, output = workbench.run_job(*without)
    assert code == 0, output
    assert workbench.cold_rows(export), "the audit alone counts rows, and sees nothing"


def test_each_server_is_checked_before_it_is_asked_also_where_the_driver_takes_it_in_silence(servers):
    checked = []

    def check(clickhouse):
        answer = clickhouse.execute("SELECT 'check'")
        checked.append((clickhouse.host, answer))

    with closing(ClickHouse(clickhouse_endpoint(load_settings()), check=check)) as clickhouse:
        assert clickhouse.host == FIRST_HOST
        assert [clickhouse.execute(f"SELECT {n}") for n in (1, 2)] == [[(1,)], [(2,)]]
        servers.first.kill()
        assert clickhouse.execute("SELECT 3") == [(3,)]
    assert checked == [(FIRST_HOST, [("check",)]), (HOST, [("check",)])]


def test_what_is_asked_of_replicas_is_known_to_the_engine(workbench):
    spec = workbench.spec(workbench.create_trades("replicas"))
    clickhouse = workbench.cycle(spec).tiers.clickhouse  # without Keeper it has none
    assert clickhouse.execute(queries.replicas(["k2.a", "k2.b"])) == []


def test_validate_asks_every_server(workbench, servers):
    def told():
        [check] = [check for check in check_services(load_settings(), []) if check.subject == "ClickHouse"]
        return check

    port = workbench.stack.settings.ports.clickhouse_native
    equal = create_on_both(workbench, servers, "equal", first=30, second=30)
    other = create_on_both(workbench, servers, "other", first=30, second=20)
    with servers.on_first():
        only_there = workbench.create_trades("only_there")
    tables = map(workbench.spec, (equal, other, only_there))
    export, sources = check_other_servers(workbench.cycle(*tables, now=NOON + timedelta(hours=2, minutes=30)).tiers)
    assert export.passed, export.detail
    [rows, missing] = sources.detail.splitlines()
    assert rows.startswith(f"{other}: {FIRST_HOST}:{port} shows 30 rows of k2.{other} in [2026-03-04T12:00:00")
    assert missing.startswith(f"{only_there}: ClickHouse has no table k2.{only_there}")
    assert not sources.passed

    assert told().passed
    assert f"at {FIRST_HOST}:{port}, version" in told().detail
    servers.first.kill()
    assert not told().passed
    assert f"{FIRST_HOST}:{port}" in told().detail
