"""Five scenarios that need neither Airflow's processes nor a Spark of their own: `make test` goes through these."""

from __future__ import annotations

from datetime import timedelta

ELSEWHERE = '{"conn_type": "clickhouse", "host": "127.0.0.1", "port": 1}'


def test_a_service_does_not_answer(runbook, monkeypatch):
    scenario = runbook("offload-failure.md#a-service-is-down")
    assert scenario.prometheus.firing() & {("K2ServiceDown", "clickhouse"), ("K2MetricsDown", "")} == set()
    scenario.insert(timedelta(minutes=20))
    with monkeypatch.context() as broken:
        broken.setenv("AIRFLOW_CONN_ELSEWHERE", ELSEWHERE)
        broken.setenv("AIRFLOW__K2_OFFLOAD__CLICKHOUSE_CONN_ID", "elsewhere")
        scenario.fires("K2ServiceDown", "clickhouse")
        assert "Airflow connection 'elsewhere'" in scenario.check()
    scenario.clears("K2ServiceDown", "clickhouse")
    scenario.verify()
    scenario.tables_equal()


def test_prometheus_gets_no_answer(runbook, monkeypatch):
    scenario = runbook("offload-failure.md#there-are-no-metrics")
    with monkeypatch.context() as broken:
        broken.setenv("AIRFLOW__K2_OFFLOAD__METRICS_TOKEN", "another one")
        scenario.fires("K2MetricsDown", "")
        error = scenario.prometheus.scrape_error()
        assert any(code in error for code in ("401", "403")), error
        scenario.fix()
    scenario.clears("K2MetricsDown", "")
    scenario.verify()
    scenario.tables_equal()


def test_the_table_file_names_no_column(runbook):
    scenario = runbook("offload-failure.md#a-table-does-not-move")
    scenario.insert(timedelta(minutes=20))
    right = scenario.spec
    scenario.use(scenario.entry(timestamp_column="no_such_column"))
    scenario.fires("K2TableStopped")
    assert "no_such_column" in scenario.check()
    scenario.use(right)
    scenario.clears("K2TableStopped")
    scenario.verify()
    scenario.tables_equal()


def test_rows_wait_for_too_long(runbook):
    scenario = runbook("performance.md#cold-lag-is-high")
    scenario.insert(timedelta(minutes=50))
    scenario.fires("K2LagHigh")
    assert scenario.table in scenario.check()
    scenario.fix()
    scenario.clears("K2LagHigh")
    scenario.verify()
    scenario.tables_equal()


def test_a_window_is_planned_and_not_published(runbook):
    scenario = runbook("offload-failure.md#a-window-fails-again-and-again")
    scenario.insert(timedelta(minutes=20))
    scenario.fail_windows(3)
    scenario.fires("K2WindowFailsAgain")
    assert "planned and not published" in scenario.check()
    scenario.verify()
    scenario.clears("K2WindowFailsAgain")
    while scenario.workbench.move(scenario.cycle, scenario.table):  # it was made smaller: the next cycles move the rest
        pass
    scenario.tables_equal()
