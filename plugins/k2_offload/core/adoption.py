"""Taking over a cold table that another system has filled: pure rules, no I/O.

Such a table ends right after its newest row (:func:`k2_offload.core.exactly_once.adopted`). Nothing lies above that
bound, so no window brings a row a second time. What the other system has lost below it are late rows, and what it has
doubled are rows that only the cold tier holds: both are found by comparing days, as long as ClickHouse has them. A heal
takes no row from the cold tier unasked, and once ClickHouse has lost the day, nobody would ever find a row that is
there twice. So a person decides about these before.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date

from k2_offload.core.day_comparison import DayComparison, Verdict, day_window
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.exactly_once import HEALED_BRANCH, PUBLISHED_BRANCH, Snapshot, WindowId
from k2_offload.core.lake import parquet_file
from k2_offload.core.maintenance import MAX_REF_AGE
from k2_offload.core.schema_change import ColumnPair
from k2_offload.core.tables import TableSpec
from k2_offload.core.transports import TRANSPORTS
from k2_offload.core.windows import format_time

ADOPTED_PROPERTY = "k2.adopted"
"""Of the cold table: what was known of its rows when it was taken over, see :func:`write_record`."""

_KNOWN_TYPE = re.compile(
    r"boolean|int|long|float|double|date|timestamptz|string|binary|decimal\(\d+, \d+\)|fixed\[\d+\]"
)

_NAMED_DAYS = 10
_UNTOUCHED = "Nothing was changed."


@dataclass(frozen=True)
class Shape:
    """What a cold table's metadata says of it.

    :param name: as Spark calls it, with its catalog
    :param sort_order: columns that its writers sort by, ascending; anything else as Iceberg prints it
    :param rows_of_days: rows of the files that are partitioned by day, by day
    :param undated_rows: rows of such files in which the partition column is NULL
    :param other_files: files that are partitioned in another way than the table file says
    :param max_ref_age: its property :data:`~k2_offload.core.maintenance.MAX_REF_AGE`
    """

    name: str
    location: str
    format_version: int
    sort_order: tuple[str, ...] = ()
    rows_of_days: Mapping[date, int] = field(default_factory=dict)
    undated_rows: int = 0
    other_files: int = 0
    max_ref_age: str | None = None


def has_windows(snapshots: Iterable[Snapshot], branches: Iterable[str]) -> bool:
    """Whether anything in a table's history says that this project has written to it."""
    return bool({PUBLISHED_BRANCH, HEALED_BRANCH}.intersection(branches)) or any(
        snapshot.window_id or snapshot.heal or snapshot.backfill or snapshot.skips for snapshot in snapshots
    )


def find_problems(table: TableSpec, shape: Shape, columns: Sequence[ColumnPair]) -> list[str]:
    """Why a cold table cannot be used as it is, and what to do about each.

    :param columns: those of the source and of the cold table
    """
    problems = [pair.refusal for pair in columns if pair.refusal is not None and pair.source is not None]
    problems += [
        f"{table.name}: column '{pair.name}' is {pair.cold.iceberg_type} in the cold table, and rows with such a type "
        f"cannot be compared. {_UNTOUCHED} Drop the column, or copy the table without it."
        for pair in columns
        if pair.source is None and pair.cold is not None and not _KNOWN_TYPE.fullmatch(pair.cold.iceberg_type)
    ]
    if shape.format_version < 2:  # noqa: PLR2004
        problems.append(
            f"{table.name}: the cold table has Iceberg's format {shape.format_version}, in which snapshots have no "
            f"order. {_UNTOUCHED} With Spark: ALTER TABLE {shape.name} SET TBLPROPERTIES ('format-version' = '2')."
        )
    if shape.sort_order not in ((), table.sort_columns):
        problems.append(
            f"{table.name}: the cold table is sorted by {', '.join(shape.sort_order)}, and files will be sorted by "
            f"{', '.join(table.sort_columns) or 'nothing'} (sort_columns). {_UNTOUCHED} With Spark: ALTER TABLE "
            f"{shape.name} WRITE UNORDERED; or correct sort_columns."
        )
    if shape.max_ref_age is not None:
        problems.append(
            f"{table.name}: by the cold table's property {MAX_REF_AGE}, an expiry would take branches and tags that "
            f"are kept there. {_UNTOUCHED} With Spark: ALTER TABLE {shape.name} UNSET TBLPROPERTIES ('{MAX_REF_AGE}')."
        )
    if shape.other_files:
        problems.append(
            f"{table.name}: {shape.other_files:,} files of the cold table are not partitioned by day of "
            f"'{table.partition_column}' alone, so their days could be neither compared nor healed. {_UNTOUCHED} Once "
            f"the table is, rewrite them with Spark: CALL {shape.name.split('.')[0]}.system.rewrite_data_files(table "
            f"=> '{table.target}', options => map('rewrite-all', 'true'))."
        )
    if shape.undated_rows:
        problems.append(_undated(table, shape, table.partition_column, shape.undated_rows))
    if TRANSPORTS[table.transport].clickhouse_writes:
        try:
            parquet_file(shape.location, "")
        except ConfigurationError as error:
            problems.append(f"{table.name}: {error}. {_UNTOUCHED}")
    return problems


