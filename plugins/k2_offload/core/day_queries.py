"""The ClickHouse queries that compare one partition day of both tiers, as text."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import date, datetime, timedelta
from typing import TypeVar

from k2_offload.core.content_hash import TypedColumn, content_hash, row_hash
from k2_offload.core.day_comparison import DayScope, day_window, days_window
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.lake import parquet_file
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.queries import rows_per_day, select, source_of
from k2_offload.core.sql import between, instant, quote, source_column
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Window, to_micros

# Aliases begin with k2_: ClickHouse would take another for a column of that name, such as a trade's side.
_MINUTE_MICROS = 60_000_000
_LONGEST_INTERVAL = timedelta(days=366)
_READ = "SETTINGS use_hive_partitioning = 0"

AnyColumn = TypeVar("AnyColumn", bound=TypedColumn)


def warm_rows_per_day(table: TableSpec, since: date, below: datetime, left_out: Sequence[Window]) -> str:
    """Rows ``(day, rows)`` of the source that the cold tier must hold, by partition day, from ``since`` on."""
    due = _due(source_column(table.timestamp_column), below, left_out)
    return rows_per_day(table, f"{_since(table, since)} AND {due}")


def warm_day(table: TableSpec, columns: Sequence[Column], scope: DayScope) -> str:
    """The source's rows of a day, cast for Iceberg; stands after FROM."""
    return f"({select(table, columns, in_scope(table, scope))})"


def cold_day(table: TableSpec, columns: Sequence[Column], scope: DayScope, cold_table: str) -> str:
    """The cold table's rows of a day; stands after FROM.

    :param cold_table: a table function that reads the cold table
    """
    names = ", ".join(quote(column.name) for column in columns)
    return f"(SELECT {names} FROM {cold_table} WHERE {in_scope(table, scope, quote)})"


def count_out_of_scope(table: TableSpec, scope: DayScope, cold_table: str) -> str:
    """One row: cold rows of the day's partition that are not compared, whatever the reason."""
    day = between(quote(table.partition_column), day_window(scope.day))
    return f"SELECT countIf(NOT ifNull({in_scope(table, scope, quote)}, 0)) FROM {cold_table} WHERE {day}"


def minute_hashes(table: TableSpec, columns: Sequence[Column], rows: str) -> str:
    """Rows ``(minute of the timestamp since 1970, rows, hash, hash of all values)`` of one side of a day.

    The first hash passes over what is not compared, the second does not: it is what a file with these rows has.
    """
    return (
        f"SELECT {_minute(table)} AS k2_minute, count(), sum({_hash(table, columns)}), sum({row_hash(columns)}) "
        f"FROM {rows} GROUP BY k2_minute"
    )


def differing_rows(table: TableSpec, columns: Sequence[Column], warm: str, cold: str, minutes: Collection[int]) -> str:
    """One row: rows of the warm side alone, of the cold side alone, the first and last of their times, the hashes' sum.

    The hashes of the cold side count negatively: the sum is the difference of both sides.

    :param minutes: to look at; all others are known to be equal
    """

    def side(rows: str, is_warm: int) -> str:
        return (
            f"SELECT {_hash(table, columns)} AS k2_hash, toInt64({2 * is_warm - 1}) AS k2_side, "
            f"toUnixTimestamp64Micro({_time(table)}) AS k2_micros FROM {rows} WHERE {_among(table, minutes)}"
        )

    return (
        "SELECT sumIf(k2_surplus, k2_surplus > 0), -sumIf(k2_surplus, k2_surplus < 0), min(k2_micros), max(k2_micros), "
        "sum(reinterpretAsUInt64(k2_surplus) * k2_hash) FROM ("
        "SELECT k2_hash, sum(k2_side) AS k2_surplus, any(k2_micros) AS k2_micros FROM "
        f"({side(warm, 1)} UNION ALL {side(cold, 0)}) GROUP BY k2_hash HAVING k2_surplus != 0)"
    )


