"""Apache Kafka feeds the ClickHouse engine: every message arrives, and each gap that is made is found."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_driver import Client

from k2_offload.adapters.broker import Broker
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.table_file import load_tables
from k2_offload.core.connections import ClickHouseEndpoint
from k2_offload.core.offsets import OffsetKind
from k2_offload.files import TABLES_FILE
from k2_offload.work.offsets import compare_offsets
from tests.kafka.support import TOPICS, KafkaServer, connect_queues, count, wait_until
from tests.stack.embedded.feed.support import binance_message, kraken_message, now_millis
from tests.stack.embedded.gateway.conftest import Gateway

TABLES = load_tables(TABLES_FILE).by_name


@pytest.fixture(scope="module")
def clickhouse(broker: KafkaServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    gateway = Gateway(tmp_path_factory.mktemp("gateway") / "data")
    gateway.start()
    yield connect_queues(gateway, broker, tmp_path_factory.mktemp("schema"))
    gateway.disconnect()
    gateway.stop()


class Tiers:
    """What a comparison asks; nothing is in the cold tier."""

    def __init__(self, client: Client, later: timedelta = timedelta(minutes=10)) -> None:
        self.clickhouse = ClickHouse(
            ClickHouseEndpoint("test", "127.0.0.1", client.connection.hosts[0][1], 0, "default", "", "k2", False)
        )
        self.clickhouse.now = self.now  # type: ignore[method-assign]
        self._later = later

    def now(self) -> datetime:
        return datetime.now(UTC) + self._later

    def load_cold(self, _: Any) -> None:
        return None


def find(client: Client, broker: KafkaServer | None, exchange: str = "binance") -> set[tuple[int, str, OffsetKind]]:
    asked = Broker({"bootstrap.servers": broker.address}) if broker else None
    report = compare_offsets(Tiers(client), TABLES[f"bronze_trades_{exchange}"], asked)
    assert report.kept
    assert report.problems == ()
    return {(each.partition.number, str(each.offsets), each.kind) for each in report.findings}


def test_messages_arrive_through_a_restart_and_seeded_gaps_are_found(broker: KafkaServer, clickhouse: Client) -> None:
    trades = [binance_message(t=number) for number in range(200)]
    broker.send(TOPICS["binance"], trades[:100])
    broker.send(
        TOPICS["kraken"],
        [kraken_message(["1.5", str(n + 1), f"{now_millis() / 1000:.6f}", "s", "l", ""]) for n in range(50)],
    )
    wait_until(lambda: count(clickhouse, "message_offsets") == 150)
    broker.stop()
    broker.start()
    broker.send(TOPICS["binance"], [*trades[100:150], "no JSON", "{", *trades[150:]])
    wait_until(lambda: count(clickhouse, "message_offsets") == 252)
    assert (count(clickhouse, "bronze_trades_binance"), count(clickhouse, "bronze_trades_kraken")) == (200, 50)
    rejected = clickhouse.execute(
        "SELECT raw_message, topic, partition, offset FROM rejected_message_offsets ORDER BY raw_message"
    )
    assert rejected == [("no JSON", TOPICS["binance"], 0, 75), ("{", TOPICS["binance"], 1, 75)]
    assert find(clickhouse, broker) == find(clickhouse, broker, "kraken") == find(clickhouse, None) == set()

    # Never reached ClickHouse: an inner range, and the end of a partition.
    clickhouse.execute(
        "DELETE FROM message_offsets WHERE topic LIKE '%binance' AND partition = 0 AND offset IN (10, 11, 12, 40)"
    )
    clickhouse.execute("DELETE FROM message_offsets WHERE topic LIKE '%binance' AND partition = 1 AND offset >= 99")
    # Rows that bronze has lost.
    clickhouse.execute("DELETE FROM bronze_trades_binance WHERE sequence_number IN (0, 2, 8)")
    # Delivered again.
    clickhouse.execute(
        "INSERT INTO message_offsets SELECT * REPLACE (received_at + 1 AS received_at) FROM message_offsets "
        "WHERE topic LIKE '%binance' AND partition = 1 AND offset BETWEEN 20 AND 29"
    )
    inner = {(0, "10 to 12"), (0, "40")}
    bronze = {(0, "0 to 1", OffsetKind.NOT_IN_BRONZE), (0, "4", OffsetKind.NOT_IN_BRONZE)}
    again = {(1, "20 to 29", OffsetKind.REPEATED)}
    tail = {(1, "99 to 100", OffsetKind.MISSING)}
    assert find(clickhouse, broker) == {(*each, OffsetKind.MISSING) for each in inner} | bronze | again | tail
    assert find(clickhouse, None) == {(*each, OffsetKind.UNCHECKED) for each in inner} | bronze | again
    broker.delete_before(TOPICS["binance"], 0, 11)
    across = {(0, "10", OffsetKind.UNKNOWN), (0, "11 to 12", OffsetKind.MISSING)}
    assert find(clickhouse, broker) == {*across, (0, "40", OffsetKind.MISSING), *(bronze | again | tail)}
    broker.delete_before(TOPICS["binance"], 0, 30)
    old = {(0, "10 to 12", OffsetKind.UNKNOWN), (0, "40", OffsetKind.MISSING)} | bronze | again | tail
    assert find(clickhouse, broker) == old

    # Of a topic that went, and of one that was made anew.
    for change, offset in (("'gone' AS topic", 5), ("1098 AS offset", 98)):
        clickhouse.execute(
            f"INSERT INTO message_offsets SELECT * REPLACE ({change}) FROM (SELECT * FROM message_offsets "
            f"WHERE topic LIKE '%binance' AND partition = 1 AND offset = {offset})"
        )
    assert find(clickhouse, broker) == {
        *old,
        *((1, "5", OffsetKind.NO_PARTITION), (1, "101 to 1098", OffsetKind.ANEW)),
    }

    clickhouse.execute("DROP VIEW message_offsets_binance_mv")
    asked = compare_offsets(Tiers(clickhouse), TABLES["bronze_trades_binance"], None)
    assert "No view writes" in asked.problems[0]
