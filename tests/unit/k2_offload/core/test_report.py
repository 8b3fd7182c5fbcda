"""What became of a table on one day."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.exactly_once import FIRST_WATERMARK, WindowId
from k2_offload.core.report import Chain, ChainSnapshot, DayBounds, LedgerWindow, figures_of
from k2_offload.core.windows import Window

DAY = DayBounds.of(date(2026, 11, 26))
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)


def window_of(at):
    return Window(at - 20 * MINUTE, at - 5 * MINUTE)


def published(at, rows=10, window=None):
    window = window or window_of(at)
    return ChainSnapshot(at, str(WindowId("u", window)), window, False, False, 0, rows, rows, 1, 100)


def recorded(at, window=None, **changes):
    window = window or window_of(at)
    name = str(WindowId("u", window))
    return replace(LedgerWindow(name, window, "committed", 0, at - MINUTE, at + MINUTE, 10, 100), **changes)


def other(at, **changes):
    return replace(published(at, rows=5), window_id=None, window=None, **changes)


def test_the_chain_says_what_was_moved_and_the_ledger_how_often_it_was_tried():
    heal, rewrite = other(NOON + MINUTE, heal=True, more_rows=3), other(NOON + 2 * MINUTE, rewritten_days=2)
    chain = Chain([rewrite, heal, published(NOON)], whole=True)
    found = figures_of(DAY, [recorded(NOON, rows=999, failures=2)], chain)
    assert (found.rows, found.size_bytes, found.files, found.heals, found.healed_rows, found.rewrites) == (
        10, 100, 2, 1, 3, 2,
    )  # fmt: skip
    assert (found.planned, found.failures, found.lost_windows, found.from_chain) == (1, 2, 0, True)


def test_a_backfill_is_no_idle_day_and_its_rows_and_files_count():
    brought = [other(NOON + each * MINUTE, backfill=True, files=2) for each in (2, 1)]
    found = figures_of(DAY, [], Chain(brought, whole=True))
    assert (found.backfills, found.backfilled_rows, found.files, found.rows) == (2, 10, 4, 0)
    empty = figures_of(DAY, [], Chain([other(NOON, rows=0, backfill=True)], whole=True))
    assert (found.is_idle, empty.is_idle) == (False, False)


@pytest.mark.parametrize("chain", [None, Chain([published(DAY.end)], whole=False)])
def test_a_day_whose_snapshots_say_nothing_is_not_known_to_be_idle(chain):
    found = figures_of(DAY, [], chain)
    assert (found.heals, found.backfills, found.backfilled_rows, found.is_idle) == (None, None, None, False)


@pytest.mark.parametrize("committed_at", [None, DAY.end, DAY.end + HOUR])
def test_a_day_on_which_a_window_fails_all_the_time_is_not_idle(committed_at):
    planned = {"planned_at": DAY.start - MINUTE, "committed_at": committed_at, "failures": 96}
    window = recorded(NOON, state="committed" if committed_at else "open", **planned)
    for chain in (None, Chain([], whole=True)):
        found = figures_of(DAY, [window], chain)
        assert (found.waiting, found.failures, found.is_idle) == (96, 0, False)
    published_then = replace(window, state="committed", committed_at=DAY.start)
    assert figures_of(DAY, [published_then], None).waiting == 0


def test_a_ledger_that_was_lost_changes_no_figure_of_what_was_moved():
    chain = Chain([published(NOON), published(NOON - HOUR)], whole=True)
    known = figures_of(DAY, [recorded(NOON), recorded(NOON - HOUR)], chain)
    lost = figures_of(DAY, [], chain)
    assert known.windows == lost.windows
    assert lost.rows == 20


def test_the_day_is_half_open():
    ends = [DAY.start - timedelta(microseconds=1), DAY.start, DAY.end - timedelta(microseconds=1), DAY.end]
    found = figures_of(DAY, [], Chain([published(at) for at in reversed(ends)], whole=True))
    assert [each.at for each in found.windows] == ends[1:3]


def test_where_snapshots_have_expired_the_ledger_speaks_and_says_so():
    chain = Chain([published(NOON)], whole=False)  # the earlier half of the day is gone
    found = figures_of(DAY, [recorded(NOON), recorded(NOON - HOUR)], chain)
    assert (found.from_chain, found.rows, found.files, found.heals, found.lost_windows) == (False, 20, None, None, 0)
    whole = Chain([published(NOON), published(DAY.start - MINUTE)], whole=False)
    assert figures_of(DAY, [recorded(NOON)], whole).from_chain


def test_a_window_that_was_rolled_back_is_told_and_not_counted():
    found = figures_of(DAY, [recorded(NOON), recorded(NOON - HOUR)], Chain([published(NOON - HOUR)], whole=True))
    assert (found.rows, found.lost_windows, found.is_idle) == (10, 1, False)


def test_a_day_without_anything_is_idle_and_has_no_lag():
    found = figures_of(DAY, [], Chain([published(NOON - timedelta(days=3))], whole=True))
    assert (found.is_idle, found.lag(0.5), found.rows) == (True, None, 0)
    assert not figures_of(DAY, [recorded(NOON, state="open", committed_at=None)], Chain((), whole=True)).is_idle


def test_the_first_window_and_one_without_rows_have_no_lag():
    first = Window(FIRST_WATERMARK, NOON)
    chain = Chain([published(NOON + MINUTE, rows=0), published(NOON, window=first)], whole=True)
    assert figures_of(DAY, [], chain).lag(0.99) is None


@pytest.mark.parametrize("chain", [Chain([published(NOON)], whole=True), None])
def test_lag_is_counted_from_the_first_row_that_the_ledger_knows(chain):
    """A window of candles begins long before its first row."""
    windows = [recorded(NOON, committed_at=NOON, first_row=NOON - 7 * MINUTE)]
    assert figures_of(DAY, windows, chain).lag(0.99) == 7 * MINUTE


@given(st.lists(st.integers(min_value=6, max_value=600), min_size=1, max_size=200), st.sampled_from([0.01, 0.5, 0.99]))
def test_no_window_of_a_share_waited_longer_than_its_lag(minutes, share):
    chain = Chain(
        [published(NOON, window=Window(NOON - each * MINUTE, NOON - 5 * MINUTE)) for each in minutes], whole=True
    )
    lag = figures_of(DAY, [], chain).lag(share)
    assert lag in [each * MINUTE for each in minutes]
    assert sum(each * MINUTE <= lag for each in minutes) >= share * len(minutes)
    assert sum(each * MINUTE < lag for each in minutes) < share * len(minutes)
