from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedded.feed.messages import Exchange, Trade
from embedded.feed.recording import (
    BadInput,
    Extent,
    build_messages,
    check_symbol,
    measure,
    read_trades,
    shift_to_end_at,
)

BINANCE = """\
trade_id,timestamp_ms,price,quantity,side
13519807,1570752011620,0.00141342,23,sell
13519808,1570752011620,0.00141266,54.10,buy
"""
KRAKEN = """\
timestamp_s,price,quantity
1672531436,90.540000,1.10448420
1672533909.000001,90.000000,0.05000000
1672533909.000001,90.010000,0.55555555
1672533910,90.000000,0.05000000
"""
decimal_texts = st.from_regex(r"[0-9]{0,19}[1-9](\.[0-9]{1,18})?", fullmatch=True)
times_micros = st.integers(946_684_800_000_000, 4_102_444_799_999_999)
trades = st.builds(Trade, times_micros, decimal_texts, decimal_texts, st.sampled_from(["buy", "sell"]), st.integers(0))


def read(text: str, exchange: Exchange = "kraken") -> list[Trade]:
    return list(read_trades(text.splitlines(keepends=True), exchange))


def test_a_file_with_every_column() -> None:
    assert read(BINANCE, "binance") == [
        Trade(1_570_752_011_620_000, "0.00141342", "23", "sell", 13_519_807),
        Trade(1_570_752_011_620_000, "0.00141266", "54.10", "buy", 13_519_808),
    ]


def test_without_ids_trades_are_numbered_and_without_sides_all_are_buys() -> None:
    assert read(KRAKEN)[:2] == [
        Trade(1_672_531_436_000_000, "90.540000", "1.10448420", "buy", 1),
        Trade(1_672_533_909_000_001, "90.000000", "0.05000000", "buy", 2),
    ]


def test_the_order_of_columns_and_blank_lines_do_not_matter() -> None:
    text = "quantity,price,timestamp_s\n\n1.10448420,90.540000,1672531436\n\n"
    assert read(text) == read(KRAKEN)[:1]


@given(decimal_texts, decimal_texts, times_micros)
def test_every_digit_of_a_row_is_kept(price: str, quantity: str, time_micros: int) -> None:
    time_text = f"{time_micros // 1000}.{time_micros % 1000:03d}"
    [trade] = read(f"timestamp_ms,price,quantity\n{time_text},{price},{quantity}\n")
    assert trade == Trade(time_micros, price, quantity, "buy", 1)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the file is empty"),
        ("timestamp_s,price\n", "column 'quantity' is missing"),
        ("price,quantity\n", "exactly one of the columns timestamp_ms and timestamp_s"),
        ("timestamp_s,timestamp_ms,price,quantity\n", "exactly one of the columns timestamp_ms and timestamp_s"),
        ("timestamp_s,price,quantity,fee\n", "unknown column 'fee'; known are timestamp_ms, timestamp_s, price"),
        ("timestamp_s,price,quantity,price\n", "column 'price' is there twice"),
        ("timestamp_s,price,quantity\n1672531436,1\n", "line 2: 2 values for 3 columns"),
        ("timestamp_s,price,quantity\n1672531436,1,1\n\n1672531436,1,1,1\n", "line 4: 4 values for 3 columns"),
        ("timestamp_s,price,quantity\nyesterday,1,1\n", "line 2: time 'yesterday' is not a number"),
        ("timestamp_s,price,quantity\n1672531436000,1,1\n", "line 2: time '1672531436000' is not between the years"),
        ("timestamp_ms,price,quantity\n1672531436,1,1\n", "line 2: time '1672531436' is not between the years"),
        ("timestamp_s,price,quantity\n1672531436.0000001,1,1\n", "line 2: time '1672531436.0000001' is finer than"),
        ("timestamp_s,price,quantity\n1672531436,1e3,1\n", "line 2: price '1e3' is not a positive decimal number"),
        ("timestamp_s,price,quantity\n1672531436,-1,1\n", "line 2: price '-1' is not"),
        ("timestamp_s,price,quantity\n1672531436,,1\n", "line 2: price '' is not"),
        ("timestamp_s,price,quantity\n1672531436,1,0.00\n", "line 2: quantity '0.00' is not"),
        (
            "timestamp_s,price,quantity\n1672531436,1,0.1234567890123456789\n",
            "line 2: quantity '0.1234567890123456789'",
        ),
        ("timestamp_s,price,quantity\n1672531436,\u0661,1\n", "line 2: price '\u0661' is not"),
        ("timestamp_s,price,quantity,side\n1672531436,1,1,B\n", "line 2: side 'B' is neither 'buy' nor 'sell'"),
        ("timestamp_s,price,quantity,trade_id\n1672531436,1,1,x7\n", "line 2: trade_id 'x7' is not a whole number"),
        ('timestamp_s,price,quantity\n1672531436,1,"1\n', "line 2: not CSV: unexpected end of data"),
    ],
)
def test_bad_input_is_named(text: str, complaint: str) -> None:
    with pytest.raises(BadInput) as raised:
        read(text)
    assert str(raised.value).startswith(complaint)