def find_notes(table: TableSpec, columns: Sequence[ColumnPair]) -> list[str]:
    """What will be asked of a person after the table was taken over, or done by itself."""
    notes = [
        f"Column '{pair.name}' is only in the cold table. It stays, and the cycles stop until you say that it is NULL "
        f"from then on: `k2 schema {table.name} --stop-filling {pair.name}` (days that lie before are not healed any "
        "more), or a view that has it is the source."
        for pair in columns
        if pair.source is None and pair.cold is not None
    ]
    changes = [str(change) for pair in columns for change in pair.changes]
    return notes + ([f"The next cycle changes the cold table's columns: {', '.join(changes)}."] if changes else [])


@dataclass(frozen=True)
class Repeated:
    """Rows of the cold table that are equal: in all columns of the source, or in those of the key.

    :param values: of the columns that name a row, by column
    :param times: how often the table holds it
    """

    values: Mapping[str, str]
    times: int


@dataclass(frozen=True)
class DayRows:
    """What one day of the cold table holds.

    :param duplicates: rows that are equal in all columns of the source to another one, which is not counted
    :param differing: those of them that differ from each such row in a column that only the cold table has
    :param equal_keys: other rows of a key that has one already; 0 where the table file names no key
    :param undated: rows whose timestamp is NULL
    :param early: rows before 2000, which no window holds
    :param newest_micros: the newest timestamp, in microseconds since 1970 UTC; ``None`` if there is none
    :param repeated: the first of the rows that are there more than once
    """

    day: date
    rows: int
    duplicates: int = 0
    differing: int = 0
    equal_keys: int = 0
    undated: int = 0
    early: int = 0
    newest_micros: int | None = None
    repeated: tuple[Repeated, ...] = ()

    @property
    def surplus(self) -> int:
        """Rows too many."""
        return self.duplicates + self.equal_keys


def find_row_problems(table: TableSpec, shape: Shape, days: Sequence[DayRows], delete_files: int) -> list[str]:
    """The same, once all rows were read.

    :param delete_files: of the table; rows that they take out are not read
    """
    undated, said, read = (
        sum(day.undated for day in days),
        sum(shape.rows_of_days.values()),
        sum(day.rows for day in days),
    )
    problems = [_undated(table, shape, table.timestamp_column, undated)] if undated else []
    if said != read and not delete_files:
        problems.append(
            f"{table.name}: the cold table's files of days hold {said:,} rows by its metadata, and {read:,} rows are "
            f"of these days. {_UNTOUCHED} `k2 verify {table.name} --cold-only` names the files."
        )
    return problems


def _undated(table: TableSpec, shape: Shape, column: str, rows: int) -> str:
    """Why a table with NULL in one of its times cannot be used."""
    return (
        f"{table.name}: {rows:,} rows of the cold table have NULL in '{column}': they are of no day and of no window. "
        f"{_UNTOUCHED} If they may go, with Spark: DELETE FROM {shape.name} WHERE {_quote(column)} IS NULL."
    )


