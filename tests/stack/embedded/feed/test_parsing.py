"""From raw messages to bronze: what is kept, how exactly, and what becomes of the rest."""

from __future__ import annotations

import json
import random
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_driver import Client

from tests.stack.embedded.feed.support import (
    binance_message,
    insert,
    kraken_message,
    messages_of_days,
    now_millis,
    select,
)


def rejections(client: Client) -> list[tuple[str, str, str]]:
    return select(client, "SELECT exchange, reason, raw_message FROM rejected_messages ORDER BY raw_message")


def numbered(refused: list[tuple[str, str]]) -> list[str]:
    """Names for messages that hold the time of the moment, in which workers differ."""
    return [f"{number} {reason}" for number, (_, reason) in enumerate(refused)]


def at_micros(micros: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=micros)


def test_a_binance_trade_bare_and_in_a_combined_streams_envelope(clickhouse: Client) -> None:
    millis = now_millis()
    bare = binance_message(T=millis, t=7, m=True)
    wrapped = json.dumps({"stream": "btcusdt@trade", "data": json.loads(binance_message(T=millis + 1, t=8, m=False))})
    insert(clickhouse, "binance", [bare, wrapped])
    rows = select(clickhouse, "SELECT * EXCEPT (ingested_at) FROM bronze_trades_binance ORDER BY sequence_number")
    price, quantity = Decimal("0.00141342"), Decimal("23.5")
    assert rows == [
        (at_micros(millis * 1000), 7, "binance", "BTCUSDT", price, quantity, "sell", "7", bare),
        (at_micros((millis + 1) * 1000), 8, "binance", "BTCUSDT", price, quantity, "buy", "8", wrapped),
    ]
    assert rejections(clickhouse) == []


def test_a_kraken_message_with_several_trades(clickhouse: Client) -> None:
    seconds = now_millis() // 1000
    message = kraken_message(
        ["5541.20000", "0.15850568", f"{seconds}.321597", "s", "l", ""],
        ["6060.00000", "0.02455000", f"{seconds}.324998", "b", "m", ""],
        ["6060.00000", "0.02455000", f"{seconds}.324998", "b"],
    )
    insert(clickhouse, "kraken", [message])
    rows = select(clickhouse, "SELECT * EXCEPT (trade_id, ingested_at) FROM bronze_trades_kraken ORDER BY trade_id")
    first, second = at_micros(seconds * 1_000_000 + 321_597), at_micros(seconds * 1_000_000 + 324_998)
    assert rows == [
        (first, 337, "kraken", "XBT/USD", Decimal("5541.2"), Decimal("0.15850568"), "sell", message),
        (second, 337, "kraken", "XBT/USD", Decimal("6060"), Decimal("0.02455"), "buy", message),
        (second, 337, "kraken", "XBT/USD", Decimal("6060"), Decimal("0.02455"), "buy", message),
    ]
    assert rejections(clickhouse) == []


def test_kraken_trade_ids_tell_trades_apart_and_are_the_same_for_the_same_message(clickhouse: Client) -> None:
    trade = ["5541.20000", "0.15850568", f"{now_millis() // 1000}.321597", "s"]
    twelve = kraken_message(*[trade] * 12)
    insert(clickhouse, "kraken", [twelve, kraken_message(trade)])
    insert(clickhouse, "kraken", [twelve])
    ids = [row[0] for row in select(clickhouse, "SELECT trade_id FROM bronze_trades_kraken ORDER BY trade_id")]
    assert len(ids) == 25
    assert len(set(ids)) == 13
    of_twelve = [trade_id for trade_id in ids if ids.count(trade_id) == 2][::2]
    assert [trade_id.partition("-")[2] for trade_id in of_twelve] == [f"{place:04d}" for place in range(1, 13)]


def test_times_are_exact_to_the_microsecond(clickhouse: Client) -> None:
    start_micros = now_millis() * 1000 - 3_600_000_000
    # Of these microseconds, many change when they go through a float.
    micros = [start_micros + step for step in range(0, 2_000_003, 997)]
    insert(
        clickhouse,
        "kraken",
        [kraken_message(["1", "1", f"{each // 1_000_000}.{each % 1_000_000:06d}", "b"]) for each in micros],
    )
    stored = select(
        clickhouse, "SELECT toUnixTimestamp64Micro(exchange_timestamp) FROM bronze_trades_kraken ORDER BY 1"
    )
    assert [row[0] for row in stored] == micros


