"""The ClickHouse queries that compare one partition day of both tiers, as text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime

from k2_offload.core.content_hash import content_hash, row_hash
from k2_offload.core.day_comparison import DayScope, day_window
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.lake import parquet_file
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.queries import select, source_of
from k2_offload.core.sql import between, instant, quote, source_column
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Window, to_micros

_MINUTE_MICROS = 60_000_000
_READ = "SETTINGS use_hive_partitioning = 0"


def warm_rows_per_day(table: TableSpec, since: date, below: datetime, left_out: Sequence[Window]) -> str:
    """Rows ``(day, rows)`` of the source that the cold tier must hold, by partition day, from ``since`` on."""
    partition, first = source_column(table.partition_column), day_window(since).low
    return (
        f"SELECT toDate({partition}, 'UTC') AS day, count() FROM {source_of(table)} "
        f"WHERE {partition} >= {instant(to_micros(first))} AND "
        f"{_due(source_column(table.timestamp_column), below, left_out)} GROUP BY day ORDER BY day"
    )


def warm_day(table: TableSpec, columns: Sequence[Column], scope: DayScope) -> str:
    """The source's rows of a day, cast for Iceberg; stands after FROM."""
    return f"({select(table, columns, in_scope(table, scope))})"


def cold_day(table: TableSpec, columns: Sequence[Column], scope: DayScope, cold_table: str) -> str:
    """The cold table's rows of a day; stands after FROM.

    :param cold_table: a table function that reads the cold table
    """
    names = ", ".join(quote(column.name) for column in columns)
    return f"(SELECT {names} FROM {cold_table} WHERE {in_scope(table, scope, quote)})"


def count_recorded(table: TableSpec, scope: DayScope, cold_table: str) -> str:
    """One row: cold rows of the day in the ranges that are left out."""
    time = quote(table.timestamp_column)
    ranges = " OR ".join(f"({between(time, window)})" for window in scope.left_out)
    day = between(quote(table.partition_column), day_window(scope.day))
    return f"SELECT count() FROM {cold_table} WHERE {day} AND ({ranges})"


def minute_hashes(table: TableSpec, columns: Sequence[Column], rows: str) -> str:
    """Rows ``(minute of the timestamp since 1970, rows, hash)`` of one side of a day."""
    return f"SELECT {_minute(table)} AS minute, count(), sum({row_hash(columns)}) FROM {rows} GROUP BY minute"


def differing_rows(table: TableSpec, columns: Sequence[Column], warm: str, cold: str, minutes: Collection[int]) -> str:
    """One row: rows that only the warm side has, that only the cold side has, and the first and last of their times.

    :param minutes: to look at; all others are known to be equal
    """
    chosen = ", ".join(str(minute) for minute in sorted(minutes))

    def side(rows: str, is_warm: int) -> str:
        return (
            f"SELECT {row_hash(columns)} AS hash, toInt64({2 * is_warm - 1}) AS side, "
            f"toUnixTimestamp64Micro({_time(table)}) AS micros FROM {rows} WHERE {_minute(table)} IN ({chosen})"
        )

    return (
        "SELECT sumIf(surplus, surplus > 0), -sumIf(surplus, surplus < 0), min(micros), max(micros) FROM ("
        f"SELECT hash, sum(side) AS surplus, any(micros) AS micros FROM ({side(warm, 1)} UNION ALL {side(cold, 0)}) "
        "GROUP BY hash HAVING surplus != 0)"
    )


def shrunk_rows(table: TableSpec, warm: str, cold: str, minutes: Collection[int]) -> str:
    """One row: keys of the cold side whose version is lower in the warm side, or that it lacks."""
    keys = ", ".join(quote(name) for name in table.sort_columns)
    version, chosen = quote(table.version_column or ""), ", ".join(str(minute) for minute in sorted(minutes))

    def side(rows: str, is_warm: int) -> str:
        return (
            f"SELECT {keys}, {version} AS version, {is_warm} AS warm FROM {rows} WHERE {_minute(table)} IN ({chosen})"
        )

    return (
        f"SELECT count() FROM (SELECT {keys}, countIf(warm = 1) AS warm_rows, countIf(warm = 0) AS cold_rows, "
        "maxIf(version, warm = 1) AS warm_version, maxIf(version, warm = 0) AS cold_version "
        f"FROM ({side(warm, 1)} UNION ALL {side(cold, 0)}) GROUP BY {keys} "
        "HAVING cold_rows > 0 AND (warm_rows < cold_rows OR warm_version < cold_version))"
    )


def hash_of_files(columns: Sequence[PlannedColumn], uris: Sequence[str], lake_collection: str) -> str:
    """One row ``(rows, hash)`` of what Parquet files hold."""
    names = ", ".join(quote(column.name) for column in columns)
    files = " UNION ALL ".join(f"SELECT {names} FROM {parquet_file(uri, lake_collection)}" for uri in uris)
    return f"{content_hash(columns, f'({files})')} {_READ}"


def in_scope(table: TableSpec, scope: DayScope, reference: Callable[[str], str] = source_column) -> str:
    """Whether a row is one of those that are compared.

    :param reference: gives a column's name in the query
    """
    due = _due(reference(table.timestamp_column), scope.below, scope.left_out)
    return f"{between(reference(table.partition_column), day_window(scope.day))} AND {due}"


def _due(time: str, below: datetime, left_out: Sequence[Window]) -> str:
    within = between(time, Window(FIRST_WATERMARK, below))
    return within + "".join(f" AND NOT ({between(time, window)})" for window in left_out)


def _time(table: TableSpec) -> str:
    return f"assumeNotNull(CAST({quote(table.timestamp_column)}, 'Nullable(DateTime64(6, \\'UTC\\'))'))"


def _minute(table: TableSpec) -> str:
    return f"intDiv(toUnixTimestamp64Micro({_time(table)}), {_MINUTE_MICROS})"
