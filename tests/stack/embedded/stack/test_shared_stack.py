"""The fixture that other stack tests are built on."""

from __future__ import annotations

import subprocess

import psycopg

from tests.support import SharedStack


def test_tables_are_there(stack: SharedStack) -> None:
    with stack.clickhouse_client() as client:
        tables = {name for (name,) in client.execute("SHOW TABLES")}
    assert {"bronze_trades_binance", "bronze_trades_kraken", "silver_trades", "ohlcv_1m", "ohlcv_1d"} <= tables


def test_both_databases_answer(stack: SharedStack) -> None:
    with psycopg.connect(stack.ledger_dsn) as ledger, psycopg.connect(stack.iceberg_dsn) as catalog:
        assert ledger.execute("SELECT count(*) > 0 FROM alembic_version").fetchone() == (True,)
        assert catalog.execute("SELECT current_database()").fetchone() == ("iceberg",)


def test_airflow_command_uses_this_stack(stack: SharedStack) -> None:
    shown = subprocess.run(
        ["airflow", "connections", "get", "k2_clickhouse", "-o", "json"],
        env=stack.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert f'"port": {stack.settings.ports.clickhouse_native}' in shown.stdout.replace('"port": "', '"port": '), (
        shown.stderr
    )