@pytest.mark.parametrize(("text", "micros"), [("", 0), (".5", 500_000), (".000001", 1), (".99999", 999_990)])
def test_times_with_fewer_decimals(clickhouse: Client, text: str, micros: int) -> None:
    seconds = now_millis() // 1000
    insert(clickhouse, "kraken", [kraken_message(["1", "1", f"{seconds}{text}", "b"])])
    assert select(clickhouse, "SELECT toUnixTimestamp64Micro(exchange_timestamp) FROM bronze_trades_kraken") == [
        (seconds * 1_000_000 + micros,)
    ]


def test_prices_and_quantities_are_exact_to_the_last_digit(clickhouse: Client) -> None:
    randomness = random.Random(20190721)  # noqa: S311
    values = ["0.000000000000000001", "12345678901234567890.123456789012345678", "99999999999999999999", "0.1", "1.10"]
    for _ in range(500):
        digits, decimals = randomness.randint(1, 20), randomness.randint(1, 18)
        values.append(f"{randomness.randrange(10**digits)}.{randomness.randrange(1, 10**decimals):0{decimals}d}")
    tiny, seconds = "0.000000000000000001", now_millis() // 1000
    insert(
        clickhouse,
        "binance",
        [binance_message(t=number, p=value, q=tiny) for number, value in enumerate(values)]
        + [binance_message(t=number + 1000, p=tiny, q=value) for number, value in enumerate(values)],
    )
    insert(clickhouse, "kraken", [kraken_message(*[[value, tiny, f"{seconds}", "b"] for value in values])])
    for table, column, order in [
        ("binance", "price", "sequence_number LIMIT 505"),
        ("binance", "quantity", "sequence_number LIMIT 505 OFFSET 505"),
        ("kraken", "price", "trade_id"),
    ]:
        stored = select(clickhouse, f"SELECT {column} FROM bronze_trades_{table} ORDER BY {order}")
        assert [row[0] for row in stored] == [Decimal(value) for value in values]
    assert rejections(clickhouse) == []


def test_a_message_that_comes_twice_is_two_rows(clickhouse: Client) -> None:
    message = binance_message()
    insert(clickhouse, "binance", [message, message])
    insert(clickhouse, "binance", [message])
    assert select(clickhouse, "SELECT count() FROM bronze_trades_binance") == [(3,)]


def test_a_block_with_trades_of_more_days_than_clickhouse_takes_by_itself_arrives(clickhouse: Client) -> None:
    days = 102  # its own limit of partitions of one block is 100
    insert(clickhouse, "binance", messages_of_days(days))
    for table in ("bronze_trades_binance", "silver_trades", "ohlcv_1d"):
        assert select(clickhouse, f"SELECT count() FROM {table}") == [(days,)]


NOT_DECIMAL = "is not a positive decimal text that Decimal(38, 18) holds exactly"
BAD_TIME = "trade time is missing, finer than a microsecond, or outside [2000, 2100)"


