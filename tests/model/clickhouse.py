"""A ClickHouse that understands the offload's own queries, and the trades that flow into its tables.

Two exchanges fill a bronze table each; silver is fed from both and the candles from silver, all at insert.
"""

from __future__ import annotations

import operator
import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.core import queries
from k2_offload.core.connections import ClickHouseEndpoint
from k2_offload.core.retention_queries import any_holding
from k2_offload.core.windows import from_micros, to_micros
from tests.model.actors import perform

_SLOT = 300_000_000
_SECOND = 1_000_000
_ENDPOINT = ClickHouseEndpoint("clickhouse", "simulated", 0, 0, "", "", "k2", False)
_BOUND = re.compile(r"(?<![\w`])(?:k2_source\.)?`(\w+)` (>=|<) fromUnixTimestamp64Micro\((\d+), 'UTC'\)")
_NOT = re.compile(r" AND NOT \(((?:[^()]|\([^()]*\))*)\)")
_SOURCE = re.compile(r"FROM `k2`\.`(\w+)` AS k2_source")
_COLD = re.compile(r"FROM icebergLocal\('[^']*', SETTINGS iceberg_metadata_file_path = '([^']*)'\)")
_SNAPSHOT = re.compile(r" SETTINGS iceberg_snapshot_id = (\d+)$")
_COMPARISONS = {">=": operator.ge, "<": operator.lt}
_COLUMNS = {"at": "DateTime64(6, 'UTC')", "starts": "DateTime64(6, 'UTC')", "id": "UInt64", "trades": "UInt64"}


@dataclass(frozen=True)
class Row:
    """A trade, or a candle.

    :param at: what windows are cut on, in microseconds
    :param starts: what partitions are cut on
    :param made_of: a candle's trades, by id
    """

    id: int
    at: int
    starts: int
    made_of: frozenset[int] = frozenset()

    @property
    def content_hash(self) -> int:
        return hash(self) % 2**64


