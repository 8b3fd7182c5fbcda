"""The engine is killed while it reads a real broker, and reads all again: silver and candles take a trade once."""

from __future__ import annotations

import random
from pathlib import Path

from tests.kafka.support import TOPICS, KafkaServer, connect_queues, count, detached, kill_and_start, wait_until
from tests.stack.embedded.feed.support import binance_message, now_millis
from tests.stack.embedded.gateway.conftest import Gateway

MESSAGES = 60_000
KILLS = 2


def test_a_killed_engine_and_a_group_that_is_set_back(
    broker: KafkaServer, own_gateway: Gateway, tmp_path: Path
) -> None:
    chance = random.Random(5)  # noqa: S311
    own_gateway.start()
    client = connect_queues(own_gateway, broker, tmp_path / "schema")
    first_millis = now_millis() - MESSAGES
    messages = [binance_message(t=number, T=first_millis + number) for number in range(MESSAGES)]
    for kill in range(KILLS):
        broker.send(TOPICS["binance"], messages[kill * MESSAGES // KILLS : (kill + 1) * MESSAGES // KILLS])
        reached = chance.randrange(kill * MESSAGES // KILLS, (kill + 1) * MESSAGES // KILLS)
        wait_until(lambda client=client, reached=reached: count(client, "bronze_trades_binance") > reached)
        client = kill_and_start(own_gateway, tmp_path / "schema")

    def trades() -> tuple[int, int, int]:
        [(silver, distinct, candles)] = client.execute(
            "SELECT (SELECT count() FROM silver_trades), (SELECT uniqExact(trade_id) FROM silver_trades), "
            "(SELECT sum(trade_count) FROM ohlcv_1d)"
        )
        return silver, distinct, candles

    wait_until(lambda: trades()[1] == MESSAGES)
    silver, distinct, candles = trades()
    assert (silver, distinct) == (MESSAGES, MESSAGES)
    assert candles >= MESSAGES
    bronze = count(client, "bronze_trades_binance")
    print(f"{bronze - MESSAGES} came again after {KILLS} kills; candles count {candles - MESSAGES} trades twice")

    with detached(client, "binance"):
        wait_until(lambda: broker.seek("k2_clickhouse_binance", TOPICS["binance"], 0))
    wait_until(lambda: count(client, "bronze_trades_binance") >= bronze + MESSAGES)
    assert trades() == (silver, distinct, candles)
