"""What a difference between the tiers means, which days are looked at, and what may be healed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.day_comparison import (
    DayComparison,
    DayScope,
    LastComparison,
    Verdict,
    day_window,
    days_to_compare,
    first_whole_day,
)
from k2_offload.core.windows import Window

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)
DAY = date(2026, 3, 9)
SKIPPED = DayScope(DAY, NOW, (Window(NOW - timedelta(hours=30), NOW - timedelta(hours=29)),))
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


@given(st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1)), st.integers(1, 30))
def test_the_first_whole_day_begins_after_everything_that_may_have_expired(now, days):
    now = now.replace(tzinfo=UTC)
    first = day_window(first_whole_day(now, timedelta(days=days))).low
    assert timedelta(0) <= first - (now - timedelta(days=days) + timedelta(hours=1)) < timedelta(days=1)


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
    assert days_to_compare(warm, cold, known, DAY, NOW) == due


def test_a_day_that_the_ttl_has_reached_is_looked_at_while_warm_holds_any_of_it():
    after = DAY + timedelta(days=1)
    assert days_to_compare({DAY: 1}, {DAY: 5}, {DAY: equal(1)}, after, NOW) == [DAY]
    assert days_to_compare({}, {DAY: 5}, {DAY: equal(1)}, after, NOW) == []
