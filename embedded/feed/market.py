"""A made-up market: an endless, reproducible stream of trade messages.

What real feeds do and simple generators leave out is in it: trades of one order share a time, activity comes in bursts,
and messages are late now and then, so that times run slightly backwards. The same arguments give the same messages.
"""

from __future__ import annotations

import math
from bisect import bisect
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from random import Random

from embedded.feed.messages import Exchange, Message, Side, Trade, binance_message, kraken_message

LATEST_MICROS = 2_000_000
"""No trade reaches its message later than this after it happened."""

_TRADES_PER_ORDER = 1.6
_PRICE_MOVE_PER_SQRT_SECOND = 1e-4
_USUAL_DELAY_MICROS = 30_000
_LATE_SHARE = 0.03

# Activity alternates between the two; their average, weighted by duration, is 1.
_CALM_SECONDS, _CALM_ACTIVITY = 2.0, 0.6
_BURST_SECONDS, _BURST_ACTIVITY = 0.2, 5.0


@dataclass(frozen=True)
class Instrument:
    """What is traded, and how.

    :ivar price: where the random walk starts
    :ivar price_decimals: the tick size, as the number of decimals
    :ivar written_decimals: decimals of the prices in messages: the exchange pads with zeros
    :ivar quantity: the median quantity of a trade
    :ivar quantity_decimals: the lot size, as the number of decimals; messages always have eight
    :ivar activity: its share of all orders, relative to the others'
    """

    exchange: Exchange
    symbol: str
    price: float
    price_decimals: int
    written_decimals: int
    quantity: float
    quantity_decimals: int
    activity: float


INSTRUMENTS = (
    Instrument("binance", "BTCUSDT", 64_210.0, 2, 8, 0.004, 5, 26),
    Instrument("binance", "ETHUSDT", 3_150.0, 2, 8, 0.06, 4, 20),
    Instrument("binance", "SOLUSDT", 148.0, 2, 8, 1.2, 3, 12),
    Instrument("binance", "XRPUSDT", 0.52, 4, 8, 180.0, 0, 8),
    Instrument("binance", "DOGEUSDT", 0.124, 5, 8, 900.0, 0, 7),
    Instrument("binance", "ETHBTC", 0.049, 5, 8, 0.2, 4, 4),
    Instrument("binance", "XRPETH", 0.000165, 7, 8, 300.0, 0, 1),
    Instrument("kraken", "XBT/USD", 64_200.0, 1, 5, 0.006, 8, 9),
    Instrument("kraken", "ETH/USD", 3_149.0, 2, 5, 0.08, 8, 6),
    Instrument("kraken", "XBT/EUR", 59_300.0, 1, 5, 0.005, 8, 4),
    Instrument("kraken", "XDG/USD", 0.124, 7, 7, 800.0, 8, 2),
    Instrument("kraken", "ADA/EUR", 0.35, 6, 6, 250.0, 8, 1),
)


def generate(seed: int, rate: float, start_micros: int) -> Iterator[Message]:
    """Messages from ``start_micros`` on, without end, in the order they are sent.

    A trade happened at most ``LATEST_MICROS`` before its message was sent, never after it.

    :param seed: another seed, another market
    :param rate: trades per second, on average over minutes
    :param start_micros: when the first message may be sent, in microseconds since 1970-01-01 UTC
    """
    random = Random(seed)  # noqa: S311 - reproducible on purpose, and nothing is secret
    books = [
        _Book(instrument, channel_id, start_micros) for channel_id, instrument in enumerate(INSTRUMENTS, start=320)
    ]
    shares = list(accumulate(book.instrument.activity for book in books))
    seconds_per_order = _TRADES_PER_ORDER / rate
    sent_micros, period_end_micros, activity = start_micros, start_micros, _BURST_ACTIVITY
    while True:
        if sent_micros >= period_end_micros:
            is_calm = activity == _BURST_ACTIVITY
            activity, seconds = (_CALM_ACTIVITY, _CALM_SECONDS) if is_calm else (_BURST_ACTIVITY, _BURST_SECONDS)
            period_end_micros = sent_micros + int(random.expovariate(1 / seconds) * 1e6)
        sent_micros += int(random.expovariate(activity / seconds_per_order) * 1e6)
        book = books[bisect(shares, random.random() * shares[-1])]
        yield from book.fill_order(random, sent_micros)


class _Book:
    """One instrument's side of the market: where its price stands and which trade id comes next."""

    def __init__(self, instrument: Instrument, channel_id: int, start_micros: int) -> None:
        self.instrument = instrument
        self._channel_id = channel_id
        self._price = instrument.price
        self._moved_micros = start_micros
        # Ids go on from where they were when a later run starts, at any rate below 100,000 a second.
        self._next_trade_id = start_micros // 10

    def fill_order(self, random: Random, sent_micros: int) -> list[Message]:
        """The messages of one order, filled by one or several trades at the same time."""
        self._move_price(random, sent_micros)
        time_micros = sent_micros - _delay_micros(random)
        side: Side = "buy" if random.getrandbits(1) else "sell"
        trades = []
        ticks = max(1, round(self._price * 10**self.instrument.price_decimals))
        while True:
            trades.append(self._trade(random, time_micros, ticks, side))
            if random.random() < 1 / _TRADES_PER_ORDER:
                break
            # Each fill eats into the book: the next one is at the same price or a worse one.
            ticks = max(1, ticks + random.randrange(3) * (1 if side == "buy" else -1))
        symbol = self.instrument.symbol
        if self.instrument.exchange == "kraken":
            return [kraken_message(symbol, self._channel_id, trades, sent_micros)]
        return [binance_message(symbol, trade, sent_micros) for trade in trades]

    def _move_price(self, random: Random, sent_micros: int) -> None:
        seconds = (sent_micros - self._moved_micros) / 1e6
        self._price *= math.exp(random.gauss(0, _PRICE_MOVE_PER_SQRT_SECOND) * math.sqrt(seconds))
        self._moved_micros = sent_micros

    def _trade(self, random: Random, time_micros: int, ticks: int, side: Side) -> Trade:
        instrument = self.instrument
        lots = max(1, round(instrument.quantity * random.lognormvariate(0, 1.3) * 10**instrument.quantity_decimals))
        trade_id = self._next_trade_id
        self._next_trade_id += 1
        return Trade(
            time_micros,
            _decimal_text(ticks, instrument.price_decimals, instrument.written_decimals),
            _decimal_text(lots, instrument.quantity_decimals, 8),
            side,
            trade_id,
        )


def _delay_micros(random: Random) -> int:
    """Between a trade and its message. A millisecond stays free: Binance's times are cut to whole ones."""
    if random.random() < _LATE_SHARE:
        return int(random.random() * (LATEST_MICROS - 1_000))
    return min(int(random.expovariate(1 / _USUAL_DELAY_MICROS)), LATEST_MICROS - 1_000)


def _decimal_text(units: int, decimals: int, written_decimals: int) -> str:
    """``units`` of the last of ``decimals`` places, padded with zeros to ``written_decimals`` places."""
    whole, fraction = divmod(units, 10**decimals)
    text = f"{fraction:0{decimals}d}" if decimals else ""
    return f"{whole}.{text:0<{written_decimals}}"
