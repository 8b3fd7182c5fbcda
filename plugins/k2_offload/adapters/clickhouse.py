"""What is asked of ClickHouse. Used by the tasks, the CLI and the Spark job alike."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta

from k2_offload.adapters.clickhouse_connection import ClickHouseConnection
from k2_offload.core import queries
from k2_offload.core.connections import ClickHouseEndpoint
from k2_offload.core.cuts import CUT_STEPS, Counts
from k2_offload.core.errors import InvalidSource
from k2_offload.core.sql import RESERVED
from k2_offload.core.tables import TableSpec
from k2_offload.core.ttl import Removal, Storage, removals
from k2_offload.core.type_mapping import Column, is_number, is_time, map_column
from k2_offload.core.windows import Window, from_micros, to_micros

_TTL_OF_COLUMN = 6
"""Where ``DESCRIBE TABLE`` has it in a row."""

MERGE_TREE = re.compile(r"\w*MergeTree\b")
"""A storage's engine."""

_READS = re.compile(r"^\W*(Read\w+.*?)\s*$", re.MULTILINE)
_READS_MERGE_TREE = re.compile(r"ReadFromMergeTree \((.+)\)")
"""In ClickHouse's plan of a query."""

_TREE_TABLE = re.compile(r"\s*TABLE(?:_FUNCTION)? id: (?:.*\btable_name: ([^,]+)(?:,|$))?")
"""In ClickHouse's tree of a query."""


