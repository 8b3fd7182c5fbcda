"""What a difference between the tiers means, which days are looked at, and what may be healed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from k2_offload.core.day_comparison import (
    TTL_MARGIN,
    DayComparison,
    DayScope,
    LastComparison,
    TableComparison,
    Verdict,
    day_window,
    days_to_compare,
    first_whole_day,
    is_still_whole,
    window_to_compare,
)
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.windows import Window

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = date(2026, 3, 9)
SKIPPED = DayScope(DAY, NOW, (Window(NOW - timedelta(hours=30), NOW - timedelta(hours=29)),))
ONE_DAY = timedelta(days=1)
WINDOW = Window(NOW - ONE_DAY, NOW)
times = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
retentions = st.integers(1, 30).map(timedelta)
FOUND = DayComparison("t", DayScope(DAY, NOW), 1, True, 10, 7, 10)


@pytest.mark.parametrize(
    ("changes", "verdict", "obstacle"),
    [
        ({}, Verdict.EQUAL, None),
        ({"late_rows": 1}, Verdict.LATE_ROWS, None),
        ({"late_rows": 1, "gone_rows": 1}, Verdict.CHANGED_ROWS, "1 rows of the cold tier are not"),
        ({"late_rows": 1, "gone_rows": 1, "shrunk_rows": 0}, Verdict.CHANGED_ROWS, None),
        ({"late_rows": 1, "gone_rows": 1, "shrunk_rows": 1}, Verdict.CHANGED_ROWS, "1 candles would lose trades"),
        ({"gone_rows": 2}, Verdict.COLD_HAS_MORE, "2 rows of the cold tier are not"),
        ({"gone_rows": 2, "shrunk_rows": 2}, Verdict.COLD_HAS_MORE, "2 candles would lose"),
        ({"gone_rows": 2, "whole": False}, Verdict.EXPIRED, "may no longer hold"),
        ({"late_rows": 1, "gone_rows": 2, "whole": False}, Verdict.LATE_ROWS, "may no longer hold"),
        ({"problem": "no such file"}, Verdict.UNREADABLE, "cannot be read"),
        ({"late_rows": 1, "other_rows": 3}, Verdict.LATE_ROWS, "would go too"),
        ({"other_rows": 3}, Verdict.LEFT_OUT, "would go too"),
        ({"problem": "x", "scope": SKIPPED}, Verdict.UNREADABLE, "skipped on purpose"),
    ],
)
def test_a_difference_has_a_name_and_may_be_healed_only_where_nothing_goes(changes, verdict, obstacle):
    found = replace(FOUND, **changes)
    assert found.verdict is verdict
    assert found.differs == (verdict not in (Verdict.EQUAL, Verdict.EXPIRED, Verdict.LEFT_OUT))
    assert (found.obstacle() is None) == (obstacle is None)
    assert obstacle is None or obstacle in found.obstacle()


@pytest.mark.parametrize(
    ("changes", "seen", "allowed"),
    [
        ({"gone_rows": 2}, 2, True),
        ({"gone_rows": 2}, 1, False),
        ({"problem": "no such file"}, 10, True),
        ({"problem": "no such file"}, 9, False),
        ({"gone_rows": 2, "whole": False}, 2, False),
        ({"gone_rows": 2, "other_rows": 3}, 2, False),
        ({"gone_rows": 2, "warm_rows": 0}, 2, False),
    ],
)
def test_a_person_may_let_rows_go_that_were_counted_but_not_what_warm_cannot_give_back(changes, seen, allowed):
    assert (replace(FOUND, **changes).obstacle(seen) is None) == allowed


@given(times, retentions, times)
def test_no_compared_row_is_near_its_end_and_no_whole_day_is_left_out(watermark, retention, now):
    window = window_to_compare(watermark, first_whole_day(now, retention))
    assume(window is not None)
    assert window.high == watermark
    assert window.low.time() == datetime.min.time()
    assert window.low + retention - now >= TTL_MARGIN
    assert window.low - ONE_DAY + retention - now < TTL_MARGIN


@given(retentions, times)
def test_there_is_nothing_to_compare_before_the_first_window_or_after_the_ttl_took_all(retention, now):
    assert window_to_compare(FIRST_WATERMARK, first_whole_day(now, retention)) is None
    assert window_to_compare(now - retention, first_whole_day(now, retention)) is None


def test_rows_of_one_midnight_are_compared_until_the_margin_before_their_end():
    midnight = datetime(2026, 11, 14, tzinfo=UTC)
    at_the_margin = midnight + 7 * ONE_DAY - TTL_MARGIN
    watermark = midnight + 3 * ONE_DAY
    assert window_to_compare(watermark, first_whole_day(at_the_margin, 7 * ONE_DAY)) == Window(midnight, watermark)
    just_after = at_the_margin + timedelta(microseconds=1)
    assert window_to_compare(watermark, first_whole_day(just_after, 7 * ONE_DAY)) == Window(
        midnight + ONE_DAY, watermark
    )


def test_a_table_is_equal_if_nothing_is_to_be_done_in_any_of_its_days():
    equal = TableComparison("t", WINDOW, (FOUND, replace(FOUND, gone_rows=2, whole=False)))
    assert equal.equal
    late = replace(FOUND, warm_rows=11, warm_hash=9, late_rows=1, cold_hash=2**64 - 1)
    found = TableComparison("t", WINDOW, (replace(FOUND, cold_hash=7), late))
    assert (found.equal, found.differing) == (False, [late])
    assert (found.warm_rows, found.cold_rows, found.warm_hash, found.cold_hash) == (21, 20, 16, 6)
    assert TableComparison("t", None).equal
    assert not TableComparison("t", None, problem="the source is gone").equal


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)), st.integers(1, 30))
def test_the_first_whole_day_begins_after_everything_that_may_have_expired(now, days):
    now = now.replace(tzinfo=UTC)
    first = day_window(first_whole_day(now, timedelta(days=days))).low
    assert timedelta(0) <= first - (now - timedelta(days=days) + timedelta(hours=1)) < timedelta(days=1)


def test_a_day_stays_whole_until_a_clock_may_reach_it():
    old = NOW.date() - 8 * ONE_DAY
    assert is_still_whole(old, True, NOW, 9 * ONE_DAY)
    assert not is_still_whole(old, True, NOW, 8 * ONE_DAY)
    assert is_still_whole(old, True, NOW, None), "no clock does"
    assert not is_still_whole(old, False, NOW, None)


def equal(hours_ago):
    return LastComparison(Verdict.EQUAL, NOW - timedelta(hours=hours_ago))


@pytest.mark.parametrize(
    ("warm", "cold", "known", "due"),
    [
        ({DAY: 5}, {DAY: 5}, {DAY: equal(1)}, []),
        ({DAY: 5}, {DAY: 5}, {}, [DAY]),
        ({DAY: 5}, {DAY: 5}, {DAY: equal(24)}, [DAY]),
        ({DAY: 6}, {DAY: 5}, {DAY: equal(1)}, [DAY]),
        ({}, {DAY: 5}, {DAY: equal(1)}, [DAY]),
        ({DAY: 5}, {DAY: 5}, {DAY: LastComparison(Verdict.LATE_ROWS, NOW)}, [DAY]),
    ],
)
def test_a_day_is_due_when_counts_differ_or_nobody_has_looked_for_a_day(warm, cold, known, due):
    assert days_to_compare(warm, cold, known, DAY.__le__, NOW) == due


def test_a_day_that_the_ttl_has_reached_is_looked_at_while_warm_holds_any_of_it():
    after = DAY + timedelta(days=1)
    assert days_to_compare({DAY: 1}, {DAY: 5}, {DAY: equal(1)}, after.__le__, NOW) == [DAY]
    assert days_to_compare({}, {DAY: 5}, {DAY: equal(1)}, after.__le__, NOW) == []


def test_a_day_that_could_not_be_read_is_looked_at_until_it_can_be():
    unreadable = replace(equal(1), verdict=Verdict.UNREADABLE)
    assert days_to_compare({}, {DAY: 5}, {DAY: unreadable}, (DAY + ONE_DAY).__le__, NOW) == [DAY]
