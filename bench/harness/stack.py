"""The stack that a benchmark runs on: Postgres and ClickHouse of its own, in a folder that goes afterwards."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from clickhouse_driver import Client

from bench.harness.failures import Failures
from embedded.stack import Ports, StackSettings, airflow_home, clickhouse, down, status, up
from embedded.stack.ports import free_ports
from embedded.stack.secrets import Secrets
from embedded.stack.settings import HOST

MIDNIGHT = datetime(2026, 3, 4, tzinfo=UTC)
"""When trades begin."""

SYMBOLS = 12

_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Platform:
    """A running stack.

    :param failures: what failed on it so far
    """

    settings: StackSettings
    failures: Failures

    @property
    def clickhouse_pid(self) -> int:
        """ClickHouse's process."""
        [pid] = [each.pid for each in status(self.settings, airflow=False) if each.name == "clickhouse"]
        if pid is None:
            raise RuntimeError("ClickHouse is down")
        return pid

    def client(self) -> Client:
        """A new client in database ``k2``; use ``with``."""
        return Client(HOST, port=self.settings.ports.clickhouse_native, database=clickhouse.DATABASE)

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """Run a statement in database ``k2``."""
        with self.client() as client:
            rows: list[tuple[Any, ...]] = client.execute(statement)
            return rows

    def wait_for_merges(self) -> None:
        """Wait until ClickHouse is at rest: what it merges after an insert takes cores from what is measured."""
        while self.sql("SELECT count() FROM system.merges") != [(0,)]:
            time.sleep(_POLL_SECONDS)

    def create_trades(
        self, table: str, rows: int, first: datetime = MIDNIGHT, span: timedelta = timedelta(hours=23)
    ) -> None:
        """A table of trades as :meth:`insert_trades` makes them, merged to one part per day."""
        self.create_trades_table(table)
        self.insert_trades(table, rows, first, span)
        self.sql(f"OPTIMIZE TABLE {table} FINAL")

    def create_trades_table(self, table: str) -> None:
        """An empty table of trades."""
        self.sql(
            f"CREATE TABLE {table} (exchange_timestamp DateTime64(6, 'UTC'), sequence_number UInt64, "
            "exchange LowCardinality(String), symbol LowCardinality(String), price Decimal(38, 18), "
            "quantity Decimal(38, 18), quote_volume Decimal(38, 18), side LowCardinality(String), trade_id String, "
            "ingested_at DateTime64(6, 'UTC')) ENGINE = MergeTree PARTITION BY toDate(exchange_timestamp) "
            "ORDER BY (symbol, exchange_timestamp, sequence_number)"
        )

    def insert_trades(self, table: str, rows: int, first: datetime, span: timedelta) -> None:
        """Trades of a dozen symbols, evenly over ``[first, first + span)``, prices that wander by ticks of a cent."""
        first_micros = int(first.timestamp() * 1e6)
        step = int(span.total_seconds() * 1e6) // rows
        self.sql(
            f"INSERT INTO {table} WITH {first_micros} + number * {step} + rand(1) % 1000 AS micros, "
            f"toUInt8(cityHash64(number) % {SYMBOLS}) AS market, "
            "toDecimal128(round(100 * (market + 1) * (1 + 0.03 * sin(number / 400000 + market)) + (rand(2) % 21) / "
            "100, 2), 18) AS p, toDecimal128(round(exp((rand(3) % 1000) / 150) / 100, 5), 18) AS q "
            "SELECT fromUnixTimestamp64Micro(toInt64(micros), 'UTC'), number, ['binance', 'kraken'][1 + market % 2], "
            "concat('COIN', toString(market), '/USDT'), p, q, toDecimal128(toDecimal256(p, 18) * q, 18), "
            "['buy', 'sell'][1 + rand(4) % 2], toString(4000000000 + number), "
            f"fromUnixTimestamp64Micro(toInt64(micros + 20000 + rand(5) % 90000), 'UTC') FROM numbers({rows})"
        )


@contextmanager
def running(failures: Failures) -> Iterator[Platform]:
    """Start a stack; Airflow's settings in this process point at it from then on."""
    state = Path(tempfile.mkdtemp(prefix="k2-bench-")).resolve()
    settings = StackSettings(state=state, ports=Ports(*free_ports(4)))
    airflow_home.write(settings, Secrets.load_or_make(state))
    os.environ["AIRFLOW_HOME"] = str(settings.airflow_home)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # nobody would run a script so, and pay for compiling every time
    try:
        up(settings, airflow=False)
        yield Platform(settings, failures)
    finally:
        down(settings)
        shutil.rmtree(state, ignore_errors=True)
