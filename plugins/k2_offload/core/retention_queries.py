"""The ClickHouse statements that move proven partitions away, as text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from k2_offload.core.day_comparison import day_window
from k2_offload.core.holding import DayRange
from k2_offload.core.queries import source_of
from k2_offload.core.retention import HOLDING_SUFFIX, Coverage
from k2_offload.core.sql import SOURCE, between, is_named, literal, qualified, source_column
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import Window

_NO_MERGES = {
    "max_bytes_to_merge_at_max_space_in_pool": 1,
    "max_bytes_to_merge_at_min_space_in_pool": 1,
    # The storage may have another one, and before 26.2 it merges whatever the two above say. From then on, if
    # enable_max_bytes_limit_for_min_age_to_force_merge is off.
    "min_age_to_force_merge_seconds": 0,
}
"""So that the parts that are held stay those that were compared."""


def holding_of(storage: str) -> str:
    """Name of the holding table of a storage."""
    return storage + HOLDING_SUFFIX


def describe_table(name: str) -> str:
    """Rows ``(full engine, comment)``; none if there is no such table."""
    return f"SELECT engine_full, comment FROM system.tables WHERE {is_named(name)}"


def structure(name: str) -> str:
    """Rows that describe a table's columns in their order.

    Two tables between which a partition can be moved have the same ones, and the same of :func:`layout`.
    """
    return (
        "SELECT name, type, default_kind, default_expression, compression_codec, is_in_sorting_key FROM system.columns "
        f"WHERE {is_named(name, 'table')} ORDER BY position"
    )


def layout(name: str) -> str:
    """Rows that describe a table's keys, disks, indices and projections."""
    of_table = is_named(name, "table")
    return (
        # Without names of their own: ClickHouse would take one for the column that a condition asks, and find no row.
        "SELECT * FROM (SELECT 'table', partition_key, sorting_key, primary_key, storage_policy "
        f"FROM system.tables WHERE {is_named(name)} UNION ALL "
        "SELECT 'index', name, type_full, expr, toString(granularity) FROM system.data_skipping_indices "
        f"WHERE {of_table} UNION ALL "
        "SELECT 'projection', name, toString(type), toString(sorting_key), query FROM system.projections "
        f"WHERE {of_table}) ORDER BY ALL"
    )


def create_holding(storage: str, comment: str, *, replace: bool = False) -> str:
    """An empty table like the storage; it keeps the storage's TTL until :func:`prepare_holding`.

    :param replace: in the place of the one that is there, at once: dropped first, what is on record would be lost if
        the run died then
    """
    verb = "CREATE OR REPLACE TABLE" if replace else "CREATE TABLE"
    return f"{verb} {qualified(holding_of(storage))} AS {qualified(storage)} COMMENT {literal(comment)}"


def prepare_holding(storage: str, engine: str, *, has_ttl: bool) -> list[str]:
    """What lets the holding table keep its parts as they are; nothing if it does.

    :param engine: of the holding table, in full
    """
    name = qualified(holding_of(storage))
    statements = [f"ALTER TABLE {name} REMOVE TTL"] if has_ttl else []
    missing = [
        f"{setting} = {value}"
        for setting, value in _NO_MERGES.items()
        if not re.search(rf"\b{setting} = {value}\b", engine)
    ]
    if missing:
        statements.append(f"ALTER TABLE {name} MODIFY SETTING {', '.join(missing)}")
    return statements


def write_comment(storage: str, comment: str) -> str:
    """Put what is on record into the holding table's comment."""
    return f"ALTER TABLE {qualified(holding_of(storage))} MODIFY COMMENT {literal(comment)}"


def parts(name: str) -> str:
    """Rows ``(partition, digests of its parts in order, their rows)``, of parts with rows."""
    return (
        "SELECT partition_id, arraySort(groupArray(hash_of_all_files)), sum(rows) FROM system.parts "
        f"WHERE active AND rows > 0 AND {is_named(name, 'table')} "
        "GROUP BY partition_id ORDER BY partition_id"
    )


def mutations(name: str) -> str:
    """Rows ``(mutation, command, whether it is done, microseconds when it was given)`` of a table, in their order."""
    return (
        "SELECT mutation_id, command, is_done, toUnixTimestamp(create_time) * 1000000 FROM system.mutations "
        f"WHERE {is_named(name, 'table')} ORDER BY create_time, mutation_id"
    )


def any_holding() -> str:
    """One row: how many tables may be holding tables."""
    return f"SELECT count() FROM system.tables WHERE endsWith(name, {literal(HOLDING_SUFFIX)})"


