"""Compares partition days of both tiers; who reads which, is in :mod:`k2_offload.work.sides`.

What a difference means, and what may be healed, is in :mod:`k2_offload.core.day_comparison`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.replicas import check_replicas
from k2_offload.core import day_queries
from k2_offload.core.day_comparison import (
    DayComparison,
    DayScope,
    DifferingRow,
    RowKind,
    TableComparison,
    day_window,
    first_whole_day,
)
from k2_offload.core.errors import OffloadError, Overloaded, Refused, Unreachable
from k2_offload.core.exactly_once import check_cut, watermark_of
from k2_offload.core.holding import Kept
from k2_offload.core.schema_change import settle
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Window, from_micros
from k2_offload.work.holding import read_kept
from k2_offload.work.sides import Sides
from k2_offload.work.tiers import WORKER, Tiers

DaysProgress = Callable[[Sequence[date]], Iterable[date]]
"""Passes days on one by one, and shows how far it is."""


@dataclass(frozen=True)
class TableDays:
    """Both tiers of one table, by day, as far as counts tell.

    :param columns: that both tiers have, or the cold one keeps unfilled
    :param changing: whether the next cycle lets the cold table's columns follow the source
    :param below: the watermark of the cold table as it was loaded
    :param left_out: ranges that were skipped on purpose, and not brought yet
    :param now: the earlier of both clocks
    :param warm: rows that the cold tier must hold, by day
    :param cold: rows that the cold tier holds, by day; ``None`` if some of its files are not partitioned by day
    :param unmoved: days of which the warm tier shows rows that no window has moved, though they may be long over:
        where partitions are days of another column; and whether a window is still to come for them
    :param replicated: the replicated tables that the source is read from
    :param kept: with ``retention: proven``: which older days the warm tier holds, and which it does not
    """

    table: TableSpec
    cold_table: ColdTable
    columns: tuple[Column, ...]
    below: datetime
    left_out: tuple[Window, ...]
    now: datetime
    warm: dict[date, int]
    cold: dict[date, int] | None
    changing: bool = False
    kept: Kept = field(default_factory=Kept)
    unmoved: Mapping[date, bool] = field(default_factory=dict)
    replicated: Sequence[str] = ()

    @property
    def whole_from(self) -> date:
        """The first day that the warm tier surely holds as a whole, as far as the clock tells."""
        return first_whole_day(self.now, self.table.warm_retention)

    def is_whole(self, day: date) -> bool:
        """Whether the warm tier surely holds a day as a whole."""
        return self.kept.holds(day, self.whole_from)


def count_days(tiers: Tiers, table: TableSpec, since: date | None = None) -> TableDays | None:
    """Count both tiers' rows by day.

    :param since: the first day; as far back as the warm tier may hold any if left out
    :returns: ``None`` if nothing has been published yet
    :raises OffloadError: if the table cannot be compared, or the server that was asked lacks rows that others have
    """
    cold = tiers.load_cold(table)
    if cold is None or cold.published is None:
        return None
    check_cut(table.name, cold.published, table.timestamp_column)
    replicated = check_replicas(tiers.clickhouse, table)
    columns = tiers.clickhouse.columns(table)
    changing = bool(cold.check_source(table, columns))
    columns = settle(columns, cold.columns)
    below, now = watermark_of(cold.published), min(tiers.now(), tiers.clickhouse.now())
    left_out = cold.skips.left_out
    kept = read_kept(tiers, table)
    if since is None:
        since = (now - table.warm_retention).date() - timedelta(days=1)
        if kept.whole_since is not None:
            [(oldest,)] = tiers.clickhouse.execute(day_queries.oldest_day(table))
            since = min(since, max(oldest, kept.whole_since))
    warm = tiers.clickhouse.rows_per_day(day_queries.warm_rows_per_day(table, since, below, left_out))
    in_cold = cold.rows_per_day(table.partition_column, since)
    unmoved = {}
    if table.longest_interval:
        found = tiers.clickhouse.execute(day_queries.unmoved_days(table, below, left_out))
        unmoved = {day: bool(to_come) for day, to_come in found}
    return TableDays(
        table,
        cold,
        columns,
        below=below,
        left_out=left_out,
        now=now,
        warm=warm,
        cold=in_cold,
        changing=changing,
        kept=kept,
        unmoved=unmoved,
        replicated=replicated,
    )


def compare(
    tiers: Tiers,
    table: TableSpec,
    first: date | None = None,
    last: date | None = None,
    progress: DaysProgress = lambda days: days,
) -> TableComparison:
    """Compare one table as it is now; why it cannot be compared, for a reason of its own, becomes the ``problem``.

    :param first: the first partition day that the warm tier surely holds as a whole if left out; then, days that are
        gone from it are left out, too
    :param last: the last partition day, inclusive
    :raises Unreachable: if a service is down
    """
    try:
        return _compare(tiers, table, first, last, progress)
    except Unreachable:
        raise
    except OffloadError as error:
        return TableComparison(table.name, None, problem=str(error))


def _compare(
    tiers: Tiers, table: TableSpec, first: date | None, last: date | None, progress: DaysProgress
) -> TableComparison:
    counted = count_days(tiers, table, first)
    if counted is None:
        return TableComparison(table.name, None)
    gone = counted.kept.is_gone if first is None else lambda _: False
    first = first or counted.kept.first(counted.whole_from)
    low, high = day_window(first).low, counted.below
    if last is not None:
        high = min(high, day_window(last).high)
    if low >= high:
        return TableComparison(table.name, None)
    in_cold = counted.cold
    if in_cold is None:  # whatever day its files are of, its rows have one
        in_cold = {first + timedelta(days=n): 0 for n in range((counted.below.astimezone(UTC).date() - first).days + 1)}
    days = {day for day in {*counted.warm, *in_cold} if day >= first and (last is None or day <= last)}
    compared = tuple(compare_day(tiers, counted, day) for day in progress(sorted(day for day in days if not gone(day))))
    return TableComparison(table.name, Window(low, high), compared)


def compare_day(tiers: Tiers, days: TableDays, day: date) -> DayComparison:
    """Compare the content of one day; the differing rows are counted, by the minutes that differ.

    :raises Unreachable: if a service is down
    :raises OffloadError: if the warm tier cannot be read
    """
    table = days.table
    scope = DayScope(day, days.below, days.left_out)
    sides = _sides(tiers, days, scope)
    warm = sides.warm
    warm_rows, warm_hash = _total(warm)
    is_whole = days.is_whole(day)
    if is_whole and day < days.whole_from:  # its partition may have been moved away since days were counted
        is_whole = read_kept(tiers, table).holds(day, days.whole_from)
    found = DayComparison(
        table.name,
        scope,
        days.cold_table.snapshot_id,
        is_whole,
        warm_rows,
        warm_hash,
        (days.cold or {}).get(day, 0),
        export_hash=sides.export_hash,
        lost_columns=tuple(
            column.name
            for column in days.columns
            if column.source_type is None
            and column.compared_from is not None
            and day_window(day).low < column.compared_from
        ),
    )
    try:
        in_cold, others = sides.cold()
    except (Unreachable, Refused, Overloaded):
        raise
    except OffloadError as error:
        return replace(found, problem=str(error))
    cold_rows, cold_hash = _total(in_cold)
    found = replace(found, cold_rows=cold_rows, cold_hash=cold_hash, other_rows=others)
    minutes = {minute for minute in {*warm, *in_cold} if warm.get(minute) != in_cold.get(minute)}
    if not minutes:
        return found
    late, gone, first, last, seen = sides.differences(minutes)
    shrunk = None
    if table.version_column is not None:
        shrunk, seen_of_keys = sides.shrunk(minutes)
        _check_same(table, day, warm_hash - cold_hash, seen_of_keys)
    _check_same(table, day, warm_hash - cold_hash, seen)
    differing = Window(from_micros(first), from_micros(last + 1)) if late or gone else None
    return replace(found, late_rows=late, gone_rows=gone, shrunk_rows=shrunk, differing=differing)


def read_differing(tiers: Tiers, table: TableSpec, found: DayComparison, limit: int) -> list[DifferingRow]:
    """The rows that only one side of a day holds, in the order of their times.

    :param found: the day's comparison; both tiers are read anew
    :param limit: of different rows of each side
    :raises OffloadError: if one of them cannot be read any more
    """
    counted = count_days(tiers, table, found.scope.day)
    if counted is None or found.differing is None:
        return []
    sides = _sides(tiers, counted, found.scope)
    picked = sides.pick(found.differing, limit)
    values: dict[int, tuple[str | None, ...]] = {}
    for sign in (1, -1):
        if hashes := [content for content, surplus, _ in picked if surplus * sign > 0]:
            values |= sides.texts(found.differing, hashes, of_warm=sign > 0)
    kinds = {
        (True, False): RowKind.LATE,
        (False, False): RowKind.GONE,
        (True, True): RowKind.WARM_VERSION,
        (False, True): RowKind.COLD_VERSION,
    }
    return [
        DifferingRow(kinds[surplus > 0, changed], abs(surplus), values[content])
        for content, surplus, changed in picked
        if content in values
    ]


def compared_columns(tiers: Tiers, table: TableSpec) -> tuple[Column, ...]:
    """The columns of :func:`read_differing`'s values, in their order."""
    cold = tiers.load_cold(table)
    source = tiers.clickhouse.columns(table)
    return settle(source, cold.columns) if cold else source


def _sides(tiers: Tiers, days: TableDays, scope: DayScope) -> Sides:
    if tiers.cold_reader == WORKER:
        from k2_offload.work.sides_read_here import sides_read_here  # noqa: PLC0415 - imports numpy

        return sides_read_here(tiers, days.table, days.columns, days.cold_table, scope)
    return Sides(tiers, days.table, days.columns, days.cold_table, scope)


def _total(minutes: dict[int, tuple[int, int]]) -> tuple[int, int]:
    return sum(rows for rows, _ in minutes.values()), sum(part for _, part in minutes.values()) % 2**64


def _check_same(table: TableSpec, day: date, difference: int, seen: int) -> None:
    """Whether two queries saw the same rows: what may be replaced is decided on the rows that are then exported."""
    if (difference - seen) % 2**64:
        raise OffloadError(
            f"{table.name} {day}: ClickHouse answered two queries with different rows: rows are coming in, or its "
            "replicas differ. The day was not compared, and nothing was changed; the next comparison looks at it anew."
        )


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
