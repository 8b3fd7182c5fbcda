"""Services, the network, clocks and disks."""

from __future__ import annotations

import json
from collections import namedtuple
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

from airflow.sdk import BaseHook

from k2_offload.adapters.settings import load_settings
from tests.proxy import Proxy
from tests.stack.k2_offload.runbooks.test_alerts import ELSEWHERE

DISK_FULL = """
CREATE FUNCTION k2_offload.no_space() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = 'disk_full'; END $$;
CREATE TRIGGER no_space BEFORE INSERT OR UPDATE ON k2_offload.offload_windows
FOR EACH ROW EXECUTE FUNCTION k2_offload.no_space();
"""


def test_clickhouse_is_away_for_a_day(runbook, monkeypatch):
    scenario = runbook("offload-failure.md#clickhouse-was-away-for-a-day", ago=timedelta(hours=27))
    with monkeypatch.context() as broken:
        broken.setenv("AIRFLOW_CONN_ELSEWHERE", ELSEWHERE)
        broken.setenv("AIRFLOW__K2_OFFLOAD__CLICKHOUSE_CONN_ID", "elsewhere")
        scenario.fires("K2ServiceDown", "clickhouse")
    scenario.clears("K2ServiceDown", "clickhouse")
    for hours in (24, 18, 12, 6, 2):
        scenario.insert(timedelta(hours=hours))
    scenario.fires("K2LagVeryHigh")
    scenario.check()
    scenario.fix()
    scenario.clears("K2LagVeryHigh")
    scenario.verify()
    scenario.tables_equal()


def test_the_network_to_the_catalog_is_cut(runbook, monkeypatch):
    scenario = runbook("offload-failure.md#the-network-was-cut")
    scenario.insert(timedelta(minutes=20))
    real = BaseHook.get_connection(load_settings().catalog_conn_id)
    with Proxy(real.port) as proxy, monkeypatch.context() as far:
        fields = {key: getattr(real, key) for key in ("conn_type", "host", "login", "password", "schema")}
        connection = fields | {"port": proxy.port, "extra": real.extra_dejson}
        far.setenv("AIRFLOW_CONN_FAR_CATALOG", json.dumps(connection))
        far.setenv("AIRFLOW__K2_OFFLOAD__CATALOG_CONN_ID", "far_catalog")
        proxy.unplug()
        scenario.fires("K2ServiceDown", "catalog")
        assert "far_catalog" in scenario.check()
        proxy.forward()
        scenario.clears("K2ServiceDown", "catalog")
        scenario.verify()
    scenario.tables_equal()


def test_airflows_clock_is_two_minutes_behind(runbook, monkeypatch):
    scenario = runbook("offload-failure.md#the-clocks-differ")
    late = SimpleNamespace(now=lambda zone: datetime.now(zone) - timedelta(minutes=2))
    with monkeypatch.context() as broken:
        broken.setattr("k2_offload.work.tiers.datetime", late)
        scenario.fires("K2ClocksDiffer", "")
        assert "clock" in scenario.check()
    scenario.clears("K2ClocksDiffer", "")
    scenario.verify()
    scenario.tables_equal()


def test_the_lakes_disk_is_full(runbook, monkeypatch):
    scenario = runbook("maintenance.md#the-disk-is-full")
    usage = namedtuple("usage", ("total", "used", "free"))(100, 98, 2)
    with monkeypatch.context() as broken:
        broken.setattr("k2_offload.work.observe.shutil", SimpleNamespace(disk_usage=lambda _: usage))
        scenario.fires("K2DiskFull", "")
        scenario.fires("K2DiskAlmostFull", "")
    scenario.clears("K2DiskFull", "")
    scenario.clears("K2DiskAlmostFull", "")
    scenario.verify()
    scenario.tables_equal()


def test_postgres_has_no_space_left(runbook):
    scenario = runbook("maintenance.md#postgres-is-full")
    scenario.insert(timedelta(minutes=50))
    scenario.airflow(DISK_FULL)
    try:
        scenario.fires("K2LagHigh")
        assert "No space left on device" in scenario.check()
    finally:
        scenario.airflow("DROP FUNCTION k2_offload.no_space CASCADE")
    scenario.verify()
    scenario.clears("K2LagHigh")
    scenario.tables_equal()


def test_the_feed_has_stopped(runbook):
    scenario = runbook("watermark.md#a-feed-is-silent", ago=timedelta(hours=8))
    scenario.fires("K2FeedSilent")
    assert "no new rows since" in scenario.check()
    scenario.insert(timedelta(minutes=10))
    scenario.clears("K2FeedSilent")
    scenario.k2("run", scenario.table)
    scenario.verify()
    scenario.tables_equal()


def test_all_timestamps_have_the_wrong_unit(runbook):
    scenario = runbook("watermark.md#a-feed-is-silent", rows=0)
    scenario.insert(-timedelta(days=3650))
    scenario.fires("K2SourceEmpty")
    assert "future" in scenario.check()
    scenario.workbench.sql(f"ALTER TABLE {scenario.table} DELETE WHERE at > now() SETTINGS mutations_sync = 2")
    scenario.insert(timedelta(minutes=10))
    scenario.clears("K2SourceEmpty")
    scenario.k2("run", scenario.table)
    scenario.verify()
    scenario.tables_equal()


def test_an_audit_finds_a_row_that_was_changed(runbook):
    scenario = runbook("consistency.md#an-audit-of-everything")
    change = f"ALTER TABLE {scenario.table} UPDATE price = price {{}} 1 WHERE sequence = 5 SETTINGS mutations_sync = 2"
    scenario.workbench.sql(change.format("+"))
    assert f"{datetime.now(UTC):%Y}" in scenario.check()
    scenario.workbench.sql(change.format("-"))
    scenario.verify()
    scenario.k2("verify")
    scenario.tables_equal()
