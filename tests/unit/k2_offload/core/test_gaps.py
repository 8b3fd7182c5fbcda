"""What the TTL may have taken before it was moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.day_comparison import TTL_MARGIN
from k2_offload.core.gaps import (
    Gap,
    GapKind,
    Looked,
    Shortage,
    count_anew,
    find_brought_short,
    find_given_up,
    find_shortages,
    may_have_expired,
    not_looked_for,
    on_record,
)
from k2_offload.core.skips import GivenUp, Skips
from k2_offload.core.windows import Window

NOW = datetime(2026, 3, 20, tzinfo=UTC)
WEEK = timedelta(days=7)
DAY = timedelta(days=1)
EDGE = NOW - WEEK + TTL_MARGIN
times = st.datetimes(datetime(2026, 1, 1), datetime(2026, 4, 1), timezones=st.just(UTC))


@pytest.mark.parametrize(
    ("watermark", "looked", "gap"),
    [
        pytest.param(NOW - DAY, Looked(), None, id="offload in time"),
        pytest.param(NOW - 10 * DAY, Looked(), Window(NOW - 10 * DAY, EDGE), id="ten days of outage"),
        pytest.param(NOW - 30 * DAY, Looked(NOW - DAY), None, id="a market silent for a month, watched"),
        pytest.param(
            NOW - 30 * DAY, Looked(NOW - 4 * DAY), Window(NOW - 30 * DAY, EDGE), id="not watched for four days"
        ),
        pytest.param(NOW - 10 * DAY, Looked(None, EDGE), None, id="accepted"),
        pytest.param(NOW - 10 * DAY, Looked(None, NOW - 8 * DAY), Window(NOW - 8 * DAY, EDGE), id="accepted a day ago"),
    ],
)
def test_what_was_neither_moved_nor_watched_nor_accepted_may_have_gone(watermark, looked, gap):
    assert may_have_expired(watermark, looked, NOW, WEEK) == gap


@given(times, st.none() | times, st.none() | times, times)
def test_nothing_above_the_retention_and_nothing_that_was_moved_or_accepted_is_in_it(watermark, at, until, now):
    gap = may_have_expired(watermark, Looked(at, until), now, WEEK)
    if gap is not None:
        assert gap.high == now - WEEK + TTL_MARGIN
        assert gap.low >= max(watermark, until or watermark)


HOUR = timedelta(hours=1)


def hours(low, high):
    return Window(NOW + low * HOUR, NOW + high * HOUR)


def skipped(low, high, rows=5, recorded=0):
    return Gap(hours(low, high), GapKind.SKIPPED, rows, NOW + recorded * HOUR)


LEFT_OUT = Skips((hours(0, 4),))
EXPIRED = Gap(hours(0, 4), GapKind.EXPIRED, None, NOW)


@pytest.mark.parametrize(
    ("skips", "left"),
    [
        pytest.param(LEFT_OUT, [skipped(0, 4)], id="left out"),
        pytest.param(LEFT_OUT.filling(hours(0, 3), 5), [skipped(0, 4)], id="brought in part"),
        pytest.param(LEFT_OUT.filling(hours(0, 4), 5), [], id="brought"),
        pytest.param(LEFT_OUT.filling(hours(0, 4), 9), [], id="brought, with rows that came since"),
        pytest.param(
            LEFT_OUT.filling(hours(2, 4), 1).filling(hours(0, 2), 2),
            [Gap(hours(0, 4), GapKind.FEWER_ROWS, 2, NOW)],
            id="brought with fewer rows",
        ),
        pytest.param(Skips(), [], id="undone"),
        pytest.param(Skips((hours(2, 8),)), [], id="undone, and another skipped that overlaps"),
    ],
)
def test_what_was_skipped_is_a_gap_as_far_as_the_chain_says_so(skips, left):
    assert list(on_record([skipped(0, 4)], skips)) == left
    assert list(on_record([EXPIRED, skipped(0, 4)], skips)) == [EXPIRED, *left]


def test_what_was_skipped_again_after_it_was_undone_counts_once():
    records = [skipped(0, 4, 5), skipped(0, 6, 7, recorded=1)]
    assert on_record(records, Skips((hours(0, 6),))) == (records[1],)
    assert on_record(records, Skips((hours(0, 4),))) == (records[0],)


def test_two_that_touch_are_short_together():
    records, skips = [skipped(0, 2), skipped(2, 4)], LEFT_OUT.filling(hours(0, 2), 4)
    assert on_record(records, skips) == (Gap(hours(0, 2), GapKind.FEWER_ROWS, 1, NOW), records[1])
    assert on_record(records, skips.filling(hours(2, 4), 5)) == (Gap(hours(0, 4), GapKind.FEWER_ROWS, 1, NOW),)


def test_what_was_brought_short_is_known_while_another_range_that_touches_it_is_left_out():
    records, skips = [skipped(0, 2), skipped(2, 4)], LEFT_OUT.filling(hours(0, 2), 4)
    assert find_brought_short(records, skips, hours(0, 2)) == [Shortage(hours(0, 2), 5, 4)]
    assert find_brought_short(records, skips, hours(2, 4)) == []
    assert find_brought_short(records, LEFT_OUT.filling(hours(0, 2), 5), hours(0, 4)) == []


@pytest.mark.parametrize(
    ("skips", "there", "short"),
    [
        pytest.param(LEFT_OUT, 5, None, id="all are there"),
        pytest.param(LEFT_OUT, 3, 3, id="two have gone"),
        pytest.param(LEFT_OUT.filling(hours(0, 3), 2), 3, None, id="some were brought"),
        pytest.param(LEFT_OUT.filling(hours(0, 3), 2), 2, 4, id="some were brought, one has gone"),
        pytest.param(LEFT_OUT, 0, 0, id="none is there"),
    ],
)
def test_what_the_source_lacks_of_what_was_skipped_is_found(skips, there, short):
    expected = [] if short is None else [Shortage(hours(0, 4), 5, short)]
    assert find_shortages([skipped(0, 4)], skips, [hours(3, 4)], lambda _: there) == expected
    assert find_shortages([skipped(0, 4)], skips, [hours(5, 6)], lambda _: there) == []


def test_without_a_record_it_is_a_shortage_that_no_row_is_there():
    assert find_shortages([], LEFT_OUT, [hours(0, 4)], lambda _: 0) == [Shortage(hours(0, 4), None, 0)]
    assert find_shortages([], LEFT_OUT, [hours(0, 4)], lambda _: 1) == []
    assert find_shortages([skipped(0, 4, 0)], LEFT_OUT, [hours(0, 4)], lambda _: 0) == []


@pytest.mark.parametrize(
    ("skips", "ranges"),
    [
        pytest.param(LEFT_OUT, (hours(0, 4),), id="left out"),
        pytest.param(LEFT_OUT.filling(hours(0, 3), 1), (hours(3, 4),), id="brought in part"),
        pytest.param(LEFT_OUT.filling(hours(0, 4), 1), (), id="brought with fewer rows"),
        pytest.param(Skips(), (), id="undone"),
    ],
)
def test_what_was_brought_is_looked_for_however_few_rows_came(skips, ranges):
    assert not_looked_for([skipped(0, 4)], skips) == ranges
    fewer = Gap(hours(6, 7), GapKind.FEWER_ROWS, 2, NOW)
    assert not_looked_for([skipped(0, 4), fewer, EXPIRED], skips) == (hours(0, 4), hours(6, 7))


TWO = Skips((hours(0, 2), hours(4, 8)))
RECORDS = [skipped(0, 2, 5), skipped(4, 8, 9)]


@pytest.mark.parametrize(
    ("before", "after", "dropped", "given_up"),
    [
        pytest.param(TWO, TWO, (), [], id="all of it is passed on"),
        pytest.param(TWO, Skips(), TWO.left_out, [(0, 2, 5), (4, 8, 9)], id="all of it"),
        pytest.param(TWO, Skips((hours(4, 8),)), [hours(0, 2)], [(0, 2, 5)], id="one of two"),
        pytest.param(TWO, Skips((hours(4, 5),)), [hours(5, 8)], [(5, 8, None)], id="a part of it"),
        pytest.param(TWO.filling(hours(4, 6), 7), Skips(), [hours(6, 8)], [(6, 8, 2)], id="brought in part"),
        pytest.param(TWO.filling(hours(4, 6), 9), Skips(), [hours(6, 8)], [(6, 8, None)], id="late ones were brought"),
        pytest.param(TWO.filling(hours(0, 2), 5), Skips(), (), [], id="brought"),
        pytest.param(TWO.filling(hours(0, 2), 3), Skips(), (), [(0, 2, 2)], id="brought short"),
        pytest.param(TWO.filling(hours(0, 2), 3), TWO.filling(hours(0, 2), 3), (), [], id="that is passed on"),
        pytest.param(Skips((hours(9, 10),)), Skips(), [hours(9, 10)], [(9, 10, None)], id="not in the ledger"),
    ],
)
def test_what_is_given_up_is_named_with_its_rows(before, after, dropped, given_up):
    found = find_given_up(RECORDS, before, after, dropped)
    assert found == tuple(GivenUp(hours(low, high).low, hours(low, high).high, rows) for low, high, rows in given_up)


def test_what_had_no_rows_when_it_was_skipped_is_nothing_to_give_up():
    assert find_given_up([skipped(0, 2, 0)], TWO, Skips(), [hours(0, 2)]) == ()


@pytest.mark.parametrize(
    ("rows", "below", "left_out", "given_up"),
    [
        pytest.param({}, 9, [(0, 2), (4, 8)], [], id="it holds none"),
        pytest.param({(0, 2): 5, (4, 8): 10}, 9, [], [], id="it holds all, and late ones"),
        pytest.param({(0, 2): 3}, 9, [(4, 8)], [(0, 2, 2)], id="it holds some"),
        pytest.param({(4, 6): 3}, 6, [(0, 2)], [(4, 6, None)], id="some of what lies below the watermark"),
        pytest.param({}, 6, [(0, 2), (4, 6)], [], id="none of that"),
    ],
)
def test_what_no_snapshot_says_is_counted_in_the_table(rows, below, left_out, given_up):
    counts = {hours(*bounds): found for bounds, found in rows.items()}
    found = count_anew([EXPIRED, *RECORDS], hours(-1, below), lambda window: counts.get(window, 0))
    ranges = tuple(GivenUp(hours(low, high).low, hours(low, high).high, missing) for low, high, missing in given_up)
    assert found == (tuple(hours(*bounds) for bounds in left_out), ranges)


def test_what_was_skipped_twice_is_counted_once():
    records = [skipped(0, 4, 5), skipped(0, 6, 7, recorded=1)]
    assert count_anew(records, hours(-1, 9), lambda _: 4)[1] == (GivenUp(hours(0, 6).low, hours(0, 6).high, 3),)
