"""A real Apache Kafka has messages, and ClickHouse does not get them."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta

import pytest
from clickhouse_driver.errors import ServerException

from tests.kafka.support import KafkaServer, wait_until
from tests.support.runbooks import RAW_MESSAGE

TIME = "fromUnixTimestamp64Micro(toInt64(extract(message, '^[0-9]+')), 'UTC')"
SILENT = timedelta(hours=6)
"""K2FeedSilent fires after it."""


@pytest.fixture
def broker(tmp_path):
    server = KafkaServer(tmp_path / "broker")
    server.folder.mkdir()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def make_queue(workbench, broker):
    """Gives what makes a table's topic, its queue, and the view that writes its offsets; returns the queue's name."""

    def make(table):
        broker.create(table)
        with suppress(ServerException):  # chDB 26.9 reports an error, and has made it
            workbench.sql(
                f"CREATE TABLE {table}_queue (message String) ENGINE = Kafka SETTINGS "
                f"kafka_broker_list = '{broker.address}', kafka_topic_list = '{table}', kafka_group_name = '{table}', "
                "kafka_format = 'RawBLOB'"
            )
        made.callback(workbench.sql, f"DROP TABLE {table}_queue SYNC")
        workbench.sql(
            f"CREATE MATERIALIZED VIEW message_offsets_{table} TO message_offsets AS SELECT '{table}' AS bronze_table, "
            "_topic AS topic, _partition AS partition, _offset AS offset, now64(6, 'UTC') AS received_at, "
            f"{TIME} AS first_trade_at, sipHash64(message) AS message_hash FROM {table}_queue"
        )
        made.callback(workbench.sql, f"DROP VIEW message_offsets_{table} SYNC")
        return f"{table}_queue"

    with ExitStack() as made:
        yield make


@pytest.mark.usefixtures("offsets_table")
def test_a_view_that_fails_holds_up_the_consumer(runbook, make_queue, broker, monkeypatch):
    scenario = runbook("watermark.md#clickhouse-gets-no-rows", rows=0, columns=RAW_MESSAGE)
    host, _, port = broker.address.partition(":")
    monkeypatch.setenv("AIRFLOW_CONN_K2_BROKER", f'{{"conn_type": "generic", "host": "{host}", "port": {port}}}')
    table, sql = scenario.table, scenario.workbench.sql
    queue, view = make_queue(table), f"{table}_view"
    scenario.workbench.resources.callback(sql, f"DROP VIEW {view} SYNC")

    def use_view(word):
        sql(f"DROP VIEW IF EXISTS {view} SYNC")
        sql(
            f"CREATE MATERIALIZED VIEW {view} TO {table} AS SELECT {TIME} AS at, toUInt64(splitByChar(' ', message)"
            f"[{word}]) AS sequence, 'BTC/USDT' AS symbol, toDecimal128(1, 18) AS price, "
            f"CAST(NULL AS Nullable(String)) AS note, message AS raw_message FROM {queue}"
        )

    def send(numbers, ago):
        micros = int((datetime.now(UTC) - ago).timestamp()) * 1_000_000
        broker.send(table, [f"{micros + number} {number}" for number in numbers])

    def rows():
        return sql(f"SELECT count() FROM {table}")[0][0]

    use_view(2)
    send(range(100), SILENT - timedelta(seconds=50))
    wait_until(lambda: rows() == 100)
    scenario.workbench.move(scenario.cycle, table)
    assert scenario.is_quiet("K2FeedSilent")
    use_view(3)
    send(range(100, 200), timedelta(hours=1))
    scenario.fires("K2FeedSilent")
    assert "no new rows since" in scenario.check()
    consumers = "SELECT groupArray(exceptions.text) FROM system.kafka_consumers"
    wait_until(lambda: "Cannot parse" in str(sql(consumers)))
    assert rows() == 100
    assert not scenario.is_quiet("K2FeedSilent")
    use_view(2)
    with suppress(ServerException):  # as above
        scenario.fix(bronze_trades_kraken_queue=queue)
    assert sql(f"EXISTS {queue}") == [(1,)]
    wait_until(lambda: rows() == 200)
    scenario.clears("K2FeedSilent")
    scenario.k2("run", table)
    scenario.verify()
    scenario.tables_equal()
