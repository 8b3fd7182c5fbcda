"""Recorded trades: from CSV lines to raw messages. Nothing here reads a file or a clock."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from itertools import groupby

from embedded.feed.messages import (
    FINEST_TIME_MICROS,
    Exchange,
    Message,
    Side,
    Trade,
    binance_message,
    kraken_message,
)

TIME_COLUMNS = {"timestamp_ms": 1_000, "timestamp_s": 1_000_000}
"""Either of these names the time column; the value is its unit in microseconds."""

_REQUIRED_COLUMNS = ("price", "quantity")
_OPTIONAL_COLUMNS = ("trade_id", "side")
_SIDES: dict[str, Side] = {"buy": "buy", "sell": "sell"}

# The parsing views accept no more: what Decimal(38, 18) holds to the last digit, and times in [2000, 2100).
_DECIMAL = re.compile(r"[0-9]{1,20}(\.[0-9]{1,18})?")
_TIME = re.compile(r"[0-9]{1,13}(\.[0-9]{1,9})?")
_YEAR_2000_MICROS = 946_684_800_000_000
_YEAR_2100_MICROS = 4_102_444_800_000_000
_TRADE_ID = re.compile(r"[0-9]{1,19}")
_SYMBOLS = {
    "binance": (re.compile(r"[A-Z0-9]+"), "XRPETH"),
    "kraken": (re.compile(r"[A-Z0-9.]+/[A-Z0-9.]+"), "XBT/USD"),
}
_REPLAY_CHANNEL_ID = 1


class BadInput(Exception):
    """The recording or an argument cannot be used. The message says what is wrong, and in which line."""


@dataclass(frozen=True)
class Extent:
    """How many trades a recording holds and which times they span.

    :ivar trade_count: at least one
    :ivar first_micros: time of the earliest trade
    :ivar last_micros: time of the latest trade (inclusive)
    """

    trade_count: int
    first_micros: int
    last_micros: int

    def shifted(self, shift_micros: int) -> Extent:
        """The same trades, all ``shift_micros`` later."""
        return Extent(self.trade_count, self.first_micros + shift_micros, self.last_micros + shift_micros)


def read_trades(lines: Iterable[str], exchange: Exchange) -> Iterator[Trade]:
    """The trades of a CSV file with a header line, in the file's order.

    Columns, in any order: ``timestamp_ms`` or ``timestamp_s`` (decimals allowed as far as the exchange's messages carry
    them), ``price``, ``quantity``, and optionally ``trade_id`` (without it trades are numbered from 1) and ``side``
    (without it every trade is a buy). Blank lines are skipped.

    :raises BadInput: a column is unknown, missing or there twice, or a row cannot be read (with its line number)
    """
    rows = csv.reader(lines, strict=True)
    try:
        header = next(rows, [])
        unit_micros = _check_header(header)
        for number, row in enumerate(filter(None, rows), start=1):
            if len(row) != len(header):
                raise BadInput(f"line {rows.line_num}: {len(row)} values for {len(header)} columns")
            try:
                yield _trade(dict(zip(header, row, strict=True)), unit_micros, FINEST_TIME_MICROS[exchange], number)
            except ValueError as error:
                raise BadInput(f"line {rows.line_num}: {error}") from None
    except csv.Error as error:
        raise BadInput(f"line {rows.line_num}: not CSV: {error}") from None


def measure(trades: Iterable[Trade]) -> Extent:
    """Reads all of ``trades`` and keeps none.

    :raises BadInput: there are none
    """
    times = (trade.time_micros for trade in trades)
    first = last = next(times, None)
    if first is None or last is None:
        raise BadInput("there is no trade below the header line")
    count = 1
    for time_micros in times:
        count += 1
        first, last = min(first, time_micros), max(last, time_micros)
    return Extent(count, first, last)


def check_symbol(exchange: Exchange, symbol: str) -> None:
    """:raises BadInput: the exchange does not write symbols like this one"""
    pattern, example = _SYMBOLS[exchange]
    if not pattern.fullmatch(symbol):
        raise BadInput(f"'{symbol}' is no symbol of {exchange}, which writes them like {example}")


def shift_to_end_at(extent: Extent, end_micros: int) -> int:
    """How many microseconds to add to all times so that the last trade lies at ``end_micros``.

    Rounded down to whole milliseconds, which every exchange's messages can carry.
    """
    return (end_micros - extent.last_micros) // 1_000 * 1_000


def build_messages(trades: Iterable[Trade], exchange: Exchange, symbol: str, shift_micros: int) -> Iterator[Message]:
    """The messages the exchange would have sent, all times ``shift_micros`` later.

    Kraken puts trades that happen together into one message; so are neighbours with equal times here.
    """
    shifted = (trade._replace(time_micros=trade.time_micros + shift_micros) for trade in trades)
    if exchange == "binance":
        for trade in shifted:
            yield binance_message(symbol, trade, sent_micros=trade.time_micros)
    else:
        for time_micros, together in groupby(shifted, key=lambda trade: trade.time_micros):
            yield kraken_message(symbol, _REPLAY_CHANNEL_ID, list(together), sent_micros=time_micros)


def _check_header(header: list[str]) -> int:
    """The unit of the time column in microseconds."""
    if not header:
        raise BadInput("the file is empty; its first line names the columns")
    known = [*TIME_COLUMNS, *_REQUIRED_COLUMNS, *_OPTIONAL_COLUMNS]
    for column in header:
        if column not in known:
            raise BadInput(f"unknown column '{column}'; known are {', '.join(known)}")
        if header.count(column) > 1:
            raise BadInput(f"column '{column}' is there twice")
    for column in _REQUIRED_COLUMNS:
        if column not in header:
            raise BadInput(f"column '{column}' is missing")
    units = [unit for column, unit in TIME_COLUMNS.items() if column in header]
    if len(units) != 1:
        raise BadInput(f"exactly one of the columns {' and '.join(TIME_COLUMNS)} is needed")
    return units[0]


def _trade(row: dict[str, str], unit_micros: int, finest_micros: int, number: int) -> Trade:
    """:raises ValueError: a value cannot be read"""
    time_text = row.get("timestamp_ms") or row.get("timestamp_s") or ""
    side = row.get("side", "buy")
    if side not in _SIDES:
        raise ValueError(f"side '{side}' is neither 'buy' nor 'sell'")
    trade_id = row.get("trade_id", str(number))
    if not _TRADE_ID.fullmatch(trade_id):
        raise ValueError(f"trade_id '{trade_id}' is not a whole number of up to 19 digits")
    return Trade(
        time_micros=_time_micros(time_text, unit_micros, finest_micros),
        price=_positive_decimal("price", row["price"]),
        quantity=_positive_decimal("quantity", row["quantity"]),
        side=_SIDES[side],
        trade_id=int(trade_id),
    )


def _time_micros(text: str, unit_micros: int, finest_micros: int) -> int:
    if not _TIME.fullmatch(text):
        raise ValueError(f"time '{text}' is not a number of milliseconds or seconds since 1970")
    micros = Decimal(text) * unit_micros
    if micros % finest_micros:
        raise ValueError(f"time '{text}' is finer than the exchange's messages carry: {finest_micros} microseconds")
    if not _YEAR_2000_MICROS <= micros < _YEAR_2100_MICROS:
        raise ValueError(f"time '{text}' is not between the years 2000 and 2100: is the column's unit right?")
    return int(micros)


def _positive_decimal(column: str, text: str) -> str:
    if not _DECIMAL.fullmatch(text) or not Decimal(text):
        raise ValueError(
            f"{column} '{text}' is not a positive decimal number with up to 20 digits before and 18 after the point"
        )
    return text