def shrunk_rows(table: TableSpec, columns: Sequence[Column], warm: str, cold: str, minutes: Collection[int]) -> str:
    """One row: keys of the cold side that the warm side does not keep, and the hashes' sum.

    Kept is a key that stands on either side once, in a newer version or with the same values: a row that only became
    another one was altered, or its column was dropped and added again. The hashes of the cold side count negatively,
    as in :func:`differing_rows`.
    """
    keys, version = ", ".join(quote(name) for name in table.key_columns), quote(table.version_column or "")

    def side(rows: str, is_warm: int) -> str:
        side = f"toInt64({2 * is_warm - 1}) AS k2_side"
        chosen = f"{keys}, {version} AS k2_version, {_hash(table, columns)} AS k2_hash, {side}"
        return f"SELECT {chosen} FROM {rows} WHERE {_among(table, minutes)}"

    return (
        "SELECT countIf(k2_cold_rows > 0 AND NOT ifNull(k2_warm_rows = 1 AND k2_cold_rows = 1 "
        "AND (k2_warm_version > k2_cold_version OR k2_part = 0), 0)), sum(k2_part) FROM ("
        f"SELECT {keys}, countIf(k2_side = 1) AS k2_warm_rows, countIf(k2_side = -1) AS k2_cold_rows, "
        "maxOrNullIf(k2_version, k2_side = 1) AS k2_warm_version, "
        "maxOrNullIf(k2_version, k2_side = -1) AS k2_cold_version, "
        "sum(reinterpretAsUInt64(k2_side) * k2_hash) AS k2_part "
        f"FROM ({side(warm, 1)} UNION ALL {side(cold, 0)}) GROUP BY {keys})"
    )


def pick_differing(
    table: TableSpec, columns: Sequence[Column], warm: str, cold: str, differing: Window, limit: int
) -> str:
    """Rows ``(hash, surplus, changed)`` that one side holds more often, in the order of their times.

    The surplus is negative for the cold side. A row is changed if either side has one of its key: of the table's key
    columns, or else of all that the table file says of a row.

    :param limit: of rows of each side
    """
    key = row_hash(naming_columns(table, columns))

    def side(rows: str, is_warm: int) -> str:
        return (
            f"SELECT {_hash(table, columns)} AS k2_hash, {key} AS k2_key, toInt64({2 * is_warm - 1}) AS k2_side, "
            f"toUnixTimestamp64Micro({_time(table)}) AS k2_micros FROM {rows} WHERE {between(_time(table), differing)}"
        )

    return (
        "SELECT k2_hash, k2_surplus, min(k2_surplus) OVER (PARTITION BY k2_key) < 0 "
        "AND max(k2_surplus) OVER (PARTITION BY k2_key) > 0 AS k2_changed FROM ("
        "SELECT k2_hash, any(k2_key) AS k2_key, any(k2_micros) AS k2_micros, sum(k2_side) AS k2_surplus FROM "
        f"({side(warm, 1)} UNION ALL {side(cold, 0)}) GROUP BY k2_hash HAVING k2_surplus != 0) "
        f"ORDER BY k2_micros, k2_key, k2_surplus LIMIT {limit} BY k2_surplus > 0"
    )


def naming_columns(table: TableSpec, columns: Sequence[AnyColumn]) -> list[AnyColumn]:
    """The columns that name a row: the table's key columns, or else all that the table file says of a row."""
    named: tuple[str | None, ...] = (table.timestamp_column, *table.sort_columns, table.sequence_column)
    named = table.key_columns or named
    return [column for column in columns if column.name in named]


def hashed_rows(
    table: TableSpec, columns: Sequence[Column], key: Sequence[Column], rows: str, minutes: Collection[int]
) -> str:
    """Rows ``(hash, time in microseconds since 1970, hash of the key, version)`` of one side."""
    version = quote(table.version_column) if table.version_column is not None else "NULL"
    return (
        f"SELECT {_hash(table, columns)}, toUnixTimestamp64Micro({_time(table)}), {row_hash(key)}, {version} "
        f"FROM {rows} WHERE {_among(table, minutes)}"
    )


def print_rows(
    table: TableSpec, columns: Sequence[Column], rows: str, differing: Window, hashes: Collection[int]
) -> str:
    """Rows ``(hash, text of each column)`` of one side, each once."""
    texts = ", ".join(f"{_text(column)} AS k2_text_{number}" for number, column in enumerate(columns))
    return (
        f"SELECT {_hash(table, columns)} AS k2_hash, {texts} FROM {rows} WHERE {between(_time(table), differing)} "
        f"AND k2_hash IN ({', '.join(map(str, hashes))}) LIMIT 1 BY k2_hash"
    )


def hash_of_files(columns: Sequence[PlannedColumn], uris: Sequence[str], lake_collection: str) -> str:
    """One row ``(rows, hash)`` of what Parquet files hold."""
    names = ", ".join(quote(column.name) for column in columns)
    files = " UNION ALL ".join(f"SELECT {names} FROM {parquet_file(uri, lake_collection)}" for uri in uris)
    return f"{content_hash(columns, f'({files})')} {_READ}"


