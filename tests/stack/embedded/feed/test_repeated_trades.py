"""A broker delivers at least once: bronze keeps every message, silver and candles take a trade once."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from tests.stack.embedded.conftest import new_database
from tests.stack.embedded.feed.support import (
    binance_message,
    insert,
    kraken_message,
    now_millis,
    recorded_trades,
    select,
)
from tests.support import SharedStack

SILVER = "SELECT * EXCEPT ingested_at FROM silver_trades ORDER BY ALL"
CANDLES = "SELECT * FROM ohlcv ORDER BY ALL"
NO_CONSTRAINT = "ALTER TABLE {} DROP CONSTRAINT refused"


@pytest.fixture
def fresh(stack: SharedStack) -> Iterator[Client]:
    """A client in a database of the test's own: the order of views may hang on how they were made."""
    with new_database(stack) as name, stack.clickhouse_client(database=name) as inside:
        yield inside


def state(client: Client) -> tuple[list[Any], list[Any]]:
    return select(client, SILVER), select(client, CANDLES)


@pytest.mark.parametrize("seed", range(3))
def test_whatever_comes_again_in_whatever_blocks_changes_neither_silver_nor_candles(
    clickhouse: Client, seed: int
) -> None:
    chance = random.Random(seed)  # noqa: S311
    seconds = now_millis() // 1000
    messages = {
        "binance": [trade.message for trade in recorded_trades()[-300:]],
        "kraken": [
            kraken_message(*[[str(1 + number), "1", f"{seconds - number}.5", "b"]] * (1 + number % 3))
            for number in range(100)
        ],
    }
    for exchange, each in messages.items():
        insert(clickhouse, exchange, each)
    once = state(clickhouse)
    assert len(once[0]) == 300 + 34 * 1 + 33 * 2 + 33 * 3
    clickhouse.execute("TRUNCATE TABLE silver_trades")
    clickhouse.execute("TRUNCATE TABLE candles")

    delivered = sum(map(len, messages.values()))
    for exchange, each in messages.items():
        position = 0
        while position < len(each):
            taken = chance.randrange(1, 80)
            block = each[position : position + taken]
            again = chance.choices(each[: position + taken], k=chance.randrange(0, 40))
            insert(clickhouse, exchange, chance.sample(block + again, len(block) + len(again)))
            delivered += len(block) + len(again)
            position += taken
    assert state(clickhouse) == once
    [(bronze,)] = select(clickhouse, "SELECT uniqExact(raw_message) FROM bronze_trades_binance")
    assert bronze == 300
    [(bronze,)] = select(
        clickhouse,
        "SELECT (SELECT count() FROM bronze_trades_binance)"
        " + (SELECT sum(1 / JSONLength(raw_message, 2)) FROM bronze_trades_kraken)",
    )
    assert round(bronze) == delivered


@pytest.mark.parametrize(
    "changes", [{"p": "2"}, {"q": "2"}, {"m": False}, {"T": now_millis() - 1000}, {"s": "ETHUSDT"}]
)
def test_a_trade_that_differs_in_anything_is_another_one(clickhouse: Client, changes: dict[str, Any]) -> None:
    message = {"T": now_millis(), "t": 7, "p": "1", "q": "1"}
    for _ in range(2):
        insert(clickhouse, "binance", [binance_message(**message), binance_message(**(message | changes))])
    assert select(clickhouse, "SELECT count() FROM silver_trades") == [(2,)]
    assert select(clickhouse, "SELECT sum(trade_count) FROM ohlcv_1d") == [(2,)]


@pytest.mark.parametrize("_trial", range(4))
def test_a_block_that_breaks_off_never_leaves_silver_with_a_trade_that_candles_have_not(
    fresh: Client, _trial: int
) -> None:
    block = [binance_message(t=number) for number in range(3)]
    for refusing, candles_first, candles_then in (("candles", 0, 3), ("silver_trades", 3, 6)):
        fresh.execute("TRUNCATE TABLE candles")
        fresh.execute("TRUNCATE TABLE silver_trades")
        fresh.execute(f"ALTER TABLE {refusing} ADD CONSTRAINT refused CHECK exchange != 'binance'")
        with pytest.raises(ServerException, match="refused"):
            insert(fresh, "binance", block)
        assert select(fresh, "SELECT count() FROM silver_trades") == [(0,)]
        assert select(fresh, "SELECT sum(trade_count) FROM ohlcv_1d") == [(candles_first,)]
        fresh.execute(NO_CONSTRAINT.format(refusing))
        for _ in range(2):
            insert(fresh, "binance", block)
        assert select(fresh, "SELECT count() FROM silver_trades") == [(3,)]
        assert select(fresh, "SELECT sum(trade_count) FROM ohlcv_1d") == [(candles_then,)]


def test_a_block_reads_little_of_what_silver_has(clickhouse: Client) -> None:
    """A view whose subquery read all of bronze, or all of silver, would be right and slow."""
    kept_rows = 2_000_000
    clickhouse.execute(
        "INSERT INTO silver_trades (exchange_timestamp, exchange, symbol, price, quantity, side, trade_id) "
        "SELECT now64(6) - number / 100, 'binance', 'S' || toString(number % 20), 1, 1, 'buy', toString(number) "
        f"FROM numbers({kept_rows})"
    )
    selected = "SELECT sum(value) FROM system.events WHERE event = 'SelectedRows'"
    [(before,)] = select(clickhouse, selected)
    inside = now_millis() - 5_000_000
    insert(clickhouse, "binance", [binance_message(t=number, T=inside, s=f"S{number}") for number in range(20)])
    [(after,)] = select(clickhouse, selected)
    assert 0 < after - before < kept_rows / 2
