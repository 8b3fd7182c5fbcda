"""Five questions people ask of market data, in the SQL of ClickHouse and of Spark."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random

from k2_offload.core.windows import to_micros

_DAY = timedelta(days=1)

_CLICKHOUSE = {
    "micros": "toUnixTimestamp64Micro",
    "time": "fromUnixTimestamp64Micro",
    "date": "toDate",
    "first": "argMin",
    "last": "argMax",
}
_SPARK = {
    "micros": "unix_micros",
    "time": "timestamp_micros",
    "date": "to_date",
    "first": "min_by",
    "last": "max_by",
}

QUESTIONS = {
    "one symbol, one day": (
        "SELECT {micros}(exchange_timestamp), price, quantity, side, trade_id FROM {trades} "
        "WHERE symbol = '{symbol}' AND exchange_timestamp >= {time}({day}) AND exchange_timestamp < {time}({next_day}) "
        "ORDER BY exchange_timestamp, trade_id"
    ),
    "one symbol, 90 days of candles": (
        "SELECT {date}(window_start) AS day, {first}(open, window_start), max(high), min(low), "
        "{last}(close, window_start), sum(volume) FROM {candles} "
        "WHERE symbol = '{symbol}' GROUP BY {date}(window_start) ORDER BY day"
    ),
    "VWAP of all symbols, one day": (
        "SELECT symbol, sum(quote_volume), sum(quantity) FROM {trades} "
        "WHERE exchange_timestamp >= {time}({day}) AND exchange_timestamp < {time}({next_day}) "
        "GROUP BY symbol ORDER BY symbol"
    ),
    "last trade before a time": (
        "SELECT {micros}(exchange_timestamp), price, trade_id FROM {trades} WHERE symbol = '{symbol}' "
        "AND exchange_timestamp < {time}({moment}) AND exchange_timestamp >= {time}({day_before}) "
        "ORDER BY exchange_timestamp DESC, trade_id DESC LIMIT 1"
    ),
    "all of one day": (
        "SELECT count(*), sum(price), sum(quantity), sum(quote_volume), sum(sequence_number), max(trade_id), "
        "max(side), min(symbol), max(exchange), max({micros}(ingested_at)) FROM {trades} "
        "WHERE exchange_timestamp >= {time}({day}) AND exchange_timestamp < {time}({next_day})"
    ),
}
"""By name; a VWAP is the ratio of the two sums, left to the reader so that both answers are exact."""


@dataclass(frozen=True)
class Parameters:
    """What one run asks about.

    :param symbol: the market
    :param moment: between the first and the last time of the history; its day (UTC) is the day asked about
    """

    symbol: str
    moment: datetime

    @staticmethod
    def draw(random: Random, symbols: int, first: datetime, days: int) -> Parameters:
        """Any symbol and any time of the history but for the first day."""
        symbol = f"COIN{random.randrange(symbols)}/USDT"
        return Parameters(symbol, first + _DAY + timedelta(seconds=random.randrange((days - 1) * 86_400)))

    def clickhouse(self, question: str, trades: str, candles: str) -> str:
        """The statement for ClickHouse.

        :param trades: the table, or a function that reads it; likewise ``candles``
        """
        return self._statement(question, _CLICKHOUSE, trades, candles)

    def spark(self, question: str, trades: str, candles: str) -> str:
        """The statement for Spark."""
        return self._statement(question, _SPARK, trades, candles)

    def _statement(self, question: str, dialect: Mapping[str, str], trades: str, candles: str) -> str:
        day = self.moment.replace(hour=0, minute=0, second=0, microsecond=0)
        times = {
            "day": day,
            "next_day": day + _DAY,
            "moment": self.moment,
            "day_before": self.moment - _DAY,
        }
        values = {name: str(to_micros(time)) for name, time in times.items()}
        return QUESTIONS[question].format(**dialect, **values, symbol=self.symbol, trades=trades, candles=candles)