def sealed_day(
    columns: Sequence[PlannedColumn], partition_column: str, day: date, cold_table: str, snapshot_id: int
) -> str:
    """One row ``(rows, hash)``: what a snapshot of the cold table holds of a day, whatever was compared of it.

    :param cold_table: a table function that reads the cold table
    """
    names = ", ".join(quote(column.name) for column in columns)
    rows = f"(SELECT {names} FROM {cold_table} WHERE {between(quote(partition_column), day_window(day))})"
    return f"{content_hash(columns, rows)} SETTINGS iceberg_snapshot_id = {snapshot_id}"


def rows_per_day_since(table: TableSpec, since: date) -> str:
    """Rows ``(day, rows)`` of all that the source shows, by partition day, from ``since`` on."""
    return rows_per_day(table, _since(table, since))


def unmoved_days(table: TableSpec, below: datetime, left_out: Sequence[Window]) -> str:
    """Rows ``(day, to come)``: partition days of rows that no window has moved; and whether one is still to do so.

    A row of more than a year ahead is no row of an interval that has begun: it says nothing.

    :param below: the watermark
    :param left_out: ranges of the timestamp column that were skipped on purpose
    """
    time, partition = source_column(table.timestamp_column), source_column(table.partition_column)
    to_come = between(time, Window(below, below + _LONGEST_INTERVAL))
    unmoved = " OR ".join([to_come, *(between(time, window) for window in left_out)])
    return (
        f"SELECT toDate32({partition}, 'UTC') AS unmoved_day, max({to_come}) FROM {source_of(table)} "
        f"WHERE {unmoved} GROUP BY unmoved_day"
    )


def far_rows(table: TableSpec, first: date, last: date) -> str:
    """One row: how many rows of some partition days have a timestamp that lies later than it may.

    :param last: inclusive
    """
    time, partition = source_column(table.timestamp_column), source_column(table.partition_column)
    days = between(partition, days_window(first, last))
    far = f"{time} > {partition} + toIntervalSecond({int(table.longest_interval.total_seconds())})"
    return f"SELECT count() FROM {source_of(table)} WHERE {days} AND {far}"


def oldest_day(table: TableSpec) -> str:
    """One row: the first partition day that the source holds a row of."""
    return f"SELECT toDate32(min({source_column(table.partition_column)}), 'UTC') FROM {source_of(table)}"


def warm_content(table: TableSpec, columns: Sequence[Column], day: date) -> str:
    """One row ``(rows, hash)``: all that the source shows of a day; of columns that came later, what the cold tier has.

    :param columns: those that were sealed, in their order
    """
    rows = select(table, columns, between(source_column(table.partition_column), day_window(day)))
    return f"SELECT count(), sum({_hash(table, columns)}) FROM ({rows})"


def in_scope(table: TableSpec, scope: DayScope, reference: Callable[[str], str] = source_column) -> str:
    """Whether a row is one of those that are compared.

    :param reference: gives a column's name in the query
    """
    due = _due(reference(table.timestamp_column), scope.below, scope.left_out)
    return f"{between(reference(table.partition_column), day_window(scope.day))} AND {due}"


def _since(table: TableSpec, day: date) -> str:
    return f"{source_column(table.partition_column)} >= {instant(to_micros(day_window(day).low))}"


def _due(time: str, below: datetime, left_out: Sequence[Window]) -> str:
    within = between(time, Window(FIRST_WATERMARK, below))
    return within + "".join(f" AND NOT ({between(time, window)})" for window in left_out)


def _among(table: TableSpec, minutes: Collection[int]) -> str:
    return f"{_minute(table)} IN ({', '.join(str(minute) for minute in sorted(minutes))})"


def _hash(table: TableSpec, columns: Sequence[Column]) -> str:
    """Of a row, for a comparison."""
    time = f"toUnixTimestamp64Micro({_time(table)})"
    compared = {
        column.name: f"if({time} < {to_micros(column.compared_from)}, NULL, {quote(column.name)})"
        for column in columns
        if column.compared_from is not None
    }
    return row_hash(columns, compared)


def _time(table: TableSpec) -> str:
    return f"assumeNotNull(CAST({quote(table.timestamp_column)}, 'Nullable(DateTime64(6, \\'UTC\\'))'))"


def _text(column: Column) -> str:
    name = quote(column.name)
    if column.iceberg_type == "timestamptz":
        return f"toString(CAST({name}, 'Nullable(DateTime64(6, \\'UTC\\'))'))"
    if column.iceberg_type == "binary" or column.iceberg_type.startswith("fixed"):
        return f"hex({name})"
    return f"toString({name})"


def _minute(table: TableSpec) -> str:
    return f"intDiv(toUnixTimestamp64Micro({_time(table)}), {_MINUTE_MICROS})"