class ClickHouse(ClickHouseConnection):
    """Questions about sources, and the clock.

    :param clock: in place of the server's, where time is played
    """

    def __init__(
        self,
        endpoint: ClickHouseEndpoint,
        clock: Callable[[], datetime] | None = None,
        check: Callable[[ClickHouseConnection], None] | None = None,
    ) -> None:
        super().__init__(endpoint, check)
        self._clock = clock

    def each(self) -> list[ClickHouse]:
        """The servers, in their order: each by a connection to it alone, which the caller closes."""
        alone = replace(self._endpoint, alternatives=())
        return [ClickHouse(replace(alone, host=host, native_port=port)) for host, port in self._endpoint.servers]

    def now(self) -> datetime:
        """The server's clock."""
        if self._clock is not None:
            return self._clock()
        [(micros,)] = self.execute("SELECT toUnixTimestamp64Micro(now64(6))")
        return from_micros(micros)

    def columns(self, table: TableSpec) -> tuple[Column, ...]:
        """The source's stored columns in their order, mapped to Iceberg.

        :raises InvalidSource: if the table or a column named in the table file is missing, the timestamp is no time,
            or rows may be in no partition
        :raises UnsupportedType: if a column cannot be mapped
        """
        types = self.column_types(table)
        if not types:
            raise InvalidSource(
                f"{table.name}: ClickHouse has no table {table.source}. Nothing was moved. "
                "Correct 'source' in the table file or create the table; then run `k2 validate`."
            )
        for key in ("timestamp_column", "partition_column"):
            self._check_time(table, key, types)
        reserved = next((column for column in types if column.startswith(RESERVED)), None)
        if reserved is not None:
            raise InvalidSource(
                f"{table.name}: {table.source} has a column '{reserved}', and names that begin with {RESERVED} are "
                "those of this package's own queries. Nothing was moved and no row is lost. Rename the column, or "
                "let 'source' be a view that calls it something else; then run `k2 validate`."
            )
        for column in (*table.sort_columns, *table.key_columns, *table.binary, table.version_column):
            if column is not None:
                _check_exists(table, column, types)
        if table.sequence_column is not None:
            self._check_number(table, table.sequence_column, types)
        columns = tuple(
            map_column(table.name, column, kind, binary=column in table.binary) for column, kind in types.items()
        )
        _check_partitioned(table, columns)
        return columns

    def column_types(self, table: TableSpec) -> dict[str, str]:
        """ClickHouse's own types of the source's stored columns, in their order; none if there is no such table."""
        return dict(self.execute(queries.column_types(table)))

    def known_counts(self, tables: Sequence[TableSpec]) -> dict[str, int]:
        """How many rows the sources have, by the table's name, where ClickHouse knows that without counting.

        It does not for views, and for those that merge rows with equal keys nobody does.
        """
        counts = dict(self.execute(queries.known_counts(tables)))
        return {each.name: counts[each.source] for each in tables if each.source in counts and not each.final}

    def newest_row(
        self, table: TableSpec, since: datetime | None = None, before: datetime | None = None
    ) -> datetime | None:
        """Newest timestamp of the source in ``[since, before)``, open where not given; ``None`` if there is none.

        :raises InvalidSource: if a timestamp is NULL: such a row is in no window
        """
        sql = queries.newest_row(table, to_micros(since) if since else 0, to_micros(before) if before else None)
        [(newest_micros, null_times)] = self.execute(sql)
        if null_times:
            raise InvalidSource(
                f"{table.name}: {null_times} rows of {table.source} have NULL in '{table.timestamp_column}'; they "
                "are in no window and would never be moved. Nothing was moved. Give them a time, or point 'source' "
                "at a view that does (or that leaves them out); then run `k2 validate`."
            )
        return None if newest_micros is None else from_micros(newest_micros)

    def oldest_row(self, table: TableSpec, since: datetime, before: datetime) -> datetime | None:
        """Oldest timestamp of the source in ``[since, before)``; ``None`` if there is none."""
        [(micros,)] = self.execute(queries.oldest_row(table, to_micros(since), to_micros(before)))
        return None if micros is None else from_micros(micros)

    def storage(self, table: TableSpec) -> Storage | None:
        """The table that holds the source's rows, also behind a view; ``None`` if that, or its TTL, cannot be known."""
        engine = self.engine(table.source)
        name = table.source
        if not MERGE_TREE.match(engine):
            named, others = self.reads(table)
            if len(named) != 1 or others:
                return None
            name = min(named)
            engine = self.engine(name)
        removed = removals(engine) if MERGE_TREE.match(engine) else None
        return None if removed is None else Storage(name, tuple(removed))

    def column_ttls(self, name: str) -> dict[str, Removal]:
        """The rules of a table that remove values in rows that stay, by column."""
        described = self.execute(queries.describe_columns(name))
        return {row[0]: Removal(row[_TTL_OF_COLUMN]) for row in described if row[_TTL_OF_COLUMN]}

    def read_by(self, table: TableSpec) -> set[str]:
        """The MergeTree tables that the source is read from, as ClickHouse's plan of the query names them.

        :raises InvalidSource: if it is read from anything else (Distributed, Buffer, Merge), which may hide such tables
        """
        named, others = self.reads(table)
        if others or not named:
            raise InvalidSource(f"{table.source} is read by {', '.join(sorted(others)) or 'no step that is known'}.")
        return named

    def reads(self, table: TableSpec) -> tuple[set[str], set[str]]:
        """What reads the source in ClickHouse's plan of the query: MergeTree tables, and steps of any other kind."""
        select = queries.select_all(table)
        steps = set(_READS.findall("\n".join(line for (line,) in self.execute(f"EXPLAIN {select}"))))
        found = {step: name[1] for step in steps if (name := _READS_MERGE_TREE.fullmatch(step))}
        named, others = set(found.values()), steps - found.keys()
        empty = {step for step in others if step.startswith("ReadNothing")}  # the plan does not name empty tables
        if not empty:
            return named, others
        more, unknown = self._named_in(select)
        return named | more, others - empty | unknown

    def _named_in(self, select: str) -> tuple[set[str], set[str]]:
        """The MergeTree tables that a query names, also through views; and what else it reads."""
        named, others = set(), set()
        for (line,) in self.execute(f"EXPLAIN QUERY TREE run_passes = 1 {select}"):
            if not (found := _TREE_TABLE.match(line)):
                continue
            name = found[1] or ""
            [(engine, view)] = self.execute(queries.engine_and_select(name)) or [("", "")]
            if engine == "View":
                more, unknown = self._named_in(view)
                named |= more
                others |= unknown
            elif MERGE_TREE.fullmatch(engine):
                named.add(name)
            else:
                others.add(line.strip())
        return named, others

    def engine(self, name: str) -> str:
        """A table's engine in full; empty if there is no such table."""
        found = self.execute(queries.engine(name))
        return str(found[0][0]) if found else ""

    def first_expiry(self, table: TableSpec, storage: Storage, since: datetime) -> datetime | None:
        """When the TTL may remove the first row at or above a time; ``None`` if it removes none."""
        [expiries] = self.execute(queries.first_expiry(table, storage, to_micros(since)))
        return min((from_micros(micros) for micros in expiries if micros is not None), default=None)

    def kept_for(self, table: TableSpec, storage: Storage, row: datetime) -> timedelta:
        """How long the TTL keeps a row of a time.

        :raises OffloadError: if that depends on other columns than the timestamp and the partition column
        """
        [expiries] = self.execute(queries.expiry_of(table, storage, to_micros(row)))
        return min(map(from_micros, expiries)) - row

    def count_outside(self, table: TableSpec, before: datetime, future: datetime) -> tuple[int, int]:
        """Rows of times that no window will hold for long: below ``before``, and at or above ``future``."""
        [(early, late)] = self.execute(queries.count_outside(table, to_micros(before), to_micros(future)))
        return int(early), int(late)

    def count_left_out(
        self, table: TableSpec, old_column: str, since: datetime, left_out: Sequence[Window], below: datetime
    ) -> int:
        """Rows that no window has moved by the column that windows were cut on, and none will by the one of now.

        :param since: the watermark, on the old column
        :param left_out: ranges below it that were skipped
        :param below: the watermark, on the timestamp column
        """
        query = queries.count_left_out(table, old_column, to_micros(since), left_out, to_micros(below))
        [(rows,)] = self.execute(query)
        return int(rows)

    def count(self, table: TableSpec) -> int:
        """All rows of the source."""
        [(rows,)] = self.execute(queries.count(table))
        return int(rows)

    def rows_per_step(self, table: TableSpec, window: Window, step: timedelta) -> Counts:
        """How many rows the window holds, by steps of a length."""
        rows, sequences, oldest = {}, {}, {}
        for micros, count, sequence, first in self.execute(queries.rows_per_step(table, window, step)):
            start = from_micros(micros)
            rows[start], oldest[start] = count, from_micros(first)
            if sequence is not None:
                sequences[start] = int(sequence)
        return Counts(rows, sequences, oldest)

    def count_within(self, table: TableSpec, window: Window) -> int:
        """How many rows the window holds."""
        return self.rows_per_step(table, window, CUT_STEPS[0]).total

    def rows_per_day(self, sql: str) -> dict[date, int]:
        """Rows by partition day, from :func:`k2_offload.core.queries.rows_per_day`."""
        return {day: count for day, count in self.execute(sql)}  # noqa: C416 - rows are untyped tuples

    def rows_per_slot(self, sql: str) -> dict[datetime, int]:
        """Rows by slot of the partition column, from :func:`k2_offload.core.queries.rows_per_slot`."""
        return {from_micros(micros): count for micros, count in self.execute(sql)}

    def _check_time(self, table: TableSpec, key: str, types: Mapping[str, str]) -> None:
        column: str = getattr(table, key)
        _check_exists(table, column, types)
        if not is_time(types[column]):
            raise InvalidSource(
                f"{table.name}: {key} '{column}' is {types[column]}, not a time (DateTime or DateTime64). "
                "Nothing was moved. Correct the table file; then run `k2 validate`."
            )

    def _check_number(self, table: TableSpec, column: str, types: Mapping[str, str]) -> None:
        _check_exists(table, column, types)
        if not is_number(types[column]):
            raise InvalidSource(
                f"{table.name}: sequence_column '{column}' is {types[column]}, not a number. Nothing was moved. Name "
                "another column in the table file, or none; then run `k2 validate`."
            )


def _check_exists(table: TableSpec, column: str, types: Mapping[str, str]) -> None:
    if column not in types:
        raise InvalidSource(
            f"{table.name}: {table.source} has no column '{column}'; it has: {', '.join(types)}. Nothing was moved. "
            "Correct the table file; then run `k2 validate`."
        )


def _check_partitioned(table: TableSpec, columns: Sequence[Column]) -> None:
    # A timestamp that is NULL is refused where rows are read; a window holds none.
    may_be_null = {column.name for column in columns if column.nullable} - {table.timestamp_column}
    if table.partition_column in may_be_null:
        raise InvalidSource(
            f"{table.name}: partition_column '{table.partition_column}' may be NULL in {table.source}, and a row "
            "without it is in no partition. Nothing was moved and no row is lost. Make the column one that is never "
            f"NULL, or point 'source' at a view that selects ifNull({table.partition_column}, "
            f"{table.timestamp_column}) AS {table.partition_column}; then run `k2 validate`."
        )