def test_a_time_that_binance_messages_cannot_carry_is_refused() -> None:
    with pytest.raises(BadInput, match=r"line 3: time '1672533909.000001' is finer .* carry: 1000 microseconds"):
        read(KRAKEN, "binance")


def test_the_extent_spans_all_times_whatever_their_order() -> None:
    read_backwards = list(reversed(read(KRAKEN)))
    assert measure(read_backwards) == Extent(4, 1_672_531_436_000_000, 1_672_533_910_000_000)


def test_a_header_alone_is_no_recording() -> None:
    with pytest.raises(BadInput, match="there is no trade below the header line"):
        measure(read("timestamp_s,price,quantity\n"))


@given(st.lists(times_micros, min_size=1), times_micros)
def test_a_shift_puts_the_last_trade_at_the_end_within_a_millisecond(times: list[int], end_micros: int) -> None:
    extent = Extent(len(times), min(times), max(times))
    shift_micros = shift_to_end_at(extent, end_micros)
    assert 0 <= end_micros - extent.shifted(shift_micros).last_micros < 1000
    assert shift_micros % 1000 == 0


@given(st.lists(trades), st.integers(-(10**11), 10**11))
def test_all_trades_are_in_the_messages_and_equally_shifted(recorded: list[Trade], shift_millis: int) -> None:
    shift_micros = shift_millis * 1000
    messages = build_messages(recorded, "kraken", "XBT/USD", shift_micros)
    entries = [entry for message in messages for entry in json.loads(message.text)[1]]
    assert [(entry[0], entry[1], int(Decimal(entry[2]) * 1_000_000)) for entry in entries] == [
        (trade.price, trade.quantity, trade.time_micros + shift_micros) for trade in recorded
    ]


def test_neighbours_at_the_same_time_share_a_message_of_krakens_and_none_of_binances() -> None:
    recorded = read(KRAKEN)
    assert [message.trade_count for message in build_messages(recorded, "kraken", "BCH/EUR", 0)] == [1, 2, 1]
    assert [message.trade_count for message in build_messages(recorded, "binance", "BCHEUR", 0)] == [1, 1, 1, 1]


@pytest.mark.parametrize(
    ("exchange", "symbol"), [("binance", "XRPETH"), ("binance", "1INCHUSDT"), ("kraken", "XBT/USD")]
)
def test_symbols_as_exchanges_write_them(exchange: Exchange, symbol: str) -> None:
    check_symbol(exchange, symbol)


@pytest.mark.parametrize(("exchange", "symbol"), [("binance", "XRP/ETH"), ("binance", "xrpeth"), ("kraken", "XBTUSD")])
def test_other_symbols_are_refused(exchange: Exchange, symbol: str) -> None:
    with pytest.raises(BadInput, match=f"'{symbol}' is no symbol of {exchange}, which writes them like"):
        check_symbol(exchange, symbol)
