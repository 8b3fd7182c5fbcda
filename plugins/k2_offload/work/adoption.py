"""Taking over a cold table that another system has filled. The rules are in :mod:`k2_offload.core.adoption`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.core import day_queries
from k2_offload.core.adoption import (
    ADOPTED_PROPERTY,
    DayRows,
    Shape,
    deduplication,
    describe_surplus,
    find_notes,
    find_problems,
    find_row_problems,
    find_surplus,
    healed_from,
    only_cold,
    write_record,
)
from k2_offload.core.day_comparison import DayComparison
from k2_offload.core.errors import ChangedTable, DamagedTable, OffloadError
from k2_offload.core.exactly_once import FIRST_WATERMARK, WindowId, follow_chain, watermark_of
from k2_offload.core.schema_change import ColumnPair, pair_columns, settle
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import format_time, from_micros
from k2_offload.work.compare import DaysProgress, TableDays, compare_day
from k2_offload.work.cycle import commit
from k2_offload.work.tiers import Tiers
from k2_offload.work.watermarks import window_to_adopt

_NAMED = 10
"""Rows of a day that are named, of those that it holds more than once."""


@dataclass(frozen=True)
class Look:
    """What a cold table is like that may be taken over.

    :param cold: as it was looked at; it is taken over as that, or not at all
    :param columns: of both sides
    :param watermark: where the next cycle goes on, now or once the table is taken over; ``None`` if it cannot be
    :param window_id: what the table holds; ``None`` if there is nothing to be taken over
    :param problems: why it cannot be taken over
    :param notes: what follows
    :param days: what it holds, by day
    :param compared: the days of which ClickHouse may hold rows
    :param healed_from: the first day that a comparison may make what ClickHouse holds of it
    """

    table: TableSpec
    cold: ColdTable
    shape: Shape
    columns: tuple[ColumnPair, ...] = ()
    watermark: datetime | None = None
    window_id: WindowId | None = None
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    days: tuple[DayRows, ...] = ()
    compared: tuple[DayComparison, ...] = ()
    healed_from: date = date.max

    @property
    def rows(self) -> int:
        """All that the cold table holds."""
        return sum(day.rows for day in self.days)

    @property
    def surplus(self) -> list[DayRows]:
        """See :func:`k2_offload.core.adoption.find_surplus`; none before the days were compared."""
        return find_surplus(self.days, self.compared) if self.window_id is not None else []

    @property
    def refusal(self) -> str | None:
        """Why a person has to decide about rows that are there more than once; ``None`` if nobody has to."""
        return describe_surplus(self.table.name, found) if (found := self.surplus) else None

    def deduplication(self, day: date) -> str:
        """The Spark SQL that leaves each row of a day once."""
        names = [column.name for column in self.cold.columns]
        return deduplication(self.table, self.shape, names, day, only_cold(self.columns))


def look(tiers: Tiers, table: TableSpec, progress: DaysProgress = lambda days: days) -> Look:
    """Read all of a cold table, and compare it with what ClickHouse still has. Changes nothing.

    :raises OffloadError: if one of the tiers cannot be read, or the table is not one of another system
    """
    source, cold = tiers.clickhouse.columns(table), tiers.catalog.load(table)
    if cold is None:
        raise OffloadError(
            f"{table.name}: the catalog knows no table {table.target}, so there is nothing to be taken over. Nothing "
            "was changed. Correct 'target' in the table file; or, if there is none yet, the first cycle makes it."
        )
    columns, shape = pair_columns(table, source, cold.columns), cold.foreign.shape(table.partition_column)
    seen = Look(table, cold, shape, columns, notes=tuple(find_notes(table, columns)))
    if cold.foreign.has_windows:
        return replace(seen, watermark=watermark_of(cold.published))
    problems = find_problems(table, shape, columns)
    try:
        cold.check_partitions(table.partition_column)
    except ChangedTable as error:
        problems.insert(0, str(error))
    if problems:
        return replace(seen, problems=tuple(problems))
    _refuse_other_history(tiers, table, cold)
    days = tuple(_read_days(seen, progress(sorted(shape.rows_of_days))))
    problems = find_row_problems(table, shape, days, cold.delete_files)
    if problems:
        return replace(seen, days=days, problems=tuple(problems))
    newest = [day.newest_micros for day in days if day.newest_micros is not None]
    if not newest:
        return replace(seen, watermark=FIRST_WATERMARK)
    window_id = window_to_adopt(tiers, table, cold, from_micros(max(newest)))
    counted = _count(tiers, seen, window_id.window.high)
    compared = tuple(
        compare_day(tiers, counted, day) for day in progress(sorted({*counted.warm, *(counted.cold or ())}))
    )
    return replace(
        seen,
        watermark=window_id.window.high,
        window_id=window_id,
        days=days,
        compared=compared,
        healed_from=healed_from(columns, counted.whole_from),
    )


def _read_days(seen: Look, days: Iterable[date]) -> Iterator[DayRows]:
    from k2_offload.adapters.repeated_rows import read_day  # noqa: PLC0415 - imports numpy

    cold, unsourced = seen.cold, only_cold(seen.columns)
    return (read_day(cold, seen.table, cold.columns, day, _NAMED, unsourced) for day in days)


def _count(tiers: Tiers, seen: Look, below: datetime) -> TableDays:
    """Both tiers' rows by day, as if the cold table had been taken over."""
    table, cold, now = seen.table, seen.cold, min(tiers.now(), tiers.clickhouse.now())
    columns = settle([pair.source for pair in seen.columns if pair.source is not None], cold.columns)
    since = (now - table.warm_retention).date() - timedelta(days=1)
    warm = tiers.clickhouse.rows_per_day(day_queries.warm_rows_per_day(table, since, below, ()))
    in_cold = {day: rows for day, rows in seen.shape.rows_of_days.items() if day >= since}
    return TableDays(table, cold, columns, below, (), now, warm, in_cold)


