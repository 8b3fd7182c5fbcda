from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_driver import Client

from tests.stack.embedded.feed.support import (
    RecordedTrade,
    binance_message,
    insert,
    kraken_message,
    now_millis,
    recorded_trades,
    select,
)

INTERVALS = {"1m": 60, "5m": 300, "15m": 900, "30m": 1800, "1h": 3600, "1d": 86_400}
DAY = timedelta(days=1)


def computed_candles(trades: Sequence[RecordedTrade], interval_seconds: int) -> list[tuple[Any, ...]]:
    """The candles of trades of one symbol, by the definition."""
    windows: dict[int, list[RecordedTrade]] = defaultdict(list)
    for trade in sorted(trades, key=lambda trade: (trade.time_millis, trade.trade_id)):
        windows[trade.time_millis // 1000 // interval_seconds * interval_seconds].append(trade)
    candles = []
    for start_seconds, inside in sorted(windows.items()):
        start = datetime.fromtimestamp(start_seconds, UTC)
        prices, quantities = zip(*(trade.price_and_quantity for trade in inside), strict=True)
        candles.append(
            (
                *(start, start + timedelta(seconds=interval_seconds), "binance", "XRP/ETH"),
                *(prices[0], max(prices), min(prices), prices[-1]),
                sum(quantities),
                sum(price * quantity for price, quantity in zip(prices, quantities, strict=True)),
                len(inside),
            )
        )
    return candles


def in_one_insert(client: Client, trades: Sequence[RecordedTrade]) -> None:
    insert(client, "binance", [trade.message for trade in trades])


def in_many_inserts(client: Client, trades: Sequence[RecordedTrade]) -> None:
    for start in range(0, len(trades), 400):
        in_one_insert(client, trades[start : start + 400])


def shuffled_in_many_inserts(client: Client, trades: Sequence[RecordedTrade]) -> None:
    in_many_inserts(client, random.Random(3).sample(trades, len(trades)))  # noqa: S311


@pytest.mark.parametrize("insert_trades", [in_one_insert, in_many_inserts, shuffled_in_many_inserts])
def test_candles_are_right_in_whatever_way_the_trades_come_in(clickhouse: Client, insert_trades: Any) -> None:
    trades = recorded_trades()
    insert_trades(clickhouse, trades)
    for interval, seconds in INTERVALS.items():
        candles = select(clickhouse, f"SELECT * FROM ohlcv_{interval} ORDER BY window_start")
        assert candles == computed_candles(trades, seconds), interval
        clickhouse.execute("OPTIMIZE TABLE candles FINAL")
        assert select(clickhouse, f"SELECT * FROM ohlcv_{interval} ORDER BY window_start") == candles, interval


def test_a_late_trade_changes_its_candle(clickhouse: Client) -> None:
    minute_millis = (now_millis() - 3_600_000) // 60_000 * 60_000
    insert(clickhouse, "binance", [binance_message(T=minute_millis + 30_000, t=5, p="100", q="1")])
    insert(clickhouse, "binance", [binance_message(T=minute_millis + 10_000, t=4, p="90", q="2")])
    insert(clickhouse, "binance", [binance_message(T=minute_millis + 20_000, t=3, p="120", q="3")])
    row = select(clickhouse, "SELECT open, high, low, close, volume, quote_volume, trade_count FROM ohlcv_1m")
    assert row == [(Decimal(90), Decimal(120), Decimal(90), Decimal(100), Decimal(6), Decimal(640), 3)]


def test_a_trade_on_the_boundary_opens_the_next_candle(clickhouse: Client) -> None:
    boundary_micros = (now_millis() - 3_600_000) // 60_000 * 60_000_000
    times = [f"{micros // 1_000_000}.{micros % 1_000_000:06d}" for micros in (boundary_micros - 1, boundary_micros)]
    insert(clickhouse, "kraken", [kraken_message(*[["1", "1", time, "b"] for time in times])])
    windows = select(clickhouse, "SELECT window_start, window_end FROM ohlcv_1m ORDER BY window_start")
    boundary = datetime.fromtimestamp(boundary_micros // 1_000_000, UTC)
    minute = timedelta(minutes=1)
    assert windows == [(boundary - minute, boundary), (boundary, boundary + minute)]


@pytest.mark.parametrize("seed", range(5))
def test_trades_alike_but_for_their_price_give_the_same_candle_in_any_order(clickhouse: Client, seed: int) -> None:
    millis = now_millis()
    messages = [binance_message(T=millis, t=1, p=str(price)) for price in (100, 101, 102)]
    for message in random.Random(seed).sample(messages, 3):  # noqa: S311
        insert(clickhouse, "binance", [message])
    assert select(clickhouse, "SELECT open, close FROM ohlcv_1h") == [(Decimal(100), Decimal(102))]


def test_trades_at_the_same_time_are_ordered_by_sequence_number_as_a_number(clickhouse: Client) -> None:
    millis = now_millis()
    insert(clickhouse, "binance", [binance_message(T=millis, t=10, p="2"), binance_message(T=millis, t=9, p="5")])
    assert select(clickhouse, "SELECT open, close FROM ohlcv_1h") == [(Decimal(5), Decimal(2))]


def test_the_trades_of_a_kraken_message_are_ordered_as_in_the_message(clickhouse: Client) -> None:
    time = f"{now_millis() // 1000}.5"
    prices = ["7", "1", "9", "8", "2", "6", "5", "4", "3", "11", "12", "10"]
    insert(clickhouse, "kraken", [kraken_message(*[[price, "1", time, "b"] for price in prices])])
    assert select(clickhouse, "SELECT open, close FROM ohlcv_1h") == [(Decimal(7), Decimal(10))]


def test_exchanges_and_symbols_have_candles_of_their_own(clickhouse: Client) -> None:
    seconds = now_millis() // 1000
    insert(clickhouse, "binance", [binance_message(s=symbol, T=seconds * 1000) for symbol in ("ETHBTC", "XRPBTC")])
    insert(clickhouse, "kraken", [kraken_message(["1", "1", str(seconds), "b"], pair="ETH/XBT")])
    rows = select(clickhouse, "SELECT exchange, symbol, trade_count FROM ohlcv_1d ORDER BY exchange, symbol")
    assert rows == [("binance", "ETH/BTC", 1), ("binance", "XRP/BTC", 1), ("kraken", "ETH/BTC", 1)]


@pytest.fixture
def six_days(clickhouse: Client) -> datetime:
    """Midnight before the last of six days with a trade at every hour; all candles of a day lie in one part."""
    midnight = datetime.fromtimestamp(now_millis() / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    first = midnight - 5 * DAY
    for day in range(6):
        hours = [int((first + day * DAY + timedelta(hours=hour)).timestamp() * 1000) for hour in range(23)]
        insert(clickhouse, "binance", [binance_message(T=hour, t=hour) for hour in hours])
    clickhouse.execute("OPTIMIZE TABLE candles FINAL")
    return midnight


@pytest.mark.parametrize("column", ["window_start", "window_end"])
def test_a_query_by_window_reads_only_the_parts_of_its_day(clickhouse: Client, six_days: datetime, column: str) -> None:
    low, high = six_days - 2 * DAY + timedelta(hours=6), six_days - 2 * DAY + timedelta(hours=12)
    query = f"SELECT * FROM ohlcv_5m WHERE {column} >= '{low:%F %T}' AND {column} < '{high:%F %T}'"
    assert len(select(clickhouse, query)) == 6
    parts = "SELECT count() FROM system.parts WHERE database = currentDatabase() AND table = 'candles' AND active"
    [(part_count,)] = select(clickhouse, parts)
    [(_, table, parts_read, _, _)] = select(clickhouse, f"EXPLAIN ESTIMATE {query}")
    assert (table, parts_read) == ("candles", 1)
    assert part_count >= 6
