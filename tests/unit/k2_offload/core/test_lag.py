"""Lag is time that is in the warm tier only."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.lag import lag
from k2_offload.core.windows import TICK

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


@given(times, times)
def test_there_is_lag_exactly_while_the_newest_row_is_not_below_the_watermark(watermark, newest_row):
    behind = lag(watermark, newest_row)
    assert behind >= timedelta(0)
    assert (behind > timedelta(0)) == (newest_row >= watermark)
    assert lag(watermark + behind, newest_row) == timedelta(0)


def test_an_empty_source_is_no_lag():
    assert lag(NOON, None) == lag(None, None) == timedelta(0)


def test_rows_that_have_never_been_moved_have_no_lag_that_a_number_could_say():
    assert lag(None, NOON) is None


def test_the_newest_row_itself_counts():
    assert lag(NOON, NOON + timedelta(seconds=5)) == timedelta(seconds=5) + TICK
