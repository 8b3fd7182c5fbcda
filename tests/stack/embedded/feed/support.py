"""What the feed's stack tests share beyond fixtures."""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from clickhouse_driver import Client

DATA = Path(__file__).parents[3] / "data"
BINANCE_RECORDING = DATA / "binance_xrpeth_2019-10-11_2019-10-13.csv"
KRAKEN_RECORDING = DATA / "kraken_bcheur.csv"


def insert(client: Client, exchange: str, messages: Sequence[str]) -> None:
    """Insert messages as a broker would deliver them: in one block."""
    client.execute(f"INSERT INTO bronze_trades_{exchange}_queue (message) VALUES", [(message,) for message in messages])


def select(client: Client, query: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = client.execute(query)
    return rows


def now_millis() -> int:
    return time.time_ns() // 1_000_000


def binance_message(**changes: Any) -> str:
    """A trade of just now; a field changed to None is left out."""
    fields = {
        "e": "trade",
        "E": 1,
        "s": "BTCUSDT",
        "t": 123,
        "p": "0.00141342",
        "q": "23.5",
        "T": now_millis(),
        "m": True,
    }
    return json.dumps({name: value for name, value in (fields | changes).items() if value is not None})


def kraken_message(*trades: Sequence[Any], channel_id: Any = 337, pair: Any = "XBT/USD") -> str:
    """Each trade: price, volume, time and side, then whatever."""
    return json.dumps([channel_id, list(trades), "trade", pair])


@dataclass(frozen=True)
class RecordedTrade:
    """A row of the Binance recording, its time moved into the days that the tables keep."""

    time_millis: int
    trade_id: int
    price: str
    quantity: str
    side: str

    @property
    def message(self) -> str:
        return binance_message(
            s="XRPETH", t=self.trade_id, p=self.price, q=self.quantity, T=self.time_millis, m=self.side == "sell"
        )

    @property
    def price_and_quantity(self) -> tuple[Decimal, Decimal]:
        return Decimal(self.price), Decimal(self.quantity)


def recorded_trades() -> list[RecordedTrade]:
    """The Binance recording, read without any of the feed's code, ending now."""
    with BINANCE_RECORDING.open(newline="") as file:
        rows = list(csv.DictReader(file))
    shift_millis = now_millis() - max(int(row["timestamp_ms"]) for row in rows)
    return [
        RecordedTrade(
            int(row["timestamp_ms"]) + shift_millis, int(row["trade_id"]), row["price"], row["quantity"], row["side"]
        )
        for row in rows
    ]


def messages_of_days(days: int) -> list[str]:
    """A trade of now and of each of the days that follow: of days gone by, ClickHouse keeps seven."""
    now = now_millis()
    return [binance_message(t=number, T=now + number * 86_400_000) for number in range(days)]
