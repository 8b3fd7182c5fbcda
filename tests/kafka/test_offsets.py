"""Apache Kafka feeds the ClickHouse engine: every message arrives, and each gap that is made is found."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from clickhouse_driver import Client
from confluent_kafka import Consumer, Producer

from k2_offload.adapters.broker import Broker
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.table_file import load_tables
from k2_offload.core.connections import ClickHouseEndpoint
from k2_offload.core.offsets import OffsetKind, OffsetRange, Partition
from k2_offload.files import TABLES_FILE
from k2_offload.work.offsets import compare_offsets
from tests.kafka.support import AHEAD_SECONDS, TOPICS, KafkaServer, connect_queues, count, wait_until
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


def test_the_ends_of_transactions_are_no_gaps_and_are_asked_for_at_once(
    broker: KafkaServer, clickhouse: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits, before = 300, count(clickhouse, "message_offsets")
    producer = Producer({"bootstrap.servers": broker.address, "transactional.id": "exactly-once"})
    producer.init_transactions(30)
    for number in range(commits):
        producer.begin_transaction()
        for partition in range(2):
            trade = ["1.5", str(1000 + 2 * number + partition), f"{now_millis() / 1000:.6f}", "s", "l", ""]
            at = int(1000 * (time.time() + AHEAD_SECONDS))
            producer.produce(TOPICS["kraken"], kraken_message(trade).encode(), partition=partition, timestamp=at)
        producer.commit_transaction(30)
    wait_until(lambda: count(clickhouse, "message_offsets") == before + 2 * commits)
    opened = []

    def open_consumer(settings: Any) -> Consumer:
        opened.append(settings)
        return Consumer(settings)

    monkeypatch.setattr("confluent_kafka.Consumer", open_consumer)
    assert find(clickhouse, broker, "kraken") == set()
    assert len(opened) <= 1 + 2 * 2, "one for the topic; for each partition, one for its gaps and one for its end"
    assert len(find(clickhouse, None, "kraken")) == 2 * (commits - 1)
    of_partition = "topic LIKE '%kraken' AND partition = 0"
    sent = clickhouse.execute(f"SELECT offset FROM message_offsets WHERE {of_partition} ORDER BY offset")[-commits:]
    lost = [offset for (offset,) in (sent[7], sent[100], sent[-1])]
    clickhouse.execute(f"DELETE FROM message_offsets WHERE {of_partition} AND offset IN {tuple(lost)}")
    assert find(clickhouse, broker, "kraken") == {(0, str(offset), OffsetKind.MISSING) for offset in lost}


def test_a_consumer_reads_only_the_ranges_that_are_asked_for(broker: KafkaServer) -> None:
    broker.create("k2.long", 1)
    broker.send("k2.long", ["m"] * 30_000, partition=0)
    asked = [OffsetRange(10, 12), OffsetRange(200, 200), OffsetRange(29_000, 29_001), OffsetRange(29_999, 30_500)]
    found, complete = Broker({"bootstrap.servers": broker.address}).messages(Partition("k2.long", 0), asked)
    assert complete
    assert list(found) == [10, 11, 12, 200, 29_000, 29_001, 29_999]
