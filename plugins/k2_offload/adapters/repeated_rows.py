"""Finds the rows that one day of a cold table holds more than once."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING

import numpy as np

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.row_hashes import micros, row_hashes
from k2_offload.core.adoption import DayRows, Repeated
from k2_offload.core.content_hash import TypedColumn
from k2_offload.core.day_queries import naming_columns
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import to_micros

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]


def read_day(
    cold: ColdTable,
    table: TableSpec,
    columns: Sequence[TypedColumn],
    day: date,
    limit: int,
    unsourced: Collection[str] = (),
) -> DayRows:
    """Read all rows of a day, one file at a time; in memory are their hashes, 24 bytes a row at most.

    :param columns: all of the cold table
    :param limit: how many of the repeated rows are named
    :param unsourced: columns that the source lacks: rows that differ in nothing else are repeated ones
    """
    sourced = [column for column in columns if column.name not in unsourced]
    key = naming_columns(table, sourced) if table.key_columns else []
    contents, keys, wholes = ([np.empty(0, np.uint64)] for _ in range(3))
    undated = early = 0
    newest = None
    for rows in _batches(cold, table, columns, day):
        times = rows.column(table.timestamp_column)
        known = micros(times)[~times.is_null().to_numpy(zero_copy_only=False)]
        undated += rows.num_rows - len(known)
        early += int(np.count_nonzero(known < to_micros(FIRST_WATERMARK)))
        if len(known):
            newest = max(int(known.max()), newest if newest is not None else int(known.max()))
        contents.append(row_hashes(rows, sourced))
        if unsourced:
            wholes.append(row_hashes(rows, columns))
        if key:
            keys.append(row_hashes(rows, key))
    distinct, times_of_row = np.unique(np.concatenate(contents), return_counts=True)
    count, duplicates = int(times_of_row.sum()), int(times_of_row.sum()) - len(distinct)
    differing = len(np.unique(np.concatenate(wholes))) - len(distinct) if unsourced else 0
    equal_keys, hashed, times_of = 0, sourced, dict(zip(distinct.tolist(), times_of_row.tolist(), strict=True))
    if key:
        distinct_keys, times_of_key = np.unique(np.concatenate(keys), return_counts=True)
        equal_keys = len(distinct) - len(distinct_keys)
        hashed, times_of = key, dict(zip(distinct_keys.tolist(), times_of_key.tolist(), strict=True))
    repeated = {content: number for content, number in times_of.items() if number > 1}
    named = _name(cold, table, sourced, day, hashed, repeated)[:limit] if repeated else []
    return DayRows(day, count, duplicates, differing, equal_keys, undated, early, newest, tuple(named))


def _name(
    cold: ColdTable,
    table: TableSpec,
    columns: Sequence[TypedColumn],
    day: date,
    hashed: Sequence[TypedColumn],
    repeated: dict[int, int],
) -> list[Repeated]:
    """Each repeated row once, in the order of their names."""
    wanted, names = np.array(sorted(repeated), np.uint64), [each.name for each in naming_columns(table, columns)]
    found: dict[int, Repeated] = {}
    for rows in _batches(cold, table, columns, day):
        hashes = row_hashes(rows, hashed)
        for position in np.flatnonzero(np.isin(hashes, wanted)).tolist():
            content = int(hashes[position])
            if content not in found:
                values = {name: _text(rows.column(name)[position].as_py()) for name in names}
                found[content] = Repeated(values, repeated[content])
    return sorted(found.values(), key=lambda each: tuple(each.values.values()))


def _batches(cold: ColdTable, table: TableSpec, columns: Sequence[TypedColumn], day: date) -> Iterator[pa.RecordBatch]:
    return cold.read_day(table.partition_column, day, [column.name for column in columns])


def _text(value: object) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}" if isinstance(value, datetime) else str(value)
