"""Laws of the window arithmetic."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.windows import (
    TICK,
    Upstream,
    Window,
    format_time,
    from_micros,
    held_back_by,
    parse_time,
    to_micros,
    upstream_limit,
    window_high,
)

times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
IDLE = timedelta(minutes=30)
BUFFER = timedelta(minutes=5)


@given(times)
def test_times_survive_text_and_micros(time):
    assert parse_time(format_time(time)) == time
    assert from_micros(to_micros(time)) == time


@given(times, times)
def test_formatted_times_sort_as_text(one, other):
    assert (one < other) == (format_time(one) < format_time(other))


def test_an_empty_window_is_refused():
    with pytest.raises(ValueError, match="empty"):
        Window(NOW, NOW)


def test_a_naive_bound_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        Window(datetime(2026, 1, 1), NOW)


MARGINS = {"buffer": BUFFER, "out_of_order": timedelta(seconds=10), "idle_after": timedelta(minutes=30)}
durations = st.timedeltas(timedelta(0), timedelta(days=1))


@given(times, times, st.none() | times, durations, durations, durations)
def test_a_window_passes_neither_the_buffer_nor_the_last_row_nor_the_layer_below(
    now, last_row, limit, buffer, out_of_order, idle_after
):
    high = window_high(
        now=now, last_row=last_row, limit=limit, buffer=buffer, out_of_order=out_of_order, idle_after=idle_after
    )
    edge = last_row + TICK if now - last_row > idle_after else last_row - out_of_order
    assert high == min(time for time in (now - buffer, edge, limit) if time is not None)


@pytest.mark.parametrize(
    ("silent_minutes", "edge"),
    [
        pytest.param(20, timedelta(seconds=-10), id="stalled: rows slightly older than the last may follow it"),
        pytest.param(60, TICK, id="quiet: the last row is inside"),
    ],
)
def test_the_last_row_of_a_silent_source(silent_minutes, edge):
    last_row = NOW - timedelta(minutes=silent_minutes)
    assert window_high(now=NOW, last_row=last_row, limit=None, **MARGINS) == last_row + edge


def test_an_empty_source_has_no_window():
    assert window_high(now=NOW, last_row=None, limit=None, **MARGINS) is None


@pytest.mark.parametrize(
    ("watermark_ago", "last_row_ago", "holds_back"),
    [
        pytest.param(10, 1, True, id="live: its watermark is the limit"),
        pytest.param(59, 60, False, id="idle and all moved: holds nothing back"),
        pytest.param(61, 60, True, id="idle, but its last row has not been moved"),
        pytest.param(19, 20, True, id="silent, but not for long enough"),
    ],
)
def test_which_upstream_holds_a_layer_back(watermark_ago, last_row_ago, holds_back):
    watermark = NOW - timedelta(minutes=watermark_ago)
    upstream = Upstream("u", watermark, NOW - timedelta(minutes=last_row_ago))
    assert upstream_limit([upstream], NOW, IDLE) == (upstream if holds_back else None)


def test_the_slowest_upstream_is_the_limit_and_an_empty_one_is_none():
    live = Upstream("live", NOW - timedelta(minutes=6), NOW)
    slow = Upstream("slow", NOW - timedelta(minutes=40), NOW - timedelta(minutes=1))
    empty = Upstream("empty", datetime(2000, 1, 1, tzinfo=UTC), None)
    assert upstream_limit([live, slow, empty], NOW, IDLE) == slow
    assert upstream_limit([], NOW, IDLE) is None


@pytest.mark.parametrize(
    ("limit_ago", "could_ago", "held"),
    [
        pytest.param(60, 5, True, id="an hour behind"),
        pytest.param(21, 5, False, id="between two cycles"),
        pytest.param(60, 50, False, id="and there is hardly more to move"),
        pytest.param(None, 5, False, id="nothing limits"),
        pytest.param(60, None, False, id="nothing to move"),
    ],
)
def test_held_back_is_what_waits_longer_than_a_cycle(limit_ago, could_ago, held):
    limit = None if limit_ago is None else Upstream("slow", NOW - timedelta(minutes=limit_ago), NOW)
    high = None if could_ago is None else NOW - timedelta(minutes=could_ago)
    assert held_back_by(limit, high) == (limit if held else None)
