"""Where windows are cut, and how small one becomes that has failed."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.backfill import check_no_fewer_left
from k2_offload.core.cuts import CUT_STEPS, Counts, cut_by_rows, next_row_limit, rows_of_next_attempt
from k2_offload.core.errors import AuditFailed
from k2_offload.core.windows import TICK, Window, from_micros, to_micros

START = datetime(2026, 3, 4, 10, 17, 3, 141592, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


class Source:
    """Rows by their timestamps, and how often somebody has counted them."""

    def __init__(self, times):
        self.times, self.steps = times, []

    def count(self, window, step):
        self.steps.append(step)
        length = step // TICK
        inside = [time for time in self.times if window.low <= time < window.high]
        return Counts(Counter(from_micros(to_micros(time) // length * length) for time in inside), {})


offsets = st.integers(0, 5) | st.integers(0, 5_000_000) | st.integers(0, 4 * 3_600_000_000)
sources = st.lists(offsets, min_size=1, max_size=60).map(lambda all_: Source([START + each * TICK for each in all_]))


@given(source=sources, max_rows=st.integers(1, 30))
def test_windows_follow_each_other_hold_every_row_once_and_no_more_than_they_may(source, max_rows):
    low, end, moved = START, max(source.times) + TICK, 0
    while low < end:
        window, counts = cut_by_rows("t", Window(low, end), source.count, max_rows)
        inside = [time for time in source.times if window.low <= time < window.high]
        assert window.low == low
        assert window.high <= end
        assert counts.total == len(inside)
        assert len(inside) <= max_rows or len(set(inside)) == 1, "only rows of one timestamp stay together"
        assert inside or window.high == end
        low, moved = window.high, moved + len(inside)
    assert moved == len(source.times)


@given(source=sources, max_rows=st.integers(1, 30))
def test_windows_from_the_end_hold_every_row_once_and_no_more_than_they_may(source, max_rows):
    high, moved = max(source.times) + TICK, 0
    while high > START:
        window, counts = cut_by_rows("t", Window(START, high), source.count, max_rows, from_end=True)
        inside = [time for time in source.times if window.low <= time < window.high]
        assert window.high == high
        assert window.low >= START
        assert counts.total == len(inside)
        assert len(inside) <= max_rows or len(set(inside)) == 1, "only rows of one timestamp stay together"
        high, moved = window.low, moved + len(inside)
    assert moved == len(source.times)


@given(source=sources, max_rows=st.integers(1, 30))
def test_a_window_takes_as_much_as_it_may_in_the_coarsest_steps_that_are_fine_enough(source, max_rows):
    whole = Window(START, max(source.times) + TICK)
    window, counts = cut_by_rows("t", whole, source.count, max_rows)
    length = source.steps[-1] // TICK
    assert window == whole or to_micros(window.high) % length == 0
    if window != whole and counts.total <= max_rows:
        next_step = from_micros(to_micros(window.high) + length)
        assert counts.total + source.count(Window(window.high, next_step), CUT_STEPS[0]).total > max_rows


def test_a_busy_hour_is_counted_by_the_minute_and_a_quiet_one_is_not():
    busy = Source([START + each * MINUTE / 10 for each in range(100)])
    window, counts = cut_by_rows("t", Window(START, START + timedelta(hours=5)), busy.count, 25)
    assert busy.steps == list(CUT_STEPS[:2])
    assert (window.high, counts.total) == (datetime(2026, 3, 4, 10, 19, tzinfo=UTC), 20)
    quiet = Source([START])
    cut_by_rows("t", Window(START, START + timedelta(hours=5)), quiet.count, 25)
    assert quiet.steps == list(CUT_STEPS[:1])


def test_the_highest_sequence_and_the_first_row_are_those_of_the_part_that_is_taken():
    hours = [START.replace(minute=0, second=0, microsecond=0) + timedelta(hours=each) for each in range(2)]
    firsts = {hour: hour + MINUTE for hour in hours}
    found = Counts({hours[0]: 2, hours[1]: 2}, {hours[0]: 7, hours[1]: 9}, firsts)
    _, counts = cut_by_rows("t", Window(START, hours[1] + MINUTE), lambda *_: found, 3)
    assert counts == Counts({hours[0]: 2}, {hours[0]: 7}, {hours[0]: firsts[hours[0]]})
    assert counts.first_row == firsts[hours[0]]
    _, counts = cut_by_rows("t", Window(START, hours[1] + timedelta(hours=1)), lambda *_: found, 3, from_end=True)
    assert counts.first_row == firsts[hours[1]]


@pytest.mark.parametrize("vanishes_at", [1, 2, 3])
def test_a_count_that_shows_fewer_rows_than_were_known_is_not_believed(vanishes_at):
    source = Source([START + each * TICK for each in range(10)])

    def count(window, step):
        if len(source.steps) + 1 == vanishes_at:
            source.times.pop(0)
        return source.count(window, step)

    with pytest.raises(AuditFailed, match="counts 9 rows, 1 fewer than the 10"):
        cut_by_rows("t", Window(START, START + MINUTE), count, 2, at_least=10)


def test_a_skipped_range_that_loses_rows_while_it_is_cut_names_the_backfill():
    source = Source([START + each * TICK for each in range(10)])

    def count(window, step):
        if source.steps:
            source.times.pop(0)
        return source.count(window, step)

    with pytest.raises(AuditFailed, match=r"shows 9 rows of this skipped range, .*`k2 backfill t` counts it anew"):
        cut_by_rows("t", Window(START, START + MINUTE), count, 2, check=check_no_fewer_left)


@pytest.mark.parametrize(
    ("rows", "max_rows", "failures", "allowed"),
    [
        pytest.param(100, 1000, 0, 100, id="not failed"),
        pytest.param(100, 10, 0, 100, id="not failed, whatever the table file says by now"),
        pytest.param(100, 1000, 1, 100, id="an ordinary crash"),
        pytest.param(100, 10, 1, 10, id="a crash, and somebody has edited the table file"),
        pytest.param(101, 1000, 2, 50, id="failed again"),
        pytest.param(100, 10, 5, 10, id="failed again, and somebody has edited the table file"),
        pytest.param(1, 1000, 9, 1, id="one row is the least"),
    ],
)
def test_how_many_rows_the_next_attempt_may_have(rows, max_rows, failures, allowed):
    assert rows_of_next_attempt(rows, max_rows, failures) == allowed


@given(st.integers(0, 10**8), st.timedeltas(timedelta(0), timedelta(days=3)))
def test_the_next_window_takes_half_of_a_tasks_time_at_the_pace_of_the_last(rows, took):
    timeout = timedelta(minutes=10)
    limit = next_row_limit(rows, took, timeout)
    assert limit >= 1
    assert limit == 1 or limit * max(took, timedelta(seconds=1)) <= max(rows, 1) * timeout / 2
    assert next_row_limit(1000, timedelta(minutes=5), timeout) == 1000
