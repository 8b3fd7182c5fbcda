"""Sets of half-open ranges do what sets of their ticks do, and a snapshot's summary keeps them."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.skips import GivenUp, Skips, covers, intersect, merge, subtract
from k2_offload.core.windows import TICK, Window

START = datetime(2026, 3, 4, tzinfo=UTC)


def window(low, high):
    return Window(START + low * TICK, START + high * TICK)


windows = st.tuples(st.integers(0, 20), st.integers(1, 6)).map(lambda each: window(each[0], each[0] + each[1]))
ranges = st.lists(windows, max_size=6)


def ticks(each_of):
    return {each.low + n * TICK for each in each_of for n in range((each.high - each.low) // TICK)}


@given(first=ranges, second=ranges, one=windows)
def test_ranges_are_sets_of_ticks(first, second, one):
    assert ticks(merge(first)) == ticks(first)
    assert ticks(subtract(first, second)) == ticks(first) - ticks(second)
    assert ticks(intersect(first, one)) == ticks(first) & ticks([one])
    assert covers(first, one) == (ticks([one]) <= ticks(first))


@given(first=ranges, second=ranges)
def test_ranges_are_as_few_as_possible(first, second):
    for found in (merge(first), subtract(first, second)):
        assert all(before.high < after.low for before, after in pairwise(found))


@given(steps=st.lists(st.tuples(st.booleans(), windows, st.integers(0, 9))))
def test_what_is_left_out_and_what_was_filled_share_no_time_and_are_kept(steps):
    skips, end, brought = Skips(), START, 0
    for skipping, each, rows in steps:
        if skipping:
            skips = skips.skipping(Window(end, end + (each.high - each.low)))
            end += each.high - each.low
        elif covers(skips.left_out, each):
            skips = skips.filling(each, rows)
            brought += rows
    assert not ticks(skips.left_out) & ticks(skips.filled)
    assert ticks((*skips.left_out, *skips.filled)) == (ticks([Window(START, end)]) if end > START else set())
    assert ticks(skips.all) == ticks((*skips.left_out, *skips.filled))
    assert sum(each.rows for each in skips.filled) == brought
    assert Skips.read(skips.summary) == skips


@given(st.lists(st.tuples(windows, st.none() | st.integers(0, 9))))
def test_what_is_given_up_survives_a_summary(ranges):
    given_up = tuple(GivenUp(each.low, each.high, rows) for each, rows in ranges)
    assert GivenUp.read(GivenUp.write(given_up)) == given_up
    assert bool(GivenUp.write(given_up)) == bool(given_up)
    assert GivenUp.read({"k2.given-up": "yesterday/today/1"}) == ()


def test_a_summary_that_says_nothing_or_nonsense_is_none():
    assert Skips.read({}) is None
    for text in ("yesterday/today", f"{window(0, 1).low}/today/1", "a/b/c/d/e"):
        assert Skips.read({"k2.left-out": text, "k2.filled": ""}) is None
