from __future__ import annotations

import json
from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from embedded.feed.messages import Trade, binance_message, kraken_message, seconds_text

decimal_texts = st.from_regex(r"[0-9]{1,20}(\.[0-9]{1,18})?", fullmatch=True)
trades = st.builds(
    Trade,
    time_micros=st.integers(0, 4_102_444_799_999_999),
    price=decimal_texts,
    quantity=decimal_texts,
    side=st.sampled_from(["buy", "sell"]),
    trade_id=st.integers(0, 2**63),
)


def test_a_binance_message_is_spelled_as_binance_spells_it() -> None:
    trade = Trade(1_570_752_011_620_000, "0.00141342", "23.00000000", "sell", 13_519_807)
    assert binance_message("XRPETH", trade, sent_micros=1_570_752_011_625_999).text == (
        '{"e":"trade","E":1570752011625,"s":"XRPETH","t":13519807,"p":"0.00141342","q":"23.00000000",'
        '"T":1570752011620,"m":true,"M":true}'
    )


def test_a_kraken_message_is_spelled_as_kraken_spells_it() -> None:
    trades = [
        Trade(1_534_614_057_321_597, "5541.20000", "0.15850568", "sell", 1),
        Trade(1_534_614_057_324_998, "6060.00000", "0.02455000", "buy", 2),
    ]
    message = kraken_message("XBT/USD", 337, trades, sent_micros=1_534_614_057_400_000)
    assert message.text == (
        '[337,[["5541.20000","0.15850568","1534614057.321597","s","m",""],'
        '["6060.00000","0.02455000","1534614057.324998","b","m",""]],"trade","XBT/USD"]'
    )
    assert message.trade_count == 2


@given(trades, st.text())
def test_binance_messages_keep_every_digit(trade: Trade, symbol: str) -> None:
    fields = json.loads(binance_message(symbol, trade, trade.time_micros).text)
    assert (fields["s"], fields["p"], fields["q"], fields["t"]) == (symbol, trade.price, trade.quantity, trade.trade_id)
    assert fields["T"] == trade.time_micros // 1000
    assert fields["m"] is (trade.side == "sell")


@given(st.lists(trades, min_size=1), st.text())
def test_kraken_messages_keep_every_digit_and_the_order(together: list[Trade], symbol: str) -> None:
    channel_id, entries, channel, pair = json.loads(kraken_message(symbol, 42, together, 0).text)
    assert (channel_id, channel, pair) == (42, "trade", symbol)
    assert [entry[:2] for entry in entries] == [[trade.price, trade.quantity] for trade in together]
    assert [Decimal(entry[2]) * 1_000_000 for entry in entries] == [trade.time_micros for trade in together]
    assert [entry[3] for entry in entries] == [trade.side[0] for trade in together]


@given(st.integers(0, 4_102_444_799_999_999))
def test_seconds_are_exact_to_the_microsecond(micros: int) -> None:
    text = seconds_text(micros)
    assert Decimal(text) * 1_000_000 == micros
    assert len(text.partition(".")[2]) == 6
