"""The ClickHouse queries of one table, as text."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from k2_offload.core.splits import SLOT, Split
from k2_offload.core.sql import (
    SOURCE,
    between,
    fill,
    instant,
    is_named,
    literal,
    placeholder,
    qualified,
    quote,
    source_column,
)
from k2_offload.core.tables import TableSpec
from k2_offload.core.ttl import Removal, Storage
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import TICK, Window, to_micros

EXPORT_SETTINGS = (
    "output_format_parquet_compression_method = 'zstd', output_format_compression_level = 2, "
    "output_format_parquet_string_as_string = 1, output_format_parquet_fixed_string_as_fixed_byte_array = 1, "
    # By default every column gets one; they are a third of the file and of the time, for point look-ups by any column.
    "output_format_parquet_write_bloom_filter = 0, "
    # The engine holds whole row groups in memory; by rows alone they grow with the raw messages.
    "output_format_parquet_row_group_size_bytes = 33554432, "
    # ClickHouse would read a folder name like day=2026-01-01 as a column that the rows lack.
    "use_hive_partitioning = 0"
)
"""Of every statement that writes a Parquet file."""

_NOT_TEXT = "not valid UTF-8: "
_ANSWER_NOT_TEXT = re.compile(rf"DB::Exception: {_NOT_TEXT}`(.*?)`")


PROBE_ROWS = [("k2 validate",)]
"""What :func:`probe` writes and reads."""


def probe(file: str) -> tuple[str, str]:
    """The statements that write and read a small Parquet file.

    :param file: table function, see :func:`k2_offload.core.lake.parquet_file`
    """
    selected = f"SELECT {literal(PROBE_ROWS[0][0])} AS written_by SETTINGS {EXPORT_SETTINGS}"
    return f"INSERT INTO FUNCTION {file} {selected}", f"SELECT written_by FROM {file}"


def newest_row(table: TableSpec, since_micros: int, before_micros: int | None = None) -> str:
    """One row: newest timestamp in ``[since, before)`` (NULL if none), and how many timestamps are NULL."""
    time = source_column(table.timestamp_column)
    return (
        f"SELECT toUnixTimestamp64Micro(CAST(maxOrNull({time}), 'Nullable(DateTime64(6, \\'UTC\\'))')), "
        f"countIf(isNull({time})) FROM {source_of(table)} WHERE {time} >= {instant(since_micros)}"
        + (f" AND {time} < {instant(before_micros)}" if before_micros is not None else "")
        + f" OR isNull({time})"
    )


def column_types(table: TableSpec) -> str:
    """Rows ``(column, ClickHouse's own name of its type)`` of the source's stored columns, in their order."""
    return (
        f"SELECT name, toValidUTF8(type) FROM system.columns WHERE {is_named(table.source, 'table')} "
        "AND default_kind NOT IN ('ALIAS', 'EPHEMERAL') ORDER BY position"
    )


def select_all(table: TableSpec) -> str:
    """All rows of the source."""
    return f"SELECT * FROM {source_of(table)}"


def engine_and_select(name: str) -> str:
    """One row: a table's engine, and what it selects if it is a view; none if there is no such table."""
    return f"SELECT engine, as_select FROM system.tables WHERE {is_named(name)}"


def engine(name: str) -> str:
    """One row: a table's engine in full; none if there is no such table."""
    return f"SELECT engine_full FROM system.tables WHERE {is_named(name)}"


def describe_columns(name: str) -> str:
    """Rows that describe a table's columns: the name first, the column's own TTL seventh.

    No system table has that, and ``create_table_query`` would have to be parsed.
    """
    return f"DESCRIBE TABLE {qualified(name)} SETTINGS describe_compact_output = 0, describe_include_subcolumns = 0"


def replicas(storages: Sequence[str]) -> str:
    """One row per replicated table: its name, whether it is cut off, and how many seconds it is behind.

    Of columns for which ClickHouse does not ask Keeper.

    :param storages: ``database.table`` of each
    """
    names = ", ".join(map(literal, storages))
    return (
        "SELECT concat(database, '.', table) AS storage, is_readonly OR is_session_expired, absolute_delay "
        f"FROM system.replicas WHERE storage IN ({names}) ORDER BY storage"
    )


def oldest_row(table: TableSpec, since_micros: int, before_micros: int) -> str:
    """One row: oldest timestamp in ``[since, before)``, NULL if none."""
    time = source_column(table.timestamp_column)
    return (
        f"SELECT toUnixTimestamp64Micro(CAST(minOrNull({time}), 'Nullable(DateTime64(6, \\'UTC\\'))')) "
        f"FROM {source_of(table)} WHERE {time} >= {instant(since_micros)} AND {time} < {instant(before_micros)}"
    )


_IN_THE_SERVERS_ZONE = " SETTINGS session_timezone = ''"
"""A date is the midnight of the server's zone for a TTL, whatever that of the user's profile is."""


def first_expiry(table: TableSpec, storage: Storage, since_micros: int) -> str:
    """One row: the times, in microseconds since 1970, at which each rule may remove the first row from a time on.

    NULL where a rule removes none of them.
    """
    firsts = (f"minOrNullIf({_expiry(removal)}, {removal.condition_sql or '1'})" for removal in storage.removals)
    return (
        f"SELECT {', '.join(firsts)} FROM {qualified(storage.name)} AS {SOURCE} "
        f"WHERE {source_column(table.timestamp_column)} >= {instant(since_micros)}{_IN_THE_SERVERS_ZONE}"
    )


def expiry_of(table: TableSpec, storage: Storage, micros: int) -> str:
    """One row: when each rule may remove a row of a time, whatever its condition; fails if it needs other columns."""
    times = dict.fromkeys((table.timestamp_column, table.partition_column))
    row = ", ".join(f"{instant(micros)} AS {quote(column)}" for column in times)
    return f"SELECT {', '.join(map(_expiry, storage.removals))} FROM (SELECT {row}){_IN_THE_SERVERS_ZONE}"


def _expiry(removal: Removal) -> str:
    # Without a time zone: see _IN_THE_SERVERS_ZONE.
    return f"toUnixTimestamp64Micro(toDateTime64({removal.expires_sql}, 6))"


def count_outside(table: TableSpec, before_micros: int, future_micros: int) -> str:
    """One row: how many timestamps lie below the one time, and how many at or above the other."""
    time = source_column(table.timestamp_column)
    early, late = f"{time} < {instant(before_micros)}", f"{time} >= {instant(future_micros)}"
    return f"SELECT countIf({early}), countIf({late}) FROM {source_of(table)} WHERE {early} OR {late}"


def count_left_out(
    table: TableSpec, old_column: str, since_micros: int, left_out: Sequence[Window], below_micros: int
) -> str:
    """One row: how many rows lie at or above a time on the old column, or in a range of it, and below another one now.

    :param below_micros: that time, on the timestamp column
    """
    old = source_column(old_column)
    not_moved = [f"{old} >= {instant(since_micros)}", *(between(old, each) for each in left_out)]
    return (
        f"SELECT count() FROM {source_of(table)} WHERE ({' OR '.join(not_moved)}) "
        f"AND {source_column(table.timestamp_column)} < {instant(below_micros)}"
    )


def count(table: TableSpec) -> str:
    """One row: how many rows the source holds."""
    return f"SELECT count() FROM {source_of(table)}"


def known_counts(tables: Sequence[TableSpec]) -> str:
    """Rows ``(database.table, rows)`` of the databases of some tables: where ClickHouse knows them without counting."""
    databases = ", ".join(map(literal, dict.fromkeys(table.database for table in tables)))
    return (
        "SELECT concat(database, '.', name), total_rows FROM system.tables "
        f"WHERE database IN ({databases}) AND total_rows IS NOT NULL"
    )


def rows_per_step(table: TableSpec, window: Window, step: timedelta) -> str:
    """Rows ``(start of the step, rows, highest sequence or NULL, oldest timestamp)``; empty steps are missing.

    Steps are counted from 1970 on the timestamp column; times are in microseconds since then.
    """
    sequence = f"max({source_column(table.sequence_column)})" if table.sequence_column else "NULL"
    return (
        f"SELECT {_step(table.timestamp_column, step)} AS step, count(), {sequence}, "
        f"min({_micros(table.timestamp_column)}) FROM {source_of(table)} "
        f"WHERE {within(table, window)} GROUP BY step"
    )


def rows_per_day(table: TableSpec, condition: str) -> str:
    """Rows ``(day of the partition column in UTC, rows)``, by day, of those that are chosen.

    :param condition: such as :func:`within`
    """
    return f"SELECT {_day(table)} AS day, count() FROM {source_of(table)} WHERE {condition} GROUP BY day ORDER BY day"


def rows_per_slot(table: TableSpec, condition: str) -> str:
    """Rows ``(start of the partition column's slot in microseconds since 1970, rows)``, of those that are chosen.

    :param condition: such as :func:`within`
    """
    return (
        f"SELECT {_step(table.partition_column, SLOT)} AS slot, count() FROM {source_of(table)} "
        f"WHERE {condition} GROUP BY slot"
    )


def select_split(table: TableSpec, columns: Sequence[Column], condition: str) -> str:
    """Those of the chosen rows that are of one split, in the table's sort order; complete after :func:`of_split`.

    It fails at text that is not valid UTF-8, see :func:`column_not_text`: readers of the cold table could not read it.

    :param condition: such as :func:`within`
    """
    checked = [_checking(each, columns) if each.name == table.timestamp_column else each for each in columns]
    order = ", ".join(source_column(name) for name in table.sort_columns)
    time = source_column(table.partition_column)
    return (
        f"{select(table, checked, condition)} "
        f"AND {time} >= {instant(placeholder('split_low'))} AND {time} < {instant(placeholder('split_high'))}"
        + (f" ORDER BY {order}" if order else "")
    )


def select(table: TableSpec, columns: Sequence[Column], condition: str) -> str:
    """The chosen rows, cast for Iceberg."""
    selected = ", ".join(f"{column.expression} AS {quote(column.name)}" for column in columns)
    return f"SELECT {selected} FROM {source_of(table)} WHERE {condition}"


def column_not_text(answer: str) -> str | None:
    """The column in which :func:`select_split` met text that is not valid UTF-8; ``None`` if it failed otherwise.

    :param answer: what ClickHouse, or whoever asked it, says of the failure
    """
    found = _ANSWER_NOT_TEXT.search(answer)
    return found[1] if found else None


def of_split(select: str, split: Split) -> str:
    """The query of :func:`select_split` for one split."""
    return fill(select, split_low=to_micros(split.low), split_high=to_micros(split.high))


def ask_whether_text(select: str, split: Split, timestamp_column: str) -> str:
    """Fails at text that is not valid UTF-8 as :func:`of_split` does, and has one row otherwise."""
    return f"SELECT max({quote(timestamp_column)}) FROM ({of_split(select, split)})"


def _checking(time: Column, columns: Sequence[Column]) -> Column:
    """A column of times, in a query that fails at text that is not valid UTF-8.

    All texts are looked at in one place, and a time is cheap to pass on; strings would be copied.
    """
    checks = [
        # As a UInt8: ClickHouse 25.8 looks at values of a LowCardinality's dictionary that are in no row.
        f"throwIf(CAST(ifNull(NOT isValidUTF8({column.text}), 0), 'UInt8'), {literal(_NOT_TEXT + quote(column.name))})"
        for column in columns
        if column.text is not None
    ]
    if not checks:
        return time
    return replace(time, expression=f"if(greatest({', '.join(checks)}), {instant(0)}, {time.expression})")


def source_of(table: TableSpec) -> str:
    """The source, under the name :data:`SOURCE`; stands after FROM."""
    return f"{qualified(table.source)} AS {SOURCE}{' FINAL' if table.final else ''}"


def _step(column: str, step: timedelta) -> str:
    return f"{_micros(column)} - positiveModulo({_micros(column)}, {step // TICK})"


def _micros(column: str) -> str:
    return f"toUnixTimestamp64Micro(CAST({source_column(column)}, 'DateTime64(6, \\'UTC\\')'))"


def _day(table: TableSpec) -> str:
    return f"toDate32({source_column(table.partition_column)}, 'UTC')"


def within(table: TableSpec, window: Window) -> str:
    """Whether a row of the source is in a window."""
    return between(source_column(table.timestamp_column), window)
