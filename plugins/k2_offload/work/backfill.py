"""Plans which part of what was skipped comes next. Why that is safe is in :mod:`k2_offload.core.backfill`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.replicas import check_replicas
from k2_offload.core import queries
from k2_offload.core.backfill import BackfillId, check_no_fewer_left
from k2_offload.core.cuts import cut_by_rows
from k2_offload.core.day_comparison import TTL_MARGIN
from k2_offload.core.errors import NotBegun, OffloadError
from k2_offload.core.exactly_once import FIRST_WATERMARK, check_cut, watermark_of
from k2_offload.core.gaps import Shortage, find_brought_short, find_shortages
from k2_offload.core.plan import PlannedBackfill, plan_rows
from k2_offload.core.schema_change import accept_nulls, find_nulls, settle
from k2_offload.core.skips import intersect, merge, subtract
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Window, format_time
from k2_offload.work.cycle import planning_ledger
from k2_offload.work.tiers import Tiers
from k2_offload.work.ttl import read_kept_for_now


@dataclass(frozen=True)
class LeftOut:
    """What may be brought of one table.

    :param ranges: of the timestamp column, in their order
    :param rows: how many the source holds in them now
    :param expired_before: older rows may have gone from the source, by its TTL; ``None`` if no clock removes rows
    :param shortages: where it shows fewer rows than were skipped
    :param missed: where all has been brought that was there, and was less
    :param nulls: what would come with NULL in a column of the cold table that was filled then, by column
    :param replicated: the replicated tables that the source is read from
    """

    table: TableSpec
    cold: ColdTable
    columns: tuple[Column, ...]
    ranges: tuple[Window, ...]
    rows: int
    expired_before: datetime | None
    shortages: tuple[Shortage, ...] = ()
    missed: tuple[Shortage, ...] = ()
    nulls: Mapping[str, tuple[Window, ...]] = field(default_factory=dict)
    replicated: Sequence[str] = ()

    @property
    def may_have_expired(self) -> bool:
        """Whether the source may no longer show all rows of the ranges."""
        return any(self.may_expire(each) for each in self.ranges)

    def may_expire(self, window: Window) -> bool:
        """Whether the source's TTL has reached a range."""
        return self.expired_before is not None and window.low < self.expired_before


def find_left_out(tiers: Tiers, table: TableSpec, low: datetime | None = None, high: datetime | None = None) -> LeftOut:
    """What was skipped of a table, and not brought yet.

    :param low: from there on; from the first watermark on when left out
    :param high: below that; below the watermark when left out
    :raises NotBegun: if nothing was moved yet
    :raises OffloadError: if the table cannot be read, the range goes beyond its watermark, or the server that was asked
        lacks rows itself
    """
    cold = tiers.load_cold(table)
    if cold is None or cold.published is None:
        raise NotBegun(
            f"{table.name}: the cold table holds no window yet, so nothing is left out of it. Nothing was changed. "
            f"`k2 run {table.name}` moves the first one."
        )
    check_cut(table.name, cold.published, table.timestamp_column)
    watermark = watermark_of(cold.published)
    low, high = low or FIRST_WATERMARK, high or watermark
    if high > watermark:
        raise OffloadError(
            f"{table.name}: {format_time(high)} lies above the watermark, {format_time(watermark)}: what is above it "
            "is moved by the next cycles, and was not left out. Nothing was changed. "
            f"Ask for a range that ends at {format_time(watermark)} or before."
        )
    if low >= high:
        raise OffloadError(f"{table.name}: {format_time(low)} is not before {format_time(high)}. Nothing was changed.")
    columns = tiers.clickhouse.columns(table)
    if changes := cold.check_source(table, columns):
        command = f"k2 schema {table.name} --apply" if table.schema_changes == "refuse" else f"k2 run {table.name}"
        raise OffloadError(
            f"{table.name}: the source's columns have changed ({', '.join(map(str, changes))}), and the cold table has "
            "not followed yet, so that what was left out of it cannot be brought. Nothing was changed and no row is "
            f"lost. `{command}` lets it follow; then `k2 backfill {table.name}` brings it."
        )
    replicated = check_replicas(tiers.clickhouse, table, f"k2 backfill {table.name}")
    asked = Window(low, high)
    ranges = intersect(cold.skips.left_out, asked)
    count = partial(tiers.clickhouse.count_within, table)
    rows = sum(map(count, ranges))
    gaps = tiers.ledger.read_gaps().get(table.name, ())
    shortages = find_shortages(gaps, cold.skips, ranges, count)
    return LeftOut(
        table,
        cold,
        settle(columns, cold.columns),
        ranges,
        rows,
        _expired_before(tiers, table),
        tuple(shortages),
        tuple(find_brought_short(gaps, cold.skips, asked)),
        find_nulls(cold.columns, ranges),
        replicated,
    )


def _expired_before(tiers: Tiers, table: TableSpec) -> datetime | None:
    """By the source's own TTL: whoever believes a shorter one takes rows that are hidden for rows that are gone."""
    storage, kept_for = read_kept_for_now(tiers, table)
    if storage is None and not table.is_proven:
        kept_for = table.warm_retention
    return None if kept_for is None else min(tiers.now(), tiers.clickhouse.now()) - kept_for + TTL_MARGIN


