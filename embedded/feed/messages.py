"""Raw trade messages, spelled as the exchanges spell them.

Prices and quantities are decimal texts throughout and reach the message digit by digit. Times are whole microseconds
since 1970-01-01 UTC.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal, NamedTuple

Exchange = Literal["binance", "kraken"]
Side = Literal["buy", "sell"]

FINEST_TIME_MICROS: dict[Exchange, int] = {"binance": 1_000, "kraken": 1}
"""The time step of each exchange's messages."""


class Trade(NamedTuple):
    """One trade.

    :ivar time_micros: when it happened
    :ivar price: decimal text
    :ivar quantity: decimal text
    :ivar side: of the taker
    :ivar trade_id: the exchange's number for it; Kraken's messages have no place for one
    """

    time_micros: int
    price: str
    quantity: str
    side: Side
    trade_id: int


class Message(NamedTuple):
    """A raw message and what is known about it without parsing it again.

    :ivar trade_count: how many trades the text holds, at least one
    :ivar sent_micros: when the exchange sent it, after the trades in it
    """

    exchange: Exchange
    text: str
    trade_count: int
    sent_micros: int


def binance_message(symbol: str, trade: Trade, sent_micros: int) -> Message:
    """The message of one trade. Binance counts milliseconds: what is finer in the trade's time is cut off."""
    time_millis = trade.time_micros // 1000
    maker_bought = "true" if trade.side == "sell" else "false"
    text = (
        f'{{"e":"trade","E":{sent_micros // 1000},"s":{json.dumps(symbol)},"t":{trade.trade_id},"p":"{trade.price}",'
        f'"q":"{trade.quantity}","T":{time_millis},"m":{maker_bought},"M":true}}'
    )
    return Message("binance", text, 1, sent_micros)


def kraken_message(symbol: str, channel_id: int, trades: Sequence[Trade], sent_micros: int) -> Message:
    """One message for all ``trades``, in their order."""
    entries = ",".join(
        f'["{trade.price}","{trade.quantity}","{seconds_text(trade.time_micros)}","{trade.side[0]}","m",""]'
        for trade in trades
    )
    text = f'[{channel_id},[{entries}],"trade",{json.dumps(symbol)}]'
    return Message("kraken", text, len(trades), sent_micros)


def seconds_text(micros: int) -> str:
    """Microseconds as decimal seconds with six decimals, exactly: ``1534614057.321597``."""
    seconds, fraction = divmod(micros, 1_000_000)
    return f"{seconds}.{fraction:06d}"
