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
    """Read all rows of a day, one batch at a time; in memory are their hashes, 20 to 35 bytes a row.

    :param columns: all of the cold table
    :param limit: how many of the repeated rows are named: those that are read first
    :param unsourced: columns that the source lacks: rows that differ in nothing else are repeated ones
    """
    sourced = [column for column in columns if column.name not in unsourced]
    key = naming_columns(table, sourced) if table.key_columns else []
    contents: list[Hashes] = []
    keys: list[Hashes] = []
    wholes: list[Hashes] = []
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
    hashed, hashes = sourced, _sorted(contents)
    count, duplicates = len(hashes), _count_again(hashes)
    differing = duplicates - _count_again(_sorted(wholes)) if unsourced else 0
    equal_keys = 0
    if key:
        hashed, hashes = key, _sorted(keys)
        equal_keys = _count_again(hashes) - duplicates
    named = _name(cold, table, sourced, day, hashed, hashes, limit) if duplicates or equal_keys else ()
    return DayRows(day, count, duplicates, differing, equal_keys, undated, early, newest, tuple(named))


def _sorted(parts: list[Hashes]) -> Hashes:
    """All hashes in their order; what they were made of is let go, for there may be hundreds of millions."""
    hashes = np.concatenate([np.empty(0, np.uint64), *parts])
    parts.clear()
    hashes.sort()
    return hashes


def _count_again(hashes: Hashes) -> int:
    """How many of the sorted hashes are those of a row before."""
    return int(np.count_nonzero(hashes[1:] == hashes[:-1]))


def _name(
    cold: ColdTable,
    table: TableSpec,
    columns: Sequence[TypedColumn],
    day: date,
    hashed: Sequence[TypedColumn],
    hashes: Hashes,
    limit: int,
) -> list[Repeated]:
    """The first repeated rows, each once, in the order of their names.

    :param hashes: of all rows, sorted, some of them more than once
    """
    repeated = np.unique(hashes[1:][hashes[1:] == hashes[:-1]])
    names = [each.name for each in naming_columns(table, columns)]
    found: dict[int, Repeated] = {}
    for rows in _batches(cold, table, columns, day):
        of_rows = row_hashes(rows, hashed)
        places = np.minimum(np.searchsorted(repeated, of_rows), len(repeated) - 1)
        among = np.flatnonzero(repeated[places] == of_rows)
        firsts = among[np.sort(np.unique(of_rows[among], return_index=True)[1])]
        for position in firsts.tolist():
            content = of_rows[position]
            if len(found) < limit and int(content) not in found:
                times = np.searchsorted(hashes, content, "right") - np.searchsorted(hashes, content, "left")
                values = {name: _text(rows.column(name)[position].as_py()) for name in names}
                found[int(content)] = Repeated(values, int(times))
        if len(found) == limit:
            break
    return sorted(found.values(), key=lambda each: tuple(each.values.values()))


def _batches(cold: ColdTable, table: TableSpec, columns: Sequence[TypedColumn], day: date) -> Iterator[pa.RecordBatch]:
    return cold.read_day(table.partition_column, day, [column.name for column in columns])


def _text(value: object) -> str:
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}" if isinstance(value, datetime) else str(value)