BINANCE_REFUSED = [
    ("", "not a JSON object"),
    ("hello", "not a JSON object"),
    ('{"e":"trade","s":"BTCUSDT"', "not a JSON object"),
    ("[1,2]", "not a JSON object"),
    ('{"stream":"btcusdt@trade","data":null}', "not a JSON object"),
    ('{"result":null,"id":1}', "not a trade event"),
    (binance_message(e="aggTrade"), "not a trade event"),
    (binance_message(t=None), "trade id is not a whole number"),
    (binance_message(t="123"), "trade id is not a whole number"),
    (binance_message(t=-1), "trade id is not a whole number"),
    (binance_message(t=1.5), "trade id is not a whole number"),
    (binance_message(s=None), "no symbol"),
    (binance_message(T=None), BAD_TIME),
    (binance_message(T=now_millis() * 1000), BAD_TIME),
    (binance_message(T=now_millis() // 1000), BAD_TIME),
    (binance_message(T=10**18), BAD_TIME),
    (binance_message(p=None), f"price {NOT_DECIMAL}"),
    (binance_message(p=0.5), f"price {NOT_DECIMAL}"),
    (binance_message(p="0.0"), f"price {NOT_DECIMAL}"),
    (binance_message(p="-1"), f"price {NOT_DECIMAL}"),
    (binance_message(p="1e3"), f"price {NOT_DECIMAL}"),
    (binance_message(p="0.1234567890123456789"), f"price {NOT_DECIMAL}"),
    (binance_message(p="123456789012345678901"), f"price {NOT_DECIMAL}"),
    (binance_message(q=1), f"quantity {NOT_DECIMAL}"),
    (binance_message(q="NaN"), f"quantity {NOT_DECIMAL}"),
    (binance_message(p="99999999999999999999", q="1.1"), "price times quantity overflows Decimal(38, 18)"),
    (binance_message(m=None), "side is neither buy nor sell"),
    (binance_message(m="true"), "side is neither buy nor sell"),
]


@pytest.mark.parametrize(("message", "reason"), BINANCE_REFUSED, ids=numbered(BINANCE_REFUSED))
def test_what_is_no_usable_binance_trade_is_kept_aside_and_stops_nothing(
    clickhouse: Client, message: str, reason: str
) -> None:
    insert(clickhouse, "binance", [binance_message(t=1), message, binance_message(t=2)])
    assert rejections(clickhouse) == [("binance", reason, message)]
    assert select(clickhouse, "SELECT sequence_number FROM bronze_trades_binance ORDER BY 1") == [(1,), (2,)]


def good_trade(**changes: Any) -> list[Any]:
    fields = {"price": "1", "volume": "1", "time": f"{now_millis() // 1000}.000001", "side": "b"}
    return list((fields | changes).values())


KRAKEN_REFUSED = [
    ("", "not JSON"),
    ("[337,[[", "not JSON"),
    ('{"event":"heartbeat"}', "not a trade message"),
    ('{"connectionID":1,"event":"systemStatus","status":"online"}', "not a trade message"),
    ('[0,{"as":[["5541.3","2.5","1534614248.123678"]]},"book-100","XBT/USD"]', "not a trade message"),
    (kraken_message(), "no trades in the message"),
    ('[337,"nothing","trade","XBT/USD"]', "no trades in the message"),
    (kraken_message(good_trade(), channel_id="x"), "channel id is not a whole number"),
    (kraken_message(good_trade(), pair=None), "no symbol"),
    (kraken_message(good_trade(time=1534614057.321597)), BAD_TIME),
    (kraken_message(good_trade(time="1534614057.3215971")), BAD_TIME),
    (kraken_message(good_trade(time="soon")), BAD_TIME),
    (kraken_message(good_trade(price=5541.2)), f"price {NOT_DECIMAL}"),
    (kraken_message(good_trade(volume="")), f"quantity {NOT_DECIMAL}"),
    (kraken_message(good_trade(side="x")), "side is neither buy nor sell"),
    (kraken_message([]), BAD_TIME),
]


@pytest.mark.parametrize(("message", "reason"), KRAKEN_REFUSED, ids=numbered(KRAKEN_REFUSED))
def test_what_is_no_usable_kraken_trade_is_kept_aside_and_stops_nothing(
    clickhouse: Client, message: str, reason: str
) -> None:
    insert(clickhouse, "kraken", [kraken_message(good_trade()), message, kraken_message(good_trade())])
    assert rejections(clickhouse) == [("kraken", reason, message)]
    assert select(clickhouse, "SELECT count() FROM bronze_trades_kraken") == [(2,)]


def test_a_bad_trade_does_not_take_its_neighbours_in_the_message_along(clickhouse: Client) -> None:
    message = kraken_message(good_trade(price="1"), good_trade(price=2), good_trade(price="3"))
    insert(clickhouse, "kraken", [message])
    assert rejections(clickhouse) == [("kraken", f"price {NOT_DECIMAL}", message)]
    assert select(clickhouse, "SELECT price FROM bronze_trades_kraken ORDER BY 1") == [(Decimal(1),), (Decimal(3),)]
