"""Reads both sides of a day for a comparison: the warm one by ClickHouse, the cold one by ClickHouse or here."""

from __future__ import annotations

from collections.abc import Collection
from functools import cached_property
from typing import Any, NamedTuple

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.core import day_queries
from k2_offload.core.day_comparison import DayScope
from k2_offload.core.lake import iceberg_table
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Window
from k2_offload.work.tiers import Tiers

MinuteHashes = dict[int, tuple[int, int]]
"""Rows and the sum of their hashes modulo 2**64, by the minute of their time since 1970."""


class Differences(NamedTuple):
    """Rows that differ.

    :param late: how many only the warm side holds
    :param gone: how many only the cold side holds
    :param first: the earliest of their times, in microseconds since 1970 UTC
    :param last: the latest
    :param seen: the difference of both sides' hashes modulo 2**64
    """

    late: int
    gone: int
    first: int
    last: int
    seen: int


class Sides:
    """Both sides of one day, as one snapshot of the cold table and ClickHouse show them; ClickHouse reads either.

    :param columns: of the source
    :raises OffloadError: by every method, if a side cannot be read
    """

    def __init__(
        self, tiers: Tiers, table: TableSpec, columns: tuple[Column, ...], cold_table: ColdTable, scope: DayScope
    ) -> None:
        self.tiers = tiers
        self.table = table
        self.columns = columns
        self.cold_table = cold_table
        self.scope = scope
        self.warm_sql = day_queries.warm_day(table, columns, scope)
        self.export_hash: int | None = None
        """Of the warm side with all its values, also those that are not compared; known once that side was read."""

    @property
    def reader(self) -> str:
        """The table function that reads the cold table as it was loaded."""
        cold = self.cold_table
        return iceberg_table(cold.location, cold.metadata_location, self.tiers.lake_collection)

    @property
    def cold_sql(self) -> str:
        """The cold side; stands after FROM."""
        return day_queries.cold_day(self.table, self.columns, self.scope, self.reader)

    @cached_property
    def warm(self) -> MinuteHashes:
        """All of the warm side, as it was first read."""
        found, self.export_hash = self._minutes(self.warm_sql)
        return found

    def cold(self) -> tuple[MinuteHashes, int]:
        """All of the cold side, and how many rows of the day's partition are not compared."""
        minutes, _ = self._minutes(self.cold_sql)
        [(others,)] = self.execute(day_queries.count_out_of_scope(self.table, self.scope, self.reader))
        return minutes, others

    def differences(self, minutes: Collection[int]) -> Differences:
        """What differs in some minutes; all others are known to be equal."""
        [found] = self.execute(
            day_queries.differing_rows(self.table, self.columns, self.warm_sql, self.cold_sql, minutes)
        )
        return Differences(*found)

    def shrunk(self, minutes: Collection[int]) -> tuple[int, int]:
        """Keys of the cold side that the warm side does not keep, and the hashes' difference."""
        sql = day_queries.shrunk_rows(self.table, self.columns, self.warm_sql, self.cold_sql, minutes)
        [(shrunk, seen)] = self.execute(sql)
        return shrunk, seen

    def pick(self, differing: Window, limit: int) -> list[tuple[int, int, bool]]:
        """``(hash, surplus, changed)`` of rows that differ, see :func:`k2_offload.core.day_queries.pick_differing`."""
        sql = day_queries.pick_differing(self.table, self.columns, self.warm_sql, self.cold_sql, differing, limit)
        return [(content, surplus, bool(changed)) for content, surplus, changed in self.execute(sql)]

    def texts(self, differing: Window, hashes: Collection[int], *, of_warm: bool) -> dict[int, tuple[str | None, ...]]:
        """Some rows of one side, for a person, by their hashes."""
        rows = self.warm_sql if of_warm else self.cold_sql
        sql = day_queries.print_rows(self.table, self.columns, rows, differing, hashes)
        return {content: tuple(row) for content, *row in self.execute(sql)}

    def _minutes(self, rows: str) -> tuple[MinuteHashes, int]:
        answer = self.execute(day_queries.minute_hashes(self.table, self.columns, rows))
        whole = sum(values for *_, values in answer) % 2**64
        return {minute: (count, content) for minute, count, content, _ in answer}, whole

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """What ClickHouse answers."""
        return self.tiers.clickhouse.execute(sql)
