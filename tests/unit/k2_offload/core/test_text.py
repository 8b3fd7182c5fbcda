"""Numbers and times as people read them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.text import show_duration, show_number, show_window

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def test_thousands_are_separated_and_the_unknown_is_a_dash():
    assert [show_number(value) for value in (None, 0, 999, 3_777_490)] == ["\N{EN DASH}", "0", "999", "3,777,490"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-7, "0 s"),
        (-90_000, "0 s"),
        (0, "0 s"),
        (59.4, "59 s"),
        (61, "1 min 01 s"),
        (3600, "1 h 00 min"),
        (90_000, "1 d 01 h"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds, text):
    assert show_duration(timedelta(seconds=seconds)) == text


def test_a_window_names_the_day_of_its_end_only_if_it_is_another():
    assert show_window(NOON, NOON + timedelta(minutes=15)) == "2026-11-21 12:00:00 to 12:15:00"
    assert show_window(NOON, NOON + timedelta(days=1)) == "2026-11-21 12:00:00 to 2026-11-22 12:00:00"
    assert show_window(None, NOON) == "\N{EN DASH}"
