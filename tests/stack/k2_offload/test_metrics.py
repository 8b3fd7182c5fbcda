"""The scrape against what it speaks of: the chain of snapshots, the ledger, and services that are away."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from prometheus_client.parser import text_string_to_metric_families

from k2_offload.core.exactly_once import WindowId
from k2_offload.core.limits import CONNECT_SECONDS
from k2_offload.web.metrics_route import latest_observation, router
from tests.support.cycles import table_file


@pytest.fixture
def scrape(monkeypatch, tmp_path):
    """Gives the samples of tables, as Prometheus would get them now: by name and labels."""
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__METRICS_TOKEN", "of-prometheus")
    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__TABLES_FILE", str(tmp_path / "tables.yaml"))
    app = FastAPI()
    app.include_router(router)

    def ask(*specs):
        (tmp_path / "tables.yaml").write_text(table_file(specs))
        latest_observation.cache_clear()
        answer = TestClient(app).get("/metrics", headers={"Authorization": "Bearer of-prometheus"})
        assert answer.status_code == 200, answer.text
        return {
            (sample.name, *(sample.labels[label] for label in sorted(sample.labels) if label != "table")): sample.value
            for family in text_string_to_metric_families(answer.text)
            for sample in family.samples
        }

    yield ask
    latest_observation.cache_clear()


def test_the_scrape_says_what_the_chain_says_and_what_is_away(workbench, scrape, monkeypatch):
    start = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)
    table = workbench.create_trades()
    workbench.sql(f"ALTER TABLE {table} MODIFY TTL toDateTime(at) + INTERVAL 7 DAY")
    spec = workbench.spec(table)
    for hours, rows in ((0, 1000), (1, 40)):
        workbench.insert_trades(table, start + timedelta(hours=hours), rows, start_sequence=hours * 1000)
        workbench.move(workbench.cycle(spec), table)

    found = scrape(spec)
    cold = workbench.cold_table(table)
    windows = {
        WindowId.parse(shot.summary["wap.id"]).window.high: shot
        for shot in cold.metadata.snapshots
        if shot.summary["wap.id"]
    }
    assert len(windows) == 2
    assert found["k2_moved_rows",] == sum(int(shot.summary["added-records"]) for shot in windows.values()) == 1040
    assert found["k2_moved_bytes",] == sum(int(shot.summary["added-files-size"]) for shot in windows.values())
    assert found["k2_watermark_timestamp_seconds",] == max(windows).timestamp()
    assert found["k2_windows", "committed"] == 2
    assert 0 < found["k2_window_duration_p50_seconds",] <= found["k2_window_duration_p99_seconds",] < 120
    assert found["k2_cold_rows",] == len(workbench.cold_rows(table)) == 1040
    assert found["k2_snapshots",] == len(cold.metadata.snapshots)
    files = found["k2_data_files", "today"] + found["k2_data_files", "closed"]
    assert files == len(workbench.files_referred_to(table))
    assert found["k2_staged_snapshots",] == 0
    assert 0 < found["k2_last_window_duration_seconds", "move"] < 120
    waited = (
        datetime.now(UTC) - start - timedelta(hours=1)
    )  # by the second window's first row; the first begins in 2000
    assert found["k2_publication_lag_p99_seconds",] == pytest.approx(waited.total_seconds(), abs=120)
    assert (found["k2_lag_seconds",], found["k2_feed_silent",]) == (0, 1)
    assert {found["k2_service_up", service] for service in ("airflow", "catalog", "clickhouse", "ledger")} == {1}
    assert found["k2_lake_free_bytes",] > 0
    with psycopg.connect(workbench.stack.ledger_dsn) as airflow:
        [(has_run,)] = airflow.execute("SELECT count(*) > 0 FROM dag_run WHERE dag_id = 'k2_reconcile'")
    assert (("k2_last_run_start_timestamp_seconds", "k2_reconcile") in found) is has_run

    workbench.insert_trades(table, start + timedelta(hours=2), 10, start_sequence=5000)
    cycle = workbench.cycle(spec)
    assert cycle.plan(cycle.tables[table])
    cycle.commit(cycle.tables[table])
    found = scrape(spec)
    assert (found["k2_table_failed", "unpublished"], found["k2_table_failed", "other"]) == (1, 0)
    assert (found["k2_window_failures_in_a_row",], found["k2_windows_open",]) == (1, 1)
    assert found["k2_lag_seconds",] == pytest.approx(3600, abs=300)
    assert found["k2_ttl_remaining_seconds",] == pytest.approx(7 * 86400 - 3600, abs=300)

    monkeypatch.setenv("AIRFLOW__K2_OFFLOAD__CLICKHOUSE_CONN_ID", "elsewhere")
    monkeypatch.setenv("AIRFLOW_CONN_ELSEWHERE", '{"conn_type": "clickhouse", "host": "127.0.0.1", "port": 1}')
    began = time.monotonic()
    found = scrape(spec)
    assert time.monotonic() - began < CONNECT_SECONDS
    assert (found["k2_service_up", "clickhouse"], found["k2_service_up", "catalog"]) == (0, 1)
    assert found["k2_watermark_timestamp_seconds",] == max(windows).timestamp()
    assert ("k2_lag_seconds",) not in found