def partition_days(storage: str, columns: Sequence[str]) -> str:
    """Rows ``(partition, rows, first day and last day of each column in UTC)``."""
    days = "".join(
        f", toDate32({function}({source_column(column)}), 'UTC')" for column in columns for function in ("min", "max")
    )
    return (
        f"SELECT _partition_id AS k2_id, count(){days} FROM {qualified(storage)} AS {SOURCE} "
        "GROUP BY k2_id ORDER BY k2_id"
    )


def move(storage: str, partition_id: str) -> str:
    """Move a partition into the holding table."""
    return f"ALTER TABLE {qualified(storage)} {_moved(partition_id, holding_of(storage))}"


def move_back(storage: str, partition_id: str) -> str:
    """Move a partition out of the holding table."""
    return f"ALTER TABLE {qualified(holding_of(storage))} {_moved(partition_id, storage)}"


def drop(storage: str, partition_id: str) -> str:
    """Drop a partition that is held."""
    return f"ALTER TABLE {qualified(holding_of(storage))} DROP PARTITION ID {literal(partition_id)}"


def count_storage(storage: str, partition_id: str) -> str:
    """One row: how many rows of a partition can be read."""
    return f"SELECT count() FROM {_of_partition(storage, partition_id)}"


def count_source(table: TableSpec, days: DayRange) -> str:
    """One row: how many rows a source shows of some days."""
    return f"SELECT count() FROM {_of_days(table, days)}"


def count_shown(table: TableSpec, storage: str, partition_id: str, days: DayRange) -> str:
    """One row: how many rows a view shows of one partition of its storage, and how many of them are of some days."""
    only = f"{{{literal(storage)}: {literal(f'_partition_id = {literal(partition_id)}')}}}"
    return (
        f"SELECT count(), countIf({_are_of(table, days)}) FROM {source_of(table)} "
        f"SETTINGS additional_table_filters = {only}"
    )


def measure_storage(storage: str, partition_id: str, covered: Coverage, sorting_key: Sequence[str]) -> str:
    """One row of what a partition holds: see :func:`k2_offload.core.retention.hides_rows`.

    :param sorting_key: columns in it
    """
    columns, of_partition = list(map(source_column, covered.columns)), _of_partition(storage, partition_id)
    if covered.version_column is None:
        return f"SELECT count(), sum({_digest(columns)}), 1, 0 FROM {of_partition}"
    version, keys = source_column(covered.version_column), ", ".join(map(source_column, sorting_key))
    return (
        "SELECT count(), sum(k2_hash), max(k2_alike), sum(k2_empty) FROM ("
        f"SELECT {_digest([*columns, f'sum({version})'])} AS k2_hash, uniqExact(tuple({keys})) AS k2_alike, "
        f"countIf({version} = 0) AS k2_empty FROM {of_partition} GROUP BY {', '.join(columns)})"
    )


def measure_source(table: TableSpec, days: DayRange, covered: Coverage) -> str:
    """One row ``(rows, sum of hashes)`` of what a view shows of some days."""
    names = [*covered.columns, *([covered.version_column] if covered.version_column is not None else [])]
    return f"SELECT count(), sum({_digest(list(map(source_column, names)))}) FROM {_of_days(table, days)}"


def count_in_both(storage: str, partition_id: str) -> str:
    """One row: rows of a partition that is held which the storage holds, too."""
    row, of_partition = "cityHash64(tuple(*))", f"_partition_id = {literal(partition_id)}"
    return (
        f"SELECT count() FROM {qualified(holding_of(storage))} WHERE {of_partition} AND {row} IN "
        f"(SELECT {row} FROM {qualified(storage)} WHERE {of_partition})"
    )


def _of_partition(storage: str, partition_id: str) -> str:
    return f"{qualified(storage)} AS {SOURCE} WHERE _partition_id = {literal(partition_id)}"


def _of_days(table: TableSpec, days: DayRange) -> str:
    return f"{source_of(table)} WHERE {_are_of(table, days)}"


def _are_of(table: TableSpec, days: DayRange) -> str:
    window = Window(day_window(days[0]).low, day_window(days[1]).high)
    return between(source_column(table.partition_column), window)


def _digest(values: Sequence[str]) -> str:
    # As text, so that a NULL counts, and a view may have another type for the same value.
    hashed = (f"isNull({value}), ifNull(toString({value}), '')" for value in values)
    return f"cityHash64({', '.join(hashed)})"


def _moved(partition_id: str, to: str) -> str:
    return f"MOVE PARTITION ID {literal(partition_id)} TO TABLE {qualified(to)}"
