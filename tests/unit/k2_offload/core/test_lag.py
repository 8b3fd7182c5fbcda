"""Lag is the age of what waits; a source that has fallen silent says so instead of having none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.lag import LAG_TARGET, USUAL_BUFFER, Silence, lag, lag_target, silence
from k2_offload.core.tables import TableOptions
from k2_offload.core.windows import TICK

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
IDLE = timedelta(minutes=30)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
durations = st.timedeltas(timedelta(0), timedelta(days=900))


@given(times, durations)
def test_a_row_that_waits_grows_older_with_the_clock_whether_others_follow_it_or_not(oldest_waiting, waited):
    assert lag(oldest_waiting, oldest_waiting + waited) == waited


def test_nothing_that_waits_is_no_lag_and_a_clock_that_is_behind_makes_none_below_zero():
    assert lag(None, NOON) == lag(NOON + IDLE, NOON) == timedelta(0)


def test_a_longer_buffer_makes_the_target_later_and_a_shorter_one_not_earlier():
    assert timedelta(seconds=TableOptions().buffer_seconds) == USUAL_BUFFER
    assert lag_target(USUAL_BUFFER) == lag_target(timedelta(0)) == LAG_TARGET
    assert lag_target(timedelta(hours=1)) == LAG_TARGET + timedelta(minutes=55)


@given(times, durations)
def test_a_source_is_silent_once_its_newest_row_is_older_than_it_may_be(newest_row, age):
    found = silence(newest_row, None, newest_row + age, IDLE)
    assert (found is not None) == (age > IDLE)
    assert found in (None, Silence(newest_row))


def test_a_source_that_the_ttl_has_emptied_is_silent_since_the_last_row_that_was_moved():
    assert silence(None, NOON + TICK, NOON + IDLE + TICK, IDLE) == Silence(NOON)
    assert silence(None, NOON + TICK, NOON + IDLE, IDLE) is None


def test_a_source_that_never_sent_anything_has_been_silent_for_longer_than_any_limit():
    found = silence(None, None, NOON, IDLE)
    assert found == Silence(None)
    assert found.longer_than(timedelta(days=10_000), NOON)
