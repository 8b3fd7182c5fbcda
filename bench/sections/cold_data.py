"""Days of trades and candles in two cold tables, as cycles every quarter of an hour leave them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from rich.progress import track

from bench.harness.stack import MIDNIGHT, SYMBOLS, Platform
from bench.harness.warm_spark import BenchSpark, warm_spark
from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import parse_tables
from k2_offload.cli.console import errors
from k2_offload.core.lake import iceberg_table
from k2_offload.work import cycle
from k2_offload.work.compare import compare
from k2_offload.work.maintenance import plan_all
from k2_offload.work.tiers import Tiers, open_tiers

DAYS = 90
"""Unless fewer are asked for."""
TRADES = 4_000_000
"""In so many days."""
TRADES_TABLE, CANDLES_TABLE = "history_trades", "history_candles"
VIEW = "_all"
"""What is added to a table's name for the view over both tiers."""
_DAY = timedelta(days=1)
_TABLES = f"""
defaults: {{buffer_seconds: 0, out_of_order_seconds: 0, idle_after_seconds: 0, warm_retention_days: 365}}
tables:
  {TRADES_TABLE}:
    layer: bronze
    source: k2.{TRADES_TABLE}
    target: bench.{TRADES_TABLE}
    view: k2.{TRADES_TABLE}{VIEW}
    timestamp_column: exchange_timestamp
    sort_columns: [symbol, exchange_timestamp]
  {CANDLES_TABLE}:
    layer: bronze
    source: k2.{CANDLES_TABLE}
    target: bench.{CANDLES_TABLE}
    view: k2.{CANDLES_TABLE}{VIEW}
    timestamp_column: window_end
    partition_column: window_start
    sort_columns: [symbol, window_start]
"""


@dataclass(frozen=True)
class Stored:
    """Data files of a table."""

    files: int
    rows: int
    size_bytes: int


@dataclass(frozen=True)
class Compaction:
    """What rewriting both tables has cost.

    :param days: of both together
    :param files: that were read, of ``size_bytes`` together
    """

    days: int
    files: int
    size_bytes: int
    seconds: float


