"""What the TTL may have taken before it was moved."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.day_comparison import TTL_MARGIN
from k2_offload.core.gaps import Gap, GapKind, Looked, may_have_expired, without_filled
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


@pytest.mark.parametrize(
    ("kind", "filled_until", "left"),
    [
        (GapKind.SKIPPED, NOW, False),
        (GapKind.SKIPPED, NOW - timedelta(hours=1), True),
        (GapKind.EXPIRED, NOW, True),
    ],
)
def test_what_was_skipped_is_a_gap_until_all_of_it_was_brought(kind, filled_until, left):
    gap = Gap(Window(NOW - DAY, NOW), kind, 5, NOW)
    assert without_filled([gap], [Window(NOW - WEEK, filled_until)]) == ((gap,) if left else ())