def only_cold(columns: Iterable[ColumnPair]) -> list[str]:
    """The columns that the source lacks: they say nothing of which row it is."""
    return [pair.name for pair in columns if pair.source is None]


def healed_from(columns: Sequence[ColumnPair], whole_from: date) -> date:
    """The first day that a heal may replace: none where that would take the values of a column that only cold has.

    :param whole_from: the first day that ClickHouse holds as a whole
    """
    return date.max if only_cold(columns) else whole_from


def find_surplus(days: Iterable[DayRows], compared: Iterable[DayComparison]) -> list[DayRows]:
    """Days with rows too many: all that hold rows more than once, unless ClickHouse holds just the same rows."""
    same = {day.scope.day for day in compared if day.verdict is Verdict.EQUAL}
    return [day for day in days if day.surplus and day.day not in same]


def describe_surplus(table: str, found: Sequence[DayRows]) -> str:
    """Why a table with such days is not taken over unasked."""
    days = ", ".join(f"{day.day} ({day.surplus:,})" for day in found[:_NAMED_DAYS])
    more = f" and {len(found) - _NAMED_DAYS} more days" if len(found) > _NAMED_DAYS else ""
    return (
        f"{table}: {sum(day.surplus for day in found):,} rows of the cold table are there more than once: {days}{more}."
        f" Nothing would remove them by itself. {_UNTOUCHED} Remove them first, with the statements shown, and run the "
        "command again; or, if the source had them twice, or they may stay, say --keep-duplicates, which puts them on "
        "record."
    )


def deduplication(
    table: TableSpec, shape: Shape, columns: Sequence[str], day: date, unsourced: Sequence[str] = ()
) -> str:
    """The Spark SQL that leaves each row of a day once, in one commit; of a key, the newest version.

    :param columns: of the cold table, in their order
    :param unsourced: those that the source lacks, see :func:`only_cold`; of rows that differ in them, the first is left
    """
    window, column = day_window(day), _quote(table.partition_column)
    times = [f"TIMESTAMP '{time:%Y-%m-%d %H:%M:%S}Z'" for time in (window.low, window.high)]
    of_day = f"{column} >= {times[0]} AND {column} < {times[1]}"
    rows = f"FROM {shape.name} WHERE {of_day}"
    order = [f"{_quote(name)} NULLS LAST" for name in unsourced]
    if table.version_column is not None:
        order.insert(0, f"{_quote(table.version_column)} DESC")
    if order:
        named = table.key_columns or [name for name in columns if name not in unsourced]
        names, partition = (", ".join(map(_quote, each)) for each in (columns, named))
        number = f"row_number() OVER (PARTITION BY {partition} ORDER BY {', '.join(order)})"
        rows = f"SELECT {names} FROM (SELECT *, {number} AS k2_number {rows}) WHERE k2_number = 1"
    else:
        rows = f"SELECT DISTINCT * {rows}"
    # Not INSERT OVERWRITE: without a setting of the session, that would replace the whole table.
    return f"INSERT INTO {shape.name} REPLACE WHERE {of_day} {rows}"


def _quote(name: str) -> str:
    """As Spark does, unlike ClickHouse."""
    return "`{}`".format(name.replace("`", "``"))


def write_record(window_id: WindowId, rows: int, kept: Iterable[DayRows]) -> str:
    """What stays on record in the table: where it ended, its rows, and the rows too many that were left in it."""
    return json.dumps(
        {
            "watermark": format_time(window_id.window.high),
            "rows": rows,
            "duplicates_kept": {day.day.isoformat(): day.surplus for day in kept},
        }
    )


def read_kept_duplicates(record: str | None) -> dict[date, int]:
    """How many rows too many were left in which days; none where there is no record.

    :param record: what :func:`write_record` wrote
    :raises ValueError: if it is something else
    """
    try:
        kept = json.loads(record)["duplicates_kept"] if record is not None else {}
        return {date.fromisoformat(day): int(rows) for day, rows in kept.items()}
    except (AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"no record of a table that was taken over: {record}") from error
