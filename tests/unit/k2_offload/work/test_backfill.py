"""What is not brought, and what the person who asked for it is told."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.core.errors import NotBegun, OffloadError, ReplicaBehind
from k2_offload.core.exactly_once import FIRST_WATERMARK, LedgerEntry, Published, Snapshot, WindowId
from k2_offload.core.gaps import Gap, GapKind, Shortage
from k2_offload.core.schema_change import ColdColumn, Mark
from k2_offload.core.skips import Skips
from k2_offload.core.ttl import Removal, Storage
from k2_offload.core.windows import Window
from k2_offload.work import backfill
from k2_offload.work.backfill import LeftOut, check_all_came, find_left_out, plan_backfills
from tests.support import table_spec

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SKIPPED = Window(NOON, NOON + timedelta(hours=1))
WINDOW_ID = WindowId("uuid", SKIPPED)
NOW = NOON + timedelta(days=1)
WHOLE = Window(FIRST_WATERMARK, SKIPPED.high)
"""As `history: backfill` leaves out what lies behind."""


def tiers_with(cold, gaps=(), rows=0, storage=None, kept_for=None):
    clickhouse = SimpleNamespace(
        columns=lambda _: (),
        rows_per_step=len,
        count_within=lambda *_: rows,
        now=lambda: NOW,
        storage=lambda _: storage,
        kept_for=lambda *_: kept_for,
    )
    entry = LedgerEntry(None, None, None, ledger_id="mine")
    ledger = SimpleNamespace(read_gaps=lambda: {"t": tuple(gaps)}, read_entry=lambda _: entry)
    return SimpleNamespace(load_cold=lambda _: cold, clickhouse=clickhouse, ledger=ledger, now=lambda: NOW)


def cold_with(skips, *columns):
    published = Published(Snapshot(1, None, 1, WINDOW_ID, 0, 0, cut_on="at"), WINDOW_ID)
    return SimpleNamespace(published=published, check_source=lambda *_: (), skips=skips, columns=columns)


@pytest.fixture
def up_to_date(monkeypatch):
    monkeypatch.setattr(backfill, "check_replicas", lambda *_: [])


@pytest.mark.parametrize(
    ("schema_changes", "command"),
    [("refuse", "k2 schema t --apply"), ("follow", "k2 run t")],
    ids=lambda each: each[:6],
)
def test_columns_that_have_changed_come_before_a_backfill(schema_changes, command):
    published = Published(Snapshot(1, None, 1, WINDOW_ID, 0, 0), WINDOW_ID)
    cold = SimpleNamespace(published=published, check_source=lambda *_: ("note to be added",))
    with pytest.raises(OffloadError, match=rf"`{command}` lets it follow; then `k2 backfill t` brings it"):
        find_left_out(tiers_with(cold), table_spec(schema_changes=schema_changes))


def test_a_table_that_has_not_begun_says_so():
    with pytest.raises(NotBegun, match=r"holds no window yet.*`k2 run t`"):
        find_left_out(tiers_with(None), table_spec())


@pytest.mark.parametrize("accepts", [False, True], ids=["refused", "accepted"])
@pytest.mark.parametrize(
    ("rows", "found", "expires", "reason"),
    [
        pytest.param(10, 9, False, r"10 rows were left out .* shows 9 of them .*--accept-fewer", id="one has gone"),
        pytest.param(10, 9, True, None, id="one has expired"),
        pytest.param(10, 0, True, r"shows no row of what was left out in .*--accept-fewer", id="all have gone"),
        pytest.param(None, 0, True, "shows no row of what was left out in", id="nobody knows, and none is there"),
    ],
)
def test_what_the_source_lacks_stops_it_unless_waiting_costs_more(rows, found, expires, reason, accepts):
    left = Window(NOON - timedelta(hours=1), NOON) if expires else SKIPPED
    lacking = LeftOut(table_spec(), None, (), (), found, NOON, (Shortage(left, rows, found),))
    refused = reason is not None and not accepts
    with pytest.raises(OffloadError, match=reason) if refused else nullcontext():
        assert list(plan_backfills(tiers_with(None), lacking, accept_fewer=accepts)) == []


NO_TTL = Storage("k2.t")
TTL = Storage("k2.t", (Removal("at + toIntervalDay(1)"),))


@pytest.mark.usefixtures("up_to_date")
@pytest.mark.parametrize(
    ("changes", "storage", "kept_for", "refused"),
    [
        pytest.param({}, NO_TTL, None, "no TTL removes rows there", id="no TTL"),
        pytest.param({"retention": "proven"}, NO_TTL, None, "no TTL removes rows there", id="proven"),
        pytest.param({"retention": "proven"}, None, None, "no TTL removes rows there", id="proven, storage not known"),
        pytest.param({}, TTL, timedelta(days=20_000), "its TTL has not reached them", id="a TTL of many years"),
        pytest.param({}, TTL, timedelta(days=1), None, id="the TTL may have taken them"),
        pytest.param({}, None, None, None, id="the table file is believed"),
    ],
)
def test_what_is_hidden_of_a_whole_history_passes_for_expired_only_where_a_clock_removes_rows(
    changes, storage, kept_for, refused
):
    gaps = [Gap(WHOLE, GapKind.SKIPPED, 10, NOON)]
    tiers = tiers_with(cold_with(Skips((WHOLE,))), gaps, rows=6, storage=storage, kept_for=kept_for)
    found = find_left_out(tiers, table_spec(**changes))
    assert (found.shortages, found.missed) == ((Shortage(WHOLE, 10, 6),), ())
    assert found.may_have_expired == (refused is None)
    if refused is None:
        assert list(plan_backfills(tiers, replace(found, ranges=()))) == []
    else:
        with pytest.raises(OffloadError, match=rf"10 rows were left out .* shows 6 of them .*{refused}"):
            next(plan_backfills(tiers, found))


@pytest.mark.usefixtures("up_to_date")
@pytest.mark.parametrize(("rows", "ends_well"), [(10, True), (6, False)])
def test_a_range_that_was_brought_short_does_not_end_well(rows, ends_well):
    skips = Skips((WHOLE,)).filling(WHOLE, rows)
    found = find_left_out(tiers_with(cold_with(skips), [Gap(WHOLE, GapKind.SKIPPED, 10, NOON)]), table_spec())
    assert (found.ranges, found.shortages) == ((), ())
    with nullcontext() if ends_well else pytest.raises(OffloadError, match=r"4 of 10 rows in .* stays on record"):
        check_all_came(found)


@pytest.mark.usefixtures("up_to_date")
def test_what_was_brought_short_outside_of_what_is_asked_for_is_not_told():
    skips = Skips((WHOLE,)).filling(WHOLE, 6)
    tiers = tiers_with(cold_with(skips), [Gap(WHOLE, GapKind.SKIPPED, 10, NOON)])
    assert find_left_out(tiers, table_spec(), high=NOON).missed
    late = Skips((SKIPPED,)).filling(SKIPPED, 6)
    tiers = tiers_with(cold_with(late), [Gap(SKIPPED, GapKind.SKIPPED, 10, NOON)])
    assert not find_left_out(tiers, table_spec(), high=NOON).missed


@pytest.mark.usefixtures("up_to_date")
def test_a_range_that_was_brought_short_does_not_end_well_though_one_that_touches_it_is_left_out():
    first, second = Window(NOON - timedelta(hours=1), NOON), SKIPPED
    skips = Skips().skipping(first).skipping(second).filling(first, 6)
    gaps = [Gap(each, GapKind.SKIPPED, 10, NOON) for each in (first, second)]
    found = find_left_out(tiers_with(cold_with(skips), gaps, rows=10), table_spec(), high=NOON)
    assert (found.ranges, found.shortages) == ((), ())
    with pytest.raises(OffloadError, match=r"4 of 10 rows in .* stays on record"):
        check_all_came(found)
    check_all_came(find_left_out(tiers_with(cold_with(skips), gaps, rows=10), table_spec(), low=NOON))


def test_a_replica_that_lags_is_not_believed(monkeypatch):
    def check(_, table, again):
        raise ReplicaBehind(f"{table.name} is behind. Then: `{again}`")

    monkeypatch.setattr(backfill, "check_replicas", check)
    with pytest.raises(ReplicaBehind, match="`k2 backfill t`"):
        find_left_out(tiers_with(cold_with(Skips((SKIPPED,))), rows=10), table_spec())


NOTE = ColdColumn("note", "string", True, Mark(NOON + timedelta(minutes=30), stopped=True))


@pytest.mark.usefixtures("up_to_date")
@pytest.mark.parametrize(
    ("ranges", "reason"),
    [
        ((SKIPPED,), r"NULL in note.*`k2 backfill t --from 2026-03-04T12:30:00\S*` brings .*--accept-null`"),
        ((Window(NOON, NOON + timedelta(minutes=20)),), r"they stay left out\. To bring them .*--accept-null`"),
        ((Window(NOON + timedelta(minutes=30), SKIPPED.high),), None),
    ],
    ids=["in part", "below", "above"],
)
def test_history_does_not_come_without_a_column_that_was_filled_then(ranges, reason):
    found = find_left_out(tiers_with(cold_with(Skips(ranges), NOTE), rows=10), table_spec())
    assert (reason is None) == (not found.nulls)
    tiers = tiers_with(None)
    with pytest.raises(OffloadError, match=reason) if reason else nullcontext():
        assert list(plan_backfills(tiers, found if reason else replace(found, ranges=()))) == []
    assert list(plan_backfills(tiers, replace(found, ranges=()), accept_null=True)) == []
