"""Reads the cold side of a day here, without ClickHouse: for servers that may not read the lake."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

import numpy as np

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.row_hashes import micros, row_hashes
from k2_offload.core import day_queries
from k2_offload.core.day_comparison import DayScope, day_window
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.row_difference import HashedRow, count_shrunk, pick, surpluses
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Window, to_micros
from k2_offload.work.sides import Differences, MinuteHashes, Sides
from k2_offload.work.tiers import Tiers

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Chosen = NDArray[np.bool_]

_MINUTE_MICROS = 60_000_000
_ROWS_AT_ONCE = 500_000


def sides_read_here(
    tiers: Tiers, table: TableSpec, columns: tuple[Column, ...], cold_table: ColdTable, scope: DayScope
) -> Sides:
    """ClickHouse sends the warm side's hashes, and the cold side's are computed here, of one file after the other.

    :param columns: of the source
    """
    return _SidesReadHere(tiers, table, columns, cold_table, scope)


class _SidesReadHere(Sides):
    def cold(self) -> tuple[MinuteHashes, int]:
        found: MinuteHashes = {}
        others = 0
        for batch, at, chosen in self._cold_batches():
            others += int(np.count_nonzero(~chosen))
            minutes, positions = np.unique(at[chosen] // _MINUTE_MICROS, return_inverse=True)
            rows = np.bincount(positions, minlength=len(minutes))
            sums = np.zeros(len(minutes), np.uint64)
            np.add.at(sums, positions, row_hashes(batch, self.columns)[chosen])
            for minute, count, content in zip(minutes.tolist(), rows.tolist(), sums.tolist(), strict=True):
                before, sum_before = found.get(minute, (0, 0))
                found[minute] = before + count, (sum_before + content) % 2**64
        return found, others

    def differences(self, minutes: Collection[int]) -> Differences:
        late = gone = seen = 0
        times: list[int] = []
        for some in self._in_parts(minutes):  # equal rows are of one minute
            for found in surpluses(self._warm_rows(some), self._cold_rows(some)):
                late, gone = late + max(found.times, 0), gone - min(found.times, 0)
                seen = (seen + found.times * found.row.content) % 2**64
                times.append(found.row.micros)
        return Differences(late, gone, min(times, default=0), max(times, default=0), seen)

    def shrunk(self, minutes: Collection[int]) -> tuple[int, int]:
        warm, cold = list(self._warm_rows(minutes)), list(self._cold_rows(minutes))
        seen = sum(row.content for row in warm) - sum(row.content for row in cold)
        return count_shrunk(warm, cold), seen % 2**64

    def pick(self, differing: Window, limit: int) -> list[tuple[int, int, bool]]:
        low, high = to_micros(differing.low) // _MINUTE_MICROS, -(-to_micros(differing.high) // _MINUTE_MICROS)
        warm, (cold, _) = self.warm, self.cold()
        minutes = {each for each in range(low, high) if warm.get(each) != cold.get(each)}
        found = [
            each for some in self._in_parts(minutes) for each in surpluses(self._warm_rows(some), self._cold_rows(some))
        ]
        return [(each.row.content, each.times, changed) for each, changed in pick(found, limit)]

    def texts(self, differing: Window, hashes: Collection[int], *, of_warm: bool) -> dict[int, tuple[str | None, ...]]:
        if of_warm:
            return super().texts(differing, hashes, of_warm=True)

        wanted, found = np.array(sorted(hashes), np.uint64), {}
        for batch, _, chosen in self._cold_batches():
            contents = row_hashes(batch, self.columns)
            for position in np.flatnonzero(chosen & np.isin(contents, wanted)).tolist():
                row = batch.slice(position, 1).to_pylist()[0]
                found[int(contents[position])] = tuple(_text(row[column.name]) for column in self.columns)
        return found

    def _cold_batches(self) -> Iterator[tuple[pa.RecordBatch, NDArray[np.int64], Chosen]]:
        """The day's rows, their times, and which of them are compared."""
        table, scope = self.table, self.scope
        names = [column.name for column in self.columns]
        for batch in self.cold_table.read_day(table.partition_column, scope.day, names):
            times, days = (batch.column(name) for name in (table.timestamp_column, table.partition_column))
            at = micros(times)
            chosen = _within(at, Window(FIRST_WATERMARK, scope.below)) & _within(micros(days), day_window(scope.day))
            for window in scope.left_out:
                chosen &= ~_within(at, window)
            yield self._compared(batch, at), at, chosen & ~times.is_null().to_numpy(zero_copy_only=False)

    def _compared(self, batch: pa.RecordBatch, at: NDArray[np.int64]) -> pa.RecordBatch:
        """With NULL where a column is not compared."""
        import pyarrow as pa
        from pyarrow import compute

        for column in self.columns:
            if column.compared_from is not None:
                values = batch.column(column.name)
                early = pa.array(at < to_micros(column.compared_from))
                kept = compute.if_else(early, pa.nulls(len(values), values.type), values)
                batch = batch.set_column(batch.schema.get_field_index(column.name), column.name, kept)
        return batch

    def _cold_rows(self, minutes: Collection[int]) -> Iterator[HashedRow]:

        wanted, version = np.array(sorted(minutes)), self.table.version_column
        for batch, at, chosen in self._cold_batches():
            among = np.flatnonzero(chosen & np.isin(at // _MINUTE_MICROS, wanted))
            rows = batch.take(among)
            versions = rows.column(version).to_pylist() if version is not None else [None] * len(among)
            contents, keys = row_hashes(rows, self.columns), row_hashes(rows, self._key)
            yield from map(HashedRow, contents.tolist(), at[among].tolist(), keys.tolist(), versions)

    def _warm_rows(self, minutes: Collection[int]) -> Iterator[HashedRow]:
        sql = day_queries.hashed_rows(self.table, self.columns, self._key, self.warm_sql, minutes)
        return (HashedRow(*row) for row in self.execute(sql))

    @property
    def _key(self) -> list[Column]:
        return day_queries.naming_columns(self.table, self.columns)

    def _in_parts(self, minutes: Collection[int]) -> Iterator[set[int]]:
        """Minutes together, as long as the warm side's rows of them fit into memory."""
        rows = self.warm
        part, size = set[int](), 0
        for minute in sorted(minutes):
            part.add(minute)
            size += rows.get(minute, (0, 0))[0]
            if size >= _ROWS_AT_ONCE:
                yield part
                part, size = set(), 0
        if part:
            yield part


def _within(times: NDArray[np.int64], window: Window) -> Chosen:
    return (times >= to_micros(window.low)) & (times < to_micros(window.high))


def _text(value: object) -> str | None:
    """As ClickHouse would print it."""
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%d %H:%M:%S.%f")
    if isinstance(value, bytes):
        return value.hex().upper()
    if isinstance(value, Decimal):
        return f"{value.normalize():f}"
    return None if value is None else str(value).removesuffix(".0") if isinstance(value, float) else str(value)
