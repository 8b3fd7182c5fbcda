"""Compares partition days of both tiers, and plans the heals of those that differ.

What a difference means, and what may be healed, is in :mod:`k2_offload.core.day_comparison`; why a heal is safe, in
:mod:`k2_offload.core.heal`. This module does the I/O around them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import partial
from operator import itemgetter
from typing import TypeVar

from k2_offload.core import day_queries
from k2_offload.core.day_comparison import (
    HEALED_WITHIN,
    LEFT_FOR_AT_MOST,
    DayComparison,
    LastComparison,
    days_to_compare,
)
from k2_offload.core.errors import OffloadError, Unreachable
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.heal import HealId
from k2_offload.core.plan import PlannedHeal, plan_rows
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import first_line
from k2_offload.work.compare import TableDays, compare_day, count_days, describe
from k2_offload.work.cycle import planning_ledger
from k2_offload.work.tiers import WORKER, Tiers

log = logging.getLogger(__name__)

Result = TypeVar("Result")


def plan_heal(days: TableDays, comparison: DayComparison, ledger_id: str | None) -> PlannedHeal:
    """All that the job must know to replace a day that was compared.

    :param comparison: of a day that may be replaced, see
        :meth:`~k2_offload.core.day_comparison.DayComparison.obstacle`
    :param ledger_id: of the ledger that plans it
    """
    table, cold, scope = days.table, days.cold_table, comparison.scope
    return plan_rows(
        PlannedHeal,
        table,
        days.columns,
        cold.partition_field,
        day_queries.in_scope(table, scope),
        days.replicated,
        heal_id=str(HealId(cold.uuid, scope.day, comparison.snapshot_id)),
        partition_column=table.partition_column,
        rows=comparison.warm_rows,
        content_hash=comparison.warm_hash if comparison.export_hash is None else comparison.export_hash,
        files=tuple(cold.files_of_day(table.partition_column, scope.day)),
        ledger_id=ledger_id,
    )


@dataclass(frozen=True)
class Found:
    """What has been found of one table, or of one of its days.

    :param days: those that were compared
    :param heals: of the days that may be replaced
    :param problems: of each day that may not be replaced, or has differed for too long: what was found, and why
    :param left: how many days of all tables are left for the next comparison, because there was no time
    """

    table: TableSpec
    days: tuple[DayComparison, ...] = ()
    heals: tuple[PlannedHeal, ...] = ()
    problems: tuple[str, ...] = ()
    left: int = 0

    @property
    def lines(self) -> list[str]:
        """For a log: one line for each day that was compared."""
        lines = [f"{self.table.name} {day.scope.day}: {day.verdict}, {day.warm_rows} rows" for day in self.days]
        if self.left:
            lines.append(f"no time for {self.left} more days, {self.table.name} first; the next run begins with them")
        return lines


def reconcile(
    tiers: Tiers,
    tables: Sequence[TableSpec],
    days: Collection[date] = (),
    *,
    going_rows: int = 0,
    budget: timedelta | None = None,
    keep: bool = True,
) -> Iterator[Found]:
    """Compare the days of some tables that are due, keep the results in the ledger, and plan heals.

    A day in which the counts of one table differ is compared in all of them: a late trade changes its candles, and
    not their number. So is one that has been healed in one table since. Those days and the ones that differed the last
    time come first, then those whose last comparison is the oldest.

    :param days: compare these instead
    :param going_rows: a person has seen so many rows of a day that would go
    :param budget: no comparison of a content begins so long after all counts have been compared, but the first one does
    :param keep: leave the ledger as it is if not; since when a day differs is not known then
    :raises Unreachable: if a service is down; what is wrong with one table alone becomes its problem
    """
    counted: list[_Counted] = []
    for table in (each for each in tables if each.reconcile):
        found = _attempt(table, partial(_count, tiers, table))
        if isinstance(found, Found):
            yield found
        elif found is not None:
            counted.append(found)
    differing = {day for each in counted for day in each.differing}
    healed = _healed(counted)
    due = []
    for each in counted:
        suspected = {*differing.intersection(each.cold), *each.missed(healed)}
        chosen = sorted(set(days) or {*each.due, *suspected})
        due += [(each.was_equal(day) and day not in suspected, each.compared_at(day), each, day) for day in chosen]
    due.sort(key=itemgetter(0, 1))
    started = tiers.now()
    for position, (_, _, each, day) in enumerate(due):
        if budget is not None and tiers.now() - started > budget:
            long_ago = tiers.now() - LEFT_FOR_AT_MOST
            overdue = sum(FIRST_WATERMARK < compared_at < long_ago for _, compared_at, *_ in due[position:])
            problem = (
                f"{overdue} days have not been compared for {LEFT_FOR_AT_MOST.days} days: there is no time. Nothing is "
                "known to be wrong with them. Raise [k2_offload] task_timeout_seconds, or compare with `k2 verify`."
            )
            yield Found(each.days.table, problems=(problem,) if overdue else (), left=len(due) - position)
            return
        yield _attempt(each.days.table, partial(_reconcile, tiers, each.days, day, going_rows, keep=keep))


@dataclass(frozen=True)
class _Counted:
    """One table's days, and what is known of them from before."""

    days: TableDays
    cold: Mapping[date, int]
    known: Mapping[date, LastComparison]

    def compared_at(self, day: date) -> datetime:
        """When its content was last compared; long ago if never."""
        return self.known[day].compared_at if day in self.known else FIRST_WATERMARK

    def was_equal(self, day: date) -> bool:
        """Whether nothing was to be done or decided when it was last compared, as far as that is known."""
        return day not in self.known or not self.known[day].verdict.differs

    @property
    def due(self) -> list[date]:
        """Days whose content is to be compared, as far as this table alone tells."""
        days = self.days
        return days_to_compare(days.warm, self.cold, self.known, days.is_whole, days.now)

    def missed(self, healed: Mapping[date, datetime]) -> list[date]:
        """Whole days that were healed in some table, and whose content has not been compared in this one since.

        A late trade changes no number of candles: once the trade itself is healed, no count tells of it any more.
        """
        days = [day for day in self.cold if self.days.is_whole(day) and day in self.known and day in healed]
        return [day for day in days if self.compared_at(day) <= healed[day]]

    @property
    def differing(self) -> list[date]:
        """Whole days whose counts differ."""
        warm, is_whole = self.days.warm, self.days.is_whole
        return [day for day in self.due if is_whole(day) and warm.get(day, 0) != self.cold.get(day, 0)]


