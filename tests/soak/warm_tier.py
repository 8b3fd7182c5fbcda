"""What befalls rows in ClickHouse: strange times, a replica that lags, a deletion, the TTL."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass

BRONZE = ("bronze_trades_binance", "bronze_trades_kraken")
TRADES = (*BRONZE, "silver_trades")
SOURCES = {**dict.fromkeys(TRADES, "exchange_timestamp"), "candles": "window_end"}
PROVEN = {
    "bronze_trades_kraken": ["bronze_trades_kraken"],
    "candles": ["ohlcv_1m", "ohlcv_5m", "ohlcv_15m", "ohlcv_30m", "ohlcv_1h", "ohlcv_1d"],
}
"""The tables with ``retention: proven``, by the source that holds their rows; all others have a TTL."""
BY_CLOCK = {source: column for source, column in SOURCES.items() if source not in PROVEN}
_STRANGE = {"from the future": "+ INTERVAL 365 DAY", "before 2000": "- INTERVAL 40 YEAR"}


def within(column, window):
    low, high = (f"toDateTime64('{time:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')" for time in (window.low, window.high))
    return f"{column} >= {low} AND {column} < {high}"


@dataclass(frozen=True)
class Rows:
    """Rows of one table that the TTL has taken.

    :param names: of the columns
    """

    names: tuple[str, ...]
    rows: Counter


class WarmTier:
    """:param strange: rows whose times no window holds, by kind and table
    :param expired: what the TTL has taken, by table
    :param never_moved: how many rows of it no cycle had moved, by table
    """

    def __init__(self, random, client):
        self._random, self._client = random, client
        self.strange = defaultdict(Counter)
        self.expired = defaultdict(list)
        self.never_moved = Counter()

    def add_strange_rows(self, kind):
        """A trade or two with times that cannot be; silver and the candles get them too."""
        table = self._random.choice(BRONZE)
        chosen = (
            f"(SELECT * FROM {table} WHERE exchange_timestamp BETWEEN '2000-01-01' AND now() "
            f"ORDER BY exchange_timestamp DESC LIMIT {self._random.choice([1, 2])})"
        )
        [(before,)] = self._client.execute(f"SELECT count() FROM {table}")
        self._client.execute(
            f"INSERT INTO {table} SELECT * REPLACE(exchange_timestamp {_STRANGE[kind]} AS exchange_timestamp) "
            f"FROM {chosen}"
        )
        [(after,)] = self._client.execute(f"SELECT count() FROM {table}")
        for name in (table, "silver_trades"):
            self.strange[kind][name] += after - before

    def count(self, table, window):
        [(rows,)] = self._client.execute(f"SELECT count() FROM {table} WHERE {within('exchange_timestamp', window)}")
        return rows

    @contextmanager
    def hidden(self, table, condition):
        """As a replica shows a table that has not fetched a part yet; yields how many such rows are hidden."""
        self._client.execute(f"SYSTEM STOP MERGES {table}")
        parts = self._client.execute(
            f"SELECT _part, count() FROM {table} WHERE {condition} AND exchange_timestamp < now() GROUP BY 1 ORDER BY 1"
        )
        part, rows = self._random.choice(parts) if parts else (None, 0)
        if part:
            self._client.execute(f"ALTER TABLE {table} DETACH PART '{part}'")
        yield rows
        if part:
            self._client.execute(f"ALTER TABLE {table} ATTACH PART '{part}'")
        self._client.execute(f"SYSTEM START MERGES {table}")

    def delete_some(self, table, window):
        """Take up to three rows of a window out for ever; returns how many."""
        condition = within("exchange_timestamp", window)
        key = "(exchange_timestamp, symbol, sequence_number, trade_id)"
        chosen = f"{key} IN (SELECT {key} FROM {table} WHERE {condition} ORDER BY {key} LIMIT 3)"
        keys = self._client.execute(f"SELECT count() FROM {table} WHERE {chosen}")
        self._client.execute(f"ALTER TABLE {table} DELETE WHERE {chosen} SETTINGS mutations_sync = 2")
        return keys[0][0]

    def expire(self, tables, watermark_of, cutoff):
        """The TTL takes all rows from before a time, whether they have been moved or not; where there is one."""
        old = "{0} >= '2000-01-01' AND {0} < " + f"toDateTime64('{cutoff:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')"
        for spec in tables:
            if spec.is_proven:
                continue
            rows, columns = self._client.execute(
                f"SELECT * FROM {spec.source} WHERE {old.format(spec.timestamp_column)}", with_column_types=True
            )
            names = tuple(name for name, _ in columns)
            time, watermark = names.index(spec.timestamp_column), watermark_of(spec.name)
            self.expired[spec.name].append(Rows(names, Counter(rows)))
            self.never_moved[spec.name] += sum(row[time] >= watermark for row in rows)
        for source, column in BY_CLOCK.items():
            self._client.execute(f"ALTER TABLE {source} DELETE WHERE {old.format(column)} SETTINGS mutations_sync = 2")