def brought_since(found: LeftOut, time: datetime) -> bool:
    """Whether the cold table's snapshots say that any backfill of it was published since."""
    changes = found.cold.chain.latest()
    return any(each.visible and each.snapshot.backfill is not None and each.at >= time for each in changes)


def check_all_came(found: LeftOut) -> None:
    """Do not end well where fewer rows came than were left out, though nothing is left to bring.

    :raises OffloadError: if so, with the ranges
    """
    if not found.missed:
        return
    name = found.table.name
    short = [f"{each.rows - each.found} of {each.rows} rows in {each.window}" for each in found.missed if each.rows]
    raise OffloadError(
        f"{name}: not all rows came that were left out: {'; '.join(short)} are missing. ClickHouse did not show them "
        "when the ranges were brought. What it showed was brought, and no row is lost by that; the rest stays on "
        f"record (`k2 status {name}`). If ClickHouse shows them again, they are late rows, and `k2 heal {name}` brings "
        f"them. If they have gone, `k2 backfill {name} --accept-fewer` ends without an error."
    )


def plan_backfills(
    tiers: Tiers,
    found: LeftOut,
    max_rows: int | None = None,
    *,
    newest_first: bool = False,
    accept_fewer: bool = False,
    accept_null: bool = False,
) -> Iterator[PlannedBackfill]:
    """The ranges in windows of a bounded number of rows, one after the other.

    :param max_rows: of one window; as many as the table file allows when left out. Rows with equal times stay together
    :param newest_first: otherwise the oldest first, which the source's TTL takes first
    :param accept_fewer: a person knows that the source does not show all that was skipped
    :param accept_null: a person knows that columns are not filled any more; see :func:`record_nulls`
    :raises OffloadError: if it shows none, if it lacks rows that its TTL has not reached, or if rows would come without
        a column that was filled then, and nobody accepts that
    """
    table, left = found.table, found.ranges
    if not accept_fewer:
        for shortage in found.shortages:
            _check_shortage(found, shortage)
    if found.nulls and not accept_null:
        raise OffloadError(describe_nulls(found))
    count = partial(tiers.clickhouse.rows_per_step, table)
    ledger_id = planning_ledger(tiers, table, found.cold) if left else None
    while left:
        whole = left[-1] if newest_first else left[0]
        limit = min(max_rows or table.max_window_rows, table.max_window_rows)
        window, counts = cut_by_rows(table.name, whole, count, limit, from_end=newest_first, check=check_no_fewer_left)
        yield _planned(found, window, counts.total, ledger_id)
        left = subtract(left, [window])


def describe_nulls(found: LeftOut) -> str:
    """Why rows do not come in silence without a column that was filled then, and what a person may do."""
    table, names = found.table.name, ", ".join(found.nulls)
    ranges = merge(each for nulls in found.nulls.values() for each in nulls)
    since = max(each.high for each in ranges)
    above = f"`k2 backfill {table} --from {format_time(since)}` brings what lies above. "
    return (
        f"{table}: rows in {', '.join(map(str, ranges))} would come with NULL in {names}, which the cold table does "
        f"not fill any more (`k2 schema {table}`), whatever ClickHouse has. Nothing was changed and no row is lost: "
        f"they stay left out. {above if any(each.high > since for each in found.ranges) else ''}To bring them without "
        f"these values, run `k2 backfill {table} --accept-null`; `k2 schema {table}` keeps where."
    )


def record_nulls(tiers: Tiers, found: LeftOut) -> None:
    """Keep in the cold table where a person lets rows be brought without columns that were filled then.

    :raises StaleWindow: if another writer changed the columns meanwhile; nothing has changed then
    """
    if not found.nulls:
        return
    with tiers.ledger.locked(found.table.name):
        cold = tiers.load_cold(found.table)
        if cold is not None:
            cold.change_columns((), accept_nulls(cold.columns, found.ranges))


def _check_shortage(found: LeftOut, shortage: Shortage) -> None:
    """Rows that the TTL takes do not come back, and waiting costs more of them; all others may."""
    table = found.table
    if not shortage.found:
        raise OffloadError(
            f"{table.name}: ClickHouse shows no row of what was left out in {shortage.window}, so nothing is there to "
            f"bring: {table.source} may not be the right table, or its rows have expired. It stays left out, and on "
            f"record. If there are none, `k2 backfill {table.name} --accept-fewer` counts it as brought; how many were "
            "left out stays on record."
        )
    if shortage.rows is not None and not found.may_expire(shortage.window):
        clock = "its TTL has not reached them" if found.expired_before is not None else "no TTL removes rows there"
        raise OffloadError(
            f"{table.name}: {shortage.rows} rows were left out in {shortage.window}, and ClickHouse shows "
            f"{shortage.found} of them (those that were brought before included); {clock}: a "
            "replica may lag, a part may be detached, or they were deleted. Nothing was changed and no row is lost. If "
            f"they have gone, `k2 backfill {table.name} --accept-fewer` brings what is there; how many are missing "
            "stays on record."
        )


def _planned(found: LeftOut, window: Window, rows: int, ledger_id: str | None) -> PlannedBackfill:
    table, condition = found.table, queries.within(found.table, window)
    own = {"backfill_id": str(BackfillId(found.cold.uuid, window)), "rows": rows, "ledger_id": ledger_id}
    return plan_rows(
        PlannedBackfill, table, found.columns, found.cold.partition_field, condition, found.replicated, **own
    )