@dataclass
class Server:
    """What ClickHouse holds.

    :param clock: its own, which is right
    :param files: what it has exported, by path
    :param losses: how many of the next exports lose a row
    :param read_lake: the rows of a snapshot, which an Iceberg metadata file also leads to
    :param lagging: how many of the job's next queries are answered by a replica that lags by ``hidden_rows`` rows
    :param replicas: replicated tables, which are plain ones otherwise: whether one is cut off, how many seconds behind
    """

    clock: Callable[[], datetime]
    tables: dict[str, dict[int, Row]] = field(default_factory=dict)
    files: dict[str, tuple[Row, ...]] = field(default_factory=dict)
    losses: int = 0
    lagging: int = 0
    hidden_rows: int = 1
    replicas: dict[str, tuple[bool, int]] = field(default_factory=dict)
    versions: Counter[str] = field(default_factory=Counter)
    read_lake: Callable[[str], tuple[Row, ...]] = lambda _: ()

    def add(self, table: str, row: Row):
        self.tables.setdefault(table, {})[row.id] = row
        self.versions[table] += 1

    def add_to_candle(self, table: str, minutes: int, trade: Row):
        length = minutes * 60 * _SECOND
        start = trade.at // length * length
        candle = self.tables.setdefault(table, {}).get(start, Row(start, start + length, start))
        self.add(table, replace(candle, made_of=candle.made_of | {trade.id}))

    def drop_before(self, table: str, micros: int):
        """What the TTL does."""
        self.tables[table] = {row.id: row for row in self.tables[table].values() if row.at >= micros}

    def answer(self, sql: str) -> list[tuple[Any, ...]]:  # noqa: PLR0912 - one for each kind of question
        if sql.startswith("SELECT toUnixTimestamp64Micro(now64(6))"):
            return [(to_micros(self.clock()),)]
        if "system.columns" in sql:
            return list(_COLUMNS.items())
        if sql == any_holding():
            return [(0,)]
        if "AS k2_surplus" in sql or "AS k2_warm_version" in sql:
            return self._difference(sql)
        if "'Parquet')" in sql and sql.startswith("SELECT"):
            rows = [row for path in re.findall(r"file\('([^']*)', 'Parquet'\)", sql) for row in self.files[path]]
            return [(len(rows), sum(row.content_hash for row in rows) % 2**64)]
        rows = self._rows(sql)
        if _SNAPSHOT.search(sql):
            return [(len(rows), sum(row.content_hash for row in rows) % 2**64)]
        if "AS k2_minute, count()" in sql:
            hashes = [(minute, len(found), sum(row.content_hash for row in found)) for minute, found in _minutes(rows)]
            return [(*each, each[2]) for each in hashes]
        if "AS day, count()" in sql:
            return list(Counter(from_micros(row.starts).date() for row in rows).items())
        if "countIf(NOT ifNull(" in sql:  # cold rows that are not compared: the model has none
            return [(0,)]
        if "AS unmoved_day" in sql:
            return self._unmoved(sql)
        if "maxOrNull(" in sql:
            return [(max((row.at for row in rows), default=None), 0)]
        if "AS step, count()" in sql:
            [length] = map(int, re.findall(r"positiveModulo\(.*, (\d+)\) AS step", sql))
            steps = defaultdict(list)
            for row in rows:
                steps[row.at // length * length].append(row.at)
            return [(step, len(times), None, min(times)) for step, times in steps.items()]
        if self.lagging and ("AS slot, count()" in sql or sql.startswith("INSERT")):
            self.lagging -= 1
            rows = rows[: -self.hidden_rows]
        if "AS slot, count()" in sql:
            [column] = re.findall(r"CAST\(k2_source\.`(\w+)`", sql)[:1]
            return list(Counter(getattr(row, column) // _SLOT * _SLOT for row in rows).items())
        if exported := re.match(r"INSERT INTO FUNCTION file\('([^']*)', 'Parquet'\)", sql):
            if self.losses and rows:
                self.losses -= 1
                rows.pop()
            self.files[exported[1]] = tuple(rows)
            return []
        raise NotImplementedError(sql)

    def _unmoved(self, sql: str) -> list[tuple[Any, ...]]:
        [table] = _SOURCE.findall(sql)
        times = [int(micros) for _, _, micros in _BOUND.findall(sql.partition(" WHERE ")[2])]
        ranges = list(zip(times[::2], times[1::2], strict=True))  # the first is what is to come
        days: dict[Any, bool] = {}
        for row in self.tables.get(table, {}).values():
            within = [low <= row.at < high for low, high in ranges]
            if any(within):
                day = from_micros(row.starts).date()
                days[day] = days.get(day, False) or within[0]
        return list(days.items())

    def _difference(self, sql: str) -> list[tuple[Any, ...]]:
        warm, cold = (self._rows(side) for side in sql.split(" UNION ALL "))
        seen = (sum(row.content_hash for row in warm) - sum(row.content_hash for row in cold)) % 2**64
        if "AS k2_warm_version" in sql:
            by_id = {row.id: row for row in warm}
            kept = [row in warm or (row.id in by_id and len(by_id[row.id].made_of) > len(row.made_of)) for row in cold]
            return [(kept.count(False), seen)]
        late, gone = Counter(warm) - Counter(cold), Counter(cold) - Counter(warm)
        times = [row.at for row in (*late, *gone)]
        return [(late.total(), gone.total(), min(times, default=None), max(times, default=None), seen)]

    def _rows(self, sql: str) -> list[Row]:
        if found := _COLD.search(sql):
            named = _SNAPSHOT.search(sql)
            rows = list(self.read_lake(named[1] if named else found[1]))
        else:
            [table] = _SOURCE.findall(sql)
            rows = list(self.tables.get(table, {}).values())
        for excluded in _NOT.findall(sql):
            bounds = _BOUND.findall(excluded)
            rows = [row for row in rows if not _within(row, bounds)]
        sql = _NOT.sub("", sql)
        for column, comparison, micros in _BOUND.findall(sql):
            value, holds, bound = operator.attrgetter(column), _COMPARISONS[comparison], int(micros)
            rows = [row for row in rows if holds(value(row), bound)]
        return rows


def _within(row: Row, bounds: Iterable[tuple[str, str, str]]) -> bool:
    return all(_COMPARISONS[comparison](getattr(row, column), int(micros)) for column, comparison, micros in bounds)


def _minutes(rows: Iterable[Row]):
    minutes: dict[int, list[Row]] = {}
    for row in rows:
        minutes.setdefault(row.at // (60 * _SECOND), []).append(row)
    return minutes.items()


class _Client:
    """The part of clickhouse_driver's client that the adapter uses."""

    def __init__(self, server: Server):
        self._server = server
        self.connection = SimpleNamespace(host="simulated")

    def execute(self, sql: str):
        if sql.startswith("SELECT engine_full FROM"):  # nothing that could come between depends on it
            replicated = sql in map(queries.engine, self._server.replicas)
            return [("ReplicatedMergeTree" if replicated else "MergeTree",)]
        if sql.startswith("DESCRIBE TABLE"):
            return []
        if "FROM system.replicas" in sql:
            return [(name, *state) for name, state in self._server.replicas.items() if f"'{name}'" in sql]
        name = "export" if sql.startswith("INSERT") else "query"
        return perform(name, lambda: self._server.answer(sql), lambda: EOFError("the reply was lost"))

    def disconnect(self):
        pass


class SimulatedClickHouse(ClickHouse):
    """The real adapter; the client underneath is simulated."""

    def __init__(self, server: Server):
        super().__init__(_ENDPOINT)
        self._client = _Client(server)