class ColdData:
    """Both tables.

    :param days: that they hold
    :param spark: reads and compacts them
    :param tiers: moves into them; the clock stands after the last day, but is set for each day while they are filled
    """

    def __init__(self, platform: Platform, spark: BenchSpark, tiers: Tiers, days: int) -> None:
        self.days = days
        self.spark = spark
        self.tiers = tiers
        self._platform = platform
        self._catalog = connections.catalog_settings(load_settings()).name

    def fill(self) -> None:
        """Make the rows, and move them day by day.

        :raises RuntimeError: unless both tiers then hold the same rows
        """
        self._platform.create_trades(TRADES_TABLE, TRADES * self.days // DAYS, MIDNIGHT, self.days * _DAY)
        self._create_candles()
        self.tiers.ledger.migrate()
        specs = list(self.tiers.tables.by_name.values())
        for day in track(range(1, self.days + 1), f"{self.days} days", console=errors, transient=True):
            # The last trade is older than that, the last candle ends right then: the source is idle.
            now = MIDNIGHT + day * _DAY + timedelta(seconds=day == self.days)
            at_that_time = replace(self.tiers, now=lambda now=now: now)  # type: ignore[misc]
            planned = [cycle.plan(at_that_time, spec, "bench") for spec in specs]
            # One statement for 96 files; see QuarterHourExport.
            self.spark.move(*(replace(each, transport="quarter-hours") for each in planned if each is not None))
            for spec in specs:
                cycle.commit(at_that_time, spec)
        self.check()

    def _create_candles(self) -> None:
        self._platform.sql(
            f"CREATE TABLE {CANDLES_TABLE} (window_start DateTime64(6, 'UTC'), window_end DateTime64(6, 'UTC'), "
            "exchange LowCardinality(String), symbol LowCardinality(String), open Decimal(38, 18), "
            "high Decimal(38, 18), low Decimal(38, 18), close Decimal(38, 18), volume Decimal(38, 18), "
            "quote_volume Decimal(38, 18), trade_count UInt64) ENGINE = MergeTree PARTITION BY toDate(window_start) "
            "ORDER BY (symbol, window_start)"
        )
        first_seconds, minutes = int(MIDNIGHT.timestamp()), self.days * 24 * 60
        self._platform.sql(
            f"INSERT INTO {CANDLES_TABLE} WITH intDiv(number, {SYMBOLS}) AS minute, number % {SYMBOLS} AS market, "
            f"toDateTime64({first_seconds} + 60 * minute, 6, 'UTC') AS start, "
            "100 * (market + 1) * (1 + 0.03 * sin(minute / 400 + market)) AS middle, "
            "x -> toDecimal128(round(middle + x, 2), 18) AS price, "
            "toDecimal128(round(exp((rand(3) % 1000) / 150), 5), 18) AS q "
            "SELECT start, start + INTERVAL 1 MINUTE, ['binance', 'kraken'][1 + market % 2], "
            "concat('COIN', toString(market), '/USDT'), price((rand(1) % 21) / 100), "
            "price(0.21 + (rand(4) % 9) / 100), "
            "price(-(rand(5) % 9) / 100), price((rand(2) % 21) / 100), q, "
            "toDecimal128(toDecimal256(price(0.1), 18) * q, 18), 1 + rand(6) % 500 "
            f"FROM numbers({minutes * SYMBOLS})"
        )

    def check(self) -> None:
        """Compare both tiers of both tables, row by row.

        :raises RuntimeError: if they differ
        """
        for spec in self.tiers.tables.by_name.values():
            result = compare(self.tiers, spec)
            if not (result.equal and result.cold_rows):
                raise RuntimeError(f"the tiers differ: {result}")

    def in_clickhouse(self, name: str) -> str:
        """A table function for a cold table as it is now."""
        cold = self.tiers.catalog.load(self.tiers.tables[name])
        if cold is None:
            raise RuntimeError(f"{name} has gone")
        return iceberg_table(cold.location, cold.metadata_location, self.tiers.lake_collection)

    def in_spark(self, name: str) -> str:
        """A cold table's name."""
        return f"{self._catalog}.bench.{name}"

    def compact(self) -> Compaction:
        """Tidy both tables as `k2_maintenance` does, and forget how they were. Spark's start does not count.

        :raises RuntimeError: unless every day is then one file
        """
        before = [self.stored(name) for name in (TRADES_TABLE, CANDLES_TABLE)]  # starts Spark's session
        started = time.monotonic()
        plan, problems = plan_all(self.tiers, list(self.tiers.tables.by_name.values()), dry_run=False)
        if problems:
            raise RuntimeError("\n".join(problems))
        tables = tuple(replace(each, expire_before=datetime.now(UTC)) for each in plan.tables)
        done = self.spark.maintain(replace(plan, tables=tables))
        seconds = time.monotonic() - started
        if [each.after.files for each in done] != [self.days, self.days]:
            raise RuntimeError(f"not every day is one file: {done}")
        days = sum(each.rewritten_days for each in done)
        return Compaction(days, sum(each.files for each in before), sum(each.size_bytes for each in before), seconds)

    def stored(self, name: str) -> Stored:
        """What a cold table's data files hold."""
        [row] = self.spark.sql(
            f"SELECT count(*), sum(record_count), sum(file_size_in_bytes) FROM {self.in_spark(name)}.files"
        )
        return Stored(*row)

    def stored_by_spark(self, order: str | None = None) -> Stored:
        """The trades as Iceberg's Spark writer stores them by its defaults, a file per day.

        :param order: columns to sort them by; without, they come as they lie in the cold table's files
        """
        name = "unsorted_trades" if order is None else "ordered_trades"
        self.spark.sql(
            f"CREATE TABLE {self.in_spark(name)} USING iceberg PARTITIONED BY (days(exchange_timestamp)) AS "
            f"SELECT * FROM {self.in_spark(TRADES_TABLE)}" + (f" ORDER BY {order}" if order else "")
        )
        stored = self.stored(name)
        self.spark.sql(f"DROP TABLE {self.in_spark(name)} PURGE")
        return stored


@contextmanager
def cold_data(platform: Platform, days: int = DAYS) -> Iterator[ColdData]:
    """Both tables, filled; their sources go afterwards."""
    with (
        warm_spark() as spark,
        open_tiers(parse_tables(_TABLES), lambda: MIDNIGHT + (days + 1) * _DAY) as tiers,
    ):
        data = ColdData(platform, spark, tiers, days)
        data.fill()
        yield data
        for name in (TRADES_TABLE, CANDLES_TABLE):
            platform.sql(f"DROP TABLE {name}")