def adopt(tiers: Tiers, seen: Look, *, keep_duplicates: bool = False) -> None:
    """Take a cold table over as it was looked at: a snapshot without rows says where it ends, and the ledger follows.

    :param keep_duplicates: with rows that are there more than once
    :raises StaleWindow: if another writer committed to the cold table since; nothing has changed then
    :raises OffloadError: if the table cannot be taken over
    """
    table, cold, window_id = seen.table, seen.cold, seen.window_id
    if window_id is None or seen.problems:
        raise OffloadError(f"{table.name}: there is nothing that can be taken over. Nothing was changed.")
    if not keep_duplicates and (refusal := seen.refusal) is not None:
        raise OffloadError(refusal)
    record = write_record(window_id, seen.rows, seen.surplus)
    properties = cold.foreign.missing_properties(table) | {ADOPTED_PROPERTY: record}
    with tiers.ledger.locked(table.name) as locked:
        follow_chain(table.name, locked.entry(), cold.uuid, None)
        cold.publish_without_rows(window_id, table.timestamp_column, properties=properties, ledger_id=locked.ledger_id)
    commit(tiers, table)


def _refuse_other_history(tiers: Tiers, table: TableSpec, cold: ColdTable) -> None:
    """A table whose history has nothing of this project can still be one that has lost it.

    :raises DamagedTable: if the ledger knows better
    """
    entry = tiers.ledger.read_entry(table.name)
    follow_chain(table.name, entry, cold.uuid, None)
    if entry.table_uuid is not None and entry.watermark not in (None, FIRST_WATERMARK):
        raise DamagedTable(
            f"{table.name}: the ledger has followed this cold table up to "
            f"{format_time(entry.watermark)}, and its history no longer says so. Nothing was changed. "
            f"Run `k2 watermark rebuild {table.name}`."
        )
