"""A late row is one that the warm tier holds below the watermark and the cold tier does not."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.late_rows import late_rows

FIRST = date(2026, 11, 15)
days = st.integers(-3, 6).map(lambda number: FIRST + timedelta(days=number))
counts = st.dictionaries(days, st.integers(0, 1000))


@given(counts, counts)
def test_each_whole_day_counts_for_itself(warm, cold):
    late = late_rows(warm, cold, FIRST)
    for day in {*warm, *cold}:
        expected = max(0, warm.get(day, 0) - cold.get(day, 0)) if day >= FIRST else 0
        assert late.get(day, 0) == expected
    assert 0 not in late.values()


@given(counts, counts, days, st.integers(1, 100))
def test_rows_that_the_ttl_removes_never_make_a_row_late(warm, cold, day, expired):
    before = late_rows(warm, cold, FIRST)
    after = late_rows(warm | {day: max(0, warm.get(day, 0) - expired)}, cold, FIRST)
    assert sum(after.values()) <= sum(before.values())


@given(counts, days, st.integers(1, 100))
def test_a_row_that_arrives_below_the_watermark_counts_as_long_as_its_day_is_whole(rows, day, arrived):
    late = late_rows(rows | {day: rows.get(day, 0) + arrived}, rows, FIRST)
    assert late == ({day: arrived} if day >= FIRST else {})


@given(counts)
def test_rows_that_are_in_both_tiers_are_not_late(rows):
    assert late_rows(rows, rows, FIRST) == {}


def test_the_days_come_in_their_order():
    warm = {FIRST + timedelta(days=number): 1 for number in (3, 0, 2)}
    assert list(late_rows(warm, {}, FIRST)) == sorted(warm)
