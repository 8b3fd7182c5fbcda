"""A broker delivers at least once: bronze keeps every message, silver and candles take a trade once."""

from __future__ import annotations

import random
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clickhouse_driver import Client
from clickhouse_driver.errors import ServerException

from embedded.stack.schema import SCHEMA_DIRECTORY, apply_schema
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
from tests.support.pages import DOCS

SILVER = "SELECT * EXCEPT ingested_at FROM silver_trades ORDER BY ALL"
CANDLES = "SELECT * FROM ohlcv ORDER BY ALL"
PAGE = (DOCS / "production.md").read_text()
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


def statements(client: Client, heading: str, day: str = "") -> Iterator[str]:
    """Those of a section of the page, in the database of the client."""
    [(database,)] = select(client, "SELECT currentDatabase()")
    [sql] = re.findall(r"^```sql\n(.*?)^```", PAGE.partition(f"### {heading}")[2].partition("\n##")[0], re.M | re.S)
    for statement in sql.replace("k2.", f"{database}.").replace("2026-11-26", day).split(";\n"):
        if statement:
            yield statement


def test_candles_that_counted_trades_too_often_are_counted_anew_as_the_page_says(fresh: Client) -> None:
    trades = [trade.message for trade in recorded_trades()[-200:]]
    insert(fresh, "binance", trades)
    right = state(fresh)
    fresh.execute("ALTER TABLE silver_trades ADD CONSTRAINT refused CHECK trade_id != '77'")
    for _ in range(3):
        with pytest.raises(ServerException, match="refused"):
            insert(fresh, "binance", [trades[0], binance_message(s="XRPETH", t=77)])
    assert state(fresh)[1] != right[1]
    fresh.execute(NO_CONSTRAINT.format("silver_trades"))
    insert(fresh, "binance", [binance_message(s="XRPETH", t=78)])

    for (day,) in select(fresh, "SELECT DISTINCT toString(toDate(window_start)) FROM candles"):
        for statement in statements(fresh, "Candles that are wrong", day):
            fresh.execute(statement)
    [(trades_of_candles,)] = select(fresh, "SELECT sum(trade_count) FROM ohlcv_1d")
    assert [(trades_of_candles,)] == select(fresh, "SELECT count() FROM silver_trades") == [(201,)]
    insert(fresh, "binance", [trades[0], binance_message(s="XRPETH", t=79)])
    assert select(fresh, "SELECT sum(trade_count) FROM ohlcv_1d") == [(202,)]
    assert select(fresh, "SELECT count() FROM silver_trades") == [(202,)]


def test_the_views_of_a_version_before_give_way_as_the_page_says(fresh: Client, tmp_path: Path) -> None:
    old = tmp_path / "old"
    old.mkdir()
    fresh.execute(
        "DROP VIEW silver_trades_binance_mv, silver_trades_kraken_mv, candles_mv, new_trades_mv, summed_trades_mv, "
        "silver_trades_mv"
    )
    fresh.execute("DROP TABLE canonical_trades, new_trades, summed_trades")
    silver, candles = (SCHEMA_DIRECTORY / name for name in ("50_silver_trades.sql", "60_candles.sql"))
    (old / silver.name).write_text(silver.read_text().replace("TO canonical_trades", "TO silver_trades"))
    (old / candles.name).write_text(candles.read_text().replace("new_trades", "silver_trades"))
    apply_schema(fresh, old)
    trade = binance_message(t=1)
    insert(fresh, "binance", [trade])
    insert(fresh, "binance", [trade])
    assert select(fresh, "SELECT count() FROM silver_trades") == [(2,)]

    for statement in statements(fresh, "From the views of a version before"):
        fresh.execute(statement)
    new = tmp_path / "new"
    new.mkdir()
    for number in (50, 55, 60):
        [script] = SCHEMA_DIRECTORY.glob(f"{number}_*.sql")
        shutil.copy(script, new)
    apply_schema(fresh, new)
    for exchange in ("binance", "kraken"):
        fresh.execute(f"ATTACH TABLE bronze_trades_{exchange}_queue")
    apply_schema(fresh)
    for _ in range(2):
        insert(fresh, "binance", [trade, binance_message(t=2, T=now_millis() // 1000 * 1000)])
    assert select(fresh, "SELECT count() FROM silver_trades") == select(fresh, "SELECT sum(trade_count) FROM ohlcv_1d")
    assert select(fresh, "SELECT uniqExact(trade_id) FROM silver_trades") == [(2,)]


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
