from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import pytest
from clickhouse_driver import Client, errors

from embedded.stack.schema import SCHEMA_DIRECTORY, apply_schema
from tests.stack.embedded.feed.support import binance_message, insert, select
from tests.support import SharedStack

ROOT = Path(__file__).parents[4]


def test_applying_the_schema_again_changes_nothing(clickhouse: Client) -> None:
    insert(clickhouse, "binance", [binance_message()])
    tables = "SELECT name, uuid, create_table_query FROM system.tables WHERE database = currentDatabase() ORDER BY name"
    before = select(clickhouse, tables)
    apply_schema(clickhouse)
    assert select(clickhouse, tables) == before
    assert select(clickhouse, "SELECT count() FROM bronze_trades_binance") == [(1,)]


def test_every_table_that_stores_rows_drops_whole_parts_after_seven_days(clickhouse: Client) -> None:
    stored = select(
        clickhouse,
        "SELECT name, engine_full FROM system.tables WHERE database = currentDatabase() AND engine LIKE '%MergeTree'",
    )
    assert {name for name, _ in stored} == {
        "bronze_trades_binance",
        "bronze_trades_kraken",
        "candles",
        "rejected_messages",
        "silver_trades",
    }
    for name, engine in stored:
        assert "toIntervalDay(7)" in engine, name
        assert "ttl_only_drop_parts = 1" in engine, name


BRONZE = [
    ("exchange_timestamp", "DateTime64(6, 'UTC')"),
    ("sequence_number", "UInt64"),
    ("exchange", "LowCardinality(String)"),
    ("symbol", "LowCardinality(String)"),
    ("price", "Decimal(38, 18)"),
    ("quantity", "Decimal(38, 18)"),
    ("side", "LowCardinality(String)"),
    ("trade_id", "String"),
    ("ingested_at", "DateTime64(6, 'UTC')"),
    ("raw_message", "String"),
]
SILVER = [
    ("exchange_timestamp", "DateTime64(6, 'UTC')"),
    ("exchange", "LowCardinality(String)"),
    ("symbol", "LowCardinality(String)"),
    ("base_asset", "LowCardinality(String)"),
    ("quote_asset", "LowCardinality(String)"),
    ("price", "Decimal(38, 18)"),
    ("quantity", "Decimal(38, 18)"),
    ("quote_volume", "Decimal(38, 18)"),
    ("side", "LowCardinality(String)"),
    ("trade_id", "String"),
    ("sequence_number", "UInt64"),
    ("ingested_at", "DateTime64(6, 'UTC')"),
]
CANDLES = [
    ("window_start", "DateTime64(6, 'UTC')"),
    ("window_end", "DateTime64(6, 'UTC')"),
    ("exchange", "LowCardinality(String)"),
    ("symbol", "LowCardinality(String)"),
    ("open", "Decimal(38, 18)"),
    ("high", "Decimal(38, 18)"),
    ("low", "Decimal(38, 18)"),
    ("close", "Decimal(38, 18)"),
    ("volume", "Decimal(38, 18)"),
    ("quote_volume", "Decimal(38, 18)"),
    ("trade_count", "UInt64"),
]


@pytest.mark.parametrize(
    ("table", "columns"),
    [
        ("bronze_trades_binance", BRONZE),
        ("bronze_trades_kraken", BRONZE),
        ("silver_trades", SILVER),
        *((f"ohlcv_{interval}", CANDLES) for interval in ("1m", "5m", "15m", "30m", "1h", "1d")),
    ],
)
def test_readers_find_these_columns_of_plain_types(
    clickhouse: Client, table: str, columns: list[tuple[str, str]]
) -> None:
    assert [row[:2] for row in select(clickhouse, f"DESCRIBE TABLE {table}")] == columns


def test_queues_of_a_broker_take_the_place_of_the_embedded_ones(stack: SharedStack, tmp_path: Path) -> None:
    """chDB 26.9 reports an error for a Kafka table that it has made; what did not come to be stops the schema."""
    shutil.copytree(SCHEMA_DIRECTORY, tmp_path, dirs_exist_ok=True)
    script = (ROOT / "docker/clickhouse/10_message_queues.sql").read_text()
    # Named collections need a server's configuration: the engine has none here.
    broker = "kafka_broker_list = '127.0.0.1:1',"
    plain = script.replace("Kafka(k2_broker)\nSETTINGS", f"Kafka\nSETTINGS {broker}")
    name = f"kafka_{uuid.uuid4().hex}"
    with stack.clickhouse_client(database="default") as client:
        client.execute(f"CREATE DATABASE {name}")
        try:
            with stack.clickhouse_client(database=name) as inside:
                queues = tmp_path / "10_message_queues.sql"
                queues.write_text(plain.replace("(message String)", "(message Nothing42)"))
                with pytest.raises(errors.ServerException, match="Nothing42"):
                    apply_schema(inside, tmp_path)
                queues.write_text(plain)
                apply_schema(inside, tmp_path)
                made = inside.execute(
                    "SELECT engine, count() FROM system.tables WHERE database = currentDatabase() GROUP BY engine"
                )
        finally:
            client.execute(f"DROP DATABASE {name}")
    assert plain.count(broker) == 2
    assert dict(made)["Kafka"] == 2
    assert sum(count for _, count in made) == 29
