"""Compares partition days of both tiers, and plans the heals of those that differ.

What a difference means, and what may be healed, is in :mod:`k2_offload.core.day_comparison`; why a heal is safe, in
:mod:`k2_offload.core.heal`. This module does the I/O around them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from functools import partial
from typing import TypeVar

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.core import day_queries, queries
from k2_offload.core.day_comparison import (
    HEALED_WITHIN,
    DayComparison,
    DayScope,
    days_to_compare,
    first_whole_day,
)
from k2_offload.core.errors import OffloadError, Overloaded, Refused, Unreachable
from k2_offload.core.exactly_once import check_cut, refuse_to_recreate, watermark_of
from k2_offload.core.gaps import GapKind
from k2_offload.core.heal import HealId
from k2_offload.core.lake import iceberg_table
from k2_offload.core.plan import PlannedColumn, PlannedHeal
from k2_offload.core.tables import TableSpec
from k2_offload.core.transports import TRANSPORTS
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Window, from_micros
from k2_offload.work.tiers import Tiers

log = logging.getLogger(__name__)

Result = TypeVar("Result")


@dataclass(frozen=True)
class TableDays:
    """Both tiers of one table, by day, as far as counts tell.

    :param columns: of the source
    :param below: the watermark of the cold table as it was loaded
    :param left_out: ranges that are on record as missed or skipped
    :param whole_from: the first day that the warm tier surely holds as a whole
    :param warm: rows that the cold tier must hold, by day
    :param cold: rows that the cold tier holds, by day
    :param due: days whose content is to be compared, as far as this table alone tells
    """

    table: TableSpec
    cold_table: ColdTable
    columns: tuple[Column, ...]
    below: datetime
    left_out: tuple[Window, ...]
    whole_from: date
    warm: dict[date, int]
    cold: dict[date, int]
    due: tuple[date, ...]

    @property
    def differing(self) -> list[date]:
        """Whole days whose counts differ."""
        return [day for day in self.due if day >= self.whole_from and self.warm.get(day, 0) != self.cold.get(day, 0)]


def count_days(tiers: Tiers, table: TableSpec) -> TableDays | None:
    """Count both tiers' rows by day, as far back as the warm tier may hold any.

    :returns: ``None`` if nothing has been published yet
    :raises OffloadError: if the table cannot be compared
    """
    cold = tiers.catalog.load(table)
    if cold is None:
        if (record := tiers.ledger.read_tables().get(table.name)) is not None:
            refuse_to_recreate(table.name, record.table_uuid)
        return None
    if cold.published is None:
        return None
    check_cut(table.name, cold.published, table.timestamp_column)
    columns = tiers.clickhouse.columns(table)
    cold.check_source(columns, table.partition_column)
    below, now = watermark_of(cold.published), min(tiers.now(), tiers.clickhouse.now())
    skipped = {gap.window for gap in tiers.ledger.read_gaps().get(table.name, ()) if gap.kind is GapKind.SKIPPED}
    if cold.published.snapshot.skipped_rows is not None:  # the ledger may not know it yet
        skipped.add(cold.published.window_id.window)
    left_out = tuple(sorted(skipped))
    since = (now - table.warm_retention).date() - timedelta(days=1)
    warm = tiers.clickhouse.rows_per_day(day_queries.warm_rows_per_day(table, since, below, left_out))
    in_cold = cold.rows_per_day(table.partition_column, since)
    if in_cold is None:
        raise OffloadError(
            f"{table.name}: files of the cold table are partitioned in another way than its days; it cannot be "
            "compared day by day. Nothing was changed. `k2 verify` compares it as a whole."
        )
    known = tiers.ledger.read_days(table.name)
    whole_from = first_whole_day(now, table.warm_retention)
    due = days_to_compare(warm, in_cold, known, whole_from, now)
    return TableDays(table, cold, columns, below, left_out, whole_from, warm, in_cold, tuple(due))


def compare_day(tiers: Tiers, days: TableDays, day: date) -> DayComparison:
    """Compare the content of one day; the differing rows are counted, by the minutes that differ.

    :raises Unreachable: if a service is down
    :raises OffloadError: if the warm tier cannot be read
    """
    table, cold = days.table, days.cold_table
    scope = DayScope(day, days.below, days.left_out)
    reader = iceberg_table(cold.location, cold.metadata_location, tiers.lake_collection)
    warm_sql = day_queries.warm_day(table, days.columns, scope)
    cold_sql = day_queries.cold_day(table, days.columns, scope, reader)
    warm = _minutes(tiers, days, warm_sql)
    warm_rows, warm_hash = sum(rows for rows, _ in warm.values()), sum(part for _, part in warm.values()) % 2**64
    found = DayComparison(
        table.name, scope, cold.snapshot_id, day >= days.whole_from, warm_rows, warm_hash, days.cold.get(day, 0)
    )
    try:
        in_cold = _minutes(tiers, days, cold_sql)
        [(others,)] = tiers.clickhouse.execute(day_queries.count_out_of_scope(table, scope, reader))
    except (Unreachable, Refused, Overloaded):
        raise
    except OffloadError as error:
        return replace(found, problem=str(error))
    found = replace(found, cold_rows=sum(rows for rows, _ in in_cold.values()), other_rows=others)
    minutes = {minute for minute in {*warm, *in_cold} if warm.get(minute) != in_cold.get(minute)}
    if not minutes:
        return found
    difference = sum(
        side.get(minute, (0, 0))[1] * sign for minute in minutes for side, sign in ((warm, 1), (in_cold, -1))
    )
    [(late, gone, first, last, seen)] = tiers.clickhouse.execute(
        day_queries.differing_rows(table, days.columns, warm_sql, cold_sql, minutes)
    )
    shrunk = None
    if table.version_column is not None:
        [(shrunk, seen_of_keys)] = tiers.clickhouse.execute(
            day_queries.shrunk_rows(table, days.columns, warm_sql, cold_sql, minutes)
        )
        _check_same(table, day, difference, seen_of_keys)
    _check_same(table, day, difference, seen)
    differing = Window(from_micros(first), from_micros(last + 1)) if late or gone else None
    return replace(found, late_rows=late, gone_rows=gone, shrunk_rows=shrunk, differing=differing)


def _check_same(table: TableSpec, day: date, difference: int, seen: int) -> None:
    """Whether two queries saw the same rows: what may be replaced is decided on the rows that are then exported."""
    if (difference - seen) % 2**64:
        raise OffloadError(
            f"{table.name} {day}: ClickHouse answered two queries with different rows: rows are coming in, or its "
            "replicas differ. The day was not compared, and nothing was changed; the next comparison looks at it anew."
        )


def _minutes(tiers: Tiers, days: TableDays, rows: str) -> dict[int, tuple[int, int]]:
    answer = tiers.clickhouse.execute(day_queries.minute_hashes(days.table, days.columns, rows))
    return {minute: (count, content) for minute, count, content in answer}


def plan_heal(days: TableDays, comparison: DayComparison) -> PlannedHeal:
    """All that the job must know to replace a day that was compared.

    :param comparison: of a day that may be replaced, see
        :meth:`~k2_offload.core.day_comparison.DayComparison.obstacle`
    """
    table, cold, scope = days.table, days.cold_table, comparison.scope
    condition = day_queries.in_scope(table, scope)
    return PlannedHeal(
        table=table.name,
        target=table.target,
        heal_id=str(HealId(cold.uuid, scope.day, comparison.snapshot_id)),
        partition_column=table.partition_column,
        rows=comparison.warm_rows,
        content_hash=comparison.warm_hash,
        files=tuple(cold.files_of_day(table.partition_column, scope.day)),
        cut_on=table.timestamp_column,
        transport=table.transport,
        partition_field=cold.partition_field,
        columns=tuple(PlannedColumn(column.name, column.iceberg_type) for column in days.columns),
        max_file_rows=TRANSPORTS[table.transport].limit_file_rows(table.max_file_rows),
        parallel_exports=table.parallel_exports,
        rows_per_slot_sql=queries.rows_per_slot(table, condition),
        select_split_sql=queries.select_split(table, days.columns, condition),
    )


@dataclass(frozen=True)
class Found:
    """What one table's comparison has found.

    :param days: those that were compared
    :param heals: of the days that may be replaced
    :param problems: of each day that may not be replaced, or has differed for too long: what was found, and why
    """

    table: TableSpec
    days: tuple[DayComparison, ...] = ()
    heals: tuple[PlannedHeal, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def lines(self) -> list[str]:
        """For a log: one line for each day that was compared."""
        return [f"{self.table.name} {day.scope.day}: {day.verdict}, {day.warm_rows} rows" for day in self.days]


def reconcile(
    tiers: Tiers, tables: Sequence[TableSpec], days: Collection[date] = (), *, going_rows: int = 0
) -> Iterator[Found]:
    """Compare the days of some tables that are due, keep the results in the ledger, and plan heals.

    A day in which the counts of one table differ is compared in all of them: a late trade changes its candles, and
    not their number.

    :param days: compare these instead
    :param going_rows: a person has seen so many rows of a day that would go
    :raises Unreachable: if a service is down; what is wrong with one table alone becomes its problem
    """
    counted: list[TableDays] = []
    for table in (each for each in tables if each.reconcile):
        found = _attempt(table, partial(count_days, tiers, table))
        if isinstance(found, Found):
            yield found
        elif found is not None:
            counted.append(found)
    differing = {day for table in counted for day in table.differing}
    for each in counted:
        due = set(days) or {*each.due, *differing.intersection(each.cold)}
        yield _attempt(each.table, partial(_reconcile, tiers, each, sorted(due), going_rows))


def _attempt(table: TableSpec, step: Callable[[], Result]) -> Result | Found:
    """What is wrong with one table must not stop the others."""
    try:
        return step()
    except Unreachable:
        raise
    except OffloadError as error:
        return Found(table, problems=(str(error),))
    except Exception:
        log.exception("%s: unexpected", table.name)
        return Found(
            table,
            problems=(
                f"{table.name}: it could not be compared, for an unexpected reason that is in the log. Nothing was "
                "changed; the next comparison tries again.",
            ),
        )


def _reconcile(tiers: Tiers, counted: TableDays, days: Sequence[date], going_rows: int) -> Found:
    compared, heals, problems = [], [], []
    for day in days:
        try:
            found = compare_day(tiers, counted, day)
        except (Unreachable, Refused):
            raise
        except OffloadError as error:  # of this day; the others go on
            problems.append(str(error))
            continue
        obstacle = found.obstacle(going_rows) if found.differs else None
        compared.append(found)
        if found.differs and obstacle is None:
            heals.append(plan_heal(counted, found))
        now = tiers.now()
        unequal_since = tiers.ledger.record_day(found, found.problem or obstacle, now)
        overdue = unequal_since is not None and now - unequal_since > HEALED_WITHIN
        if found.differs and found.whole and (obstacle is not None or overdue):
            problems.append(describe(found, obstacle))
    return Found(counted.table, tuple(compared), tuple(heals), tuple(problems))


def describe(found: DayComparison, obstacle: str | None) -> str:
    """A sentence on a day that differs: what was found, why it was not healed, and what to run next.

    :param obstacle: ``None`` if it may be healed
    """
    name = f"{found.table} {found.scope.day}"
    differing = f" in {found.differing}" if found.differing else ""
    counts = f"{found.late_rows:,} rows only in ClickHouse, {found.gone_rows:,} only in the cold table{differing}"
    what = f"cannot be read: {found.problem}" if found.problem else counts
    if obstacle is None:
        return f"{name}: {found.verdict}: {what}. It may be healed, and has not been: `k2 heal {found.table}`."
    return (
        f"{name}: {found.verdict}: {what}. It was not healed, because {obstacle}. "
        f"`k2 heal {found.table} --day {found.scope.day} --dry-run` shows what replacing it would change."
    )