def _healed(counted: Sequence[_Counted]) -> dict[date, datetime]:
    """When each day was last healed in any table, as far as snapshots are left."""
    healed: dict[date, datetime] = {}
    for each in counted:
        cold = each.days.cold_table
        for entry in cold.chain.latest():
            if (heal := HealId.parse(entry.snapshot.heal)) is not None:
                healed[heal.day] = max(entry.at, healed.get(heal.day, entry.at))
    return healed


def _count(tiers: Tiers, table: TableSpec) -> _Counted | None:
    days = count_days(tiers, table)
    if days is None:
        return None
    if days.cold is None:
        raise OffloadError(
            f"{table.name}: files of the cold table are partitioned in another way than its days; it cannot be "
            "compared day by day. Nothing was changed. `k2 verify` compares it all the same."
        )
    return _Counted(days, days.cold, tiers.ledger.read_days(table.name))


def _attempt(table: TableSpec, step: Callable[[], Result]) -> Result | Found:
    """What is wrong with one table must not stop the others."""
    try:
        return step()
    except Unreachable:
        raise
    except OffloadError as error:
        return Found(table, problems=(str(error),))
    except Exception as error:
        log.exception("%s: unexpected", table.name)
        return Found(
            table,
            problems=(
                f"{table.name}: it could not be compared, for an unexpected reason ({first_line(error)}). Nothing was "
                "changed; the next comparison tries again.",
            ),
        )


def _reconcile(tiers: Tiers, counted: TableDays, day: date, going_rows: int, *, keep: bool) -> Found:
    found = compare_day(tiers, counted, day)
    obstacle = found.obstacle(going_rows) if found.differs else None
    if found.differs and obstacle is None and tiers.cold_reader == WORKER:
        obstacle = "the new files could not be read back: [k2_offload] cold_reader is not clickhouse"
    # While columns change, a heal would leave out values that the cold table has room for in a moment.
    may_be_healed = found.differs and obstacle is None and not counted.changing
    heals: tuple[PlannedHeal, ...] = ()
    if may_be_healed:
        heals = (plan_heal(counted, found, planning_ledger(tiers, counted.table, counted.cold_table)),)
    now = tiers.now()
    unequal_since = tiers.ledger.record_day(found, found.problem or obstacle, now) if keep else None
    overdue = unequal_since is not None and now - unequal_since > HEALED_WITHIN
    red = found.differs and found.whole and (obstacle is not None or overdue)
    if counted.changing and obstacle is None:
        obstacle = f"its columns do not follow the source's yet: `k2 schema {counted.table.name}`"
    return Found(counted.table, (found,), heals, (describe(found, obstacle),) if red else ())
