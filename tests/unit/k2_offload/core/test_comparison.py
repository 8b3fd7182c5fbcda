"""What is compared, and when it is equal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from k2_offload.core.comparison import TTL_MARGIN, Comparison, window_to_compare
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.windows import Window

DAY = timedelta(days=1)
times = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))
retentions = st.integers(1, 30).map(timedelta)
WINDOW = Window(datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=UTC))


@given(times, retentions, times)
def test_no_compared_row_is_near_its_end_and_no_whole_day_is_left_out(watermark, retention, now):
    window = window_to_compare(watermark, retention, now)
    assume(window is not None)
    assert window.high == watermark
    assert window.low.time() == datetime.min.time()
    assert window.low + retention - now >= TTL_MARGIN
    assert window.low - DAY + retention - now < TTL_MARGIN


@given(retentions, times)
def test_there_is_nothing_to_compare_before_the_first_window_or_after_the_ttl_took_all(retention, now):
    assert window_to_compare(FIRST_WATERMARK, retention, now) is None
    assert window_to_compare(now - retention, retention, now) is None


def test_rows_of_one_midnight_are_compared_until_the_margin_before_their_end():
    midnight = datetime(2026, 11, 14, tzinfo=UTC)
    at_the_margin = midnight + 7 * DAY - TTL_MARGIN
    watermark = midnight + 3 * DAY
    assert window_to_compare(watermark, 7 * DAY, at_the_margin) == Window(midnight, watermark)
    just_after = at_the_margin + timedelta(microseconds=1)
    assert window_to_compare(watermark, 7 * DAY, just_after) == Window(midnight + DAY, watermark)


@pytest.mark.parametrize(
    ("cold", "equal"), [((3, 7), True), ((3, 8), False), ((4, 7), False)], ids=["same", "changed", "more"]
)
def test_count_and_hash_must_both_agree(cold, equal):
    assert Comparison("t", WINDOW, 3, cold[0], 7, cold[1]).equal is equal


def test_what_could_not_be_compared_is_not_equal():
    assert Comparison("t", None).equal
    assert not Comparison("t", None, problem="the source is gone").equal
