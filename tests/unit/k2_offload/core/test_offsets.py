"""Laws of gaps in offsets: what was seeded is found, and nothing else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.offsets import (
    BrokerPartition,
    Delivered,
    OffsetKind,
    OffsetRange,
    due,
    interior_gaps,
    judge_gap,
    ranges,
    unread,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
OFFSETS = st.sets(st.integers(0, 60), min_size=1)


def at(seconds: int) -> datetime:
    return T0 + timedelta(seconds=seconds)


def offsets_of(found: list[OffsetRange]) -> list[int]:
    return [offset for each in found for offset in range(each.first, each.last + 1)]


def find(delivered: list[Delivered]) -> list[OffsetRange]:
    return list(interior_gaps(pairwise(delivered)))


@given(OFFSETS)
def test_ranges_hold_each_offset_once_and_do_not_touch(offsets: set[int]) -> None:
    found = ranges(offsets)
    assert offsets_of(found) == sorted(offsets)
    assert all(before.last + 1 < after.first for before, after in pairwise(found))


@given(OFFSETS)
def test_gaps_and_what_came_make_the_whole(offsets: set[int]) -> None:
    gaps = find([Delivered(offset, at(offset)) for offset in sorted(offsets)])
    assert sorted([*offsets, *offsets_of(gaps)]) == list(range(min(offsets), max(offsets) + 1))


@given(st.integers(1, 60), st.integers(0, 59), st.integers(0, 60))
def test_a_rebalance_and_the_ttl_leave_no_gap(end: int, again_from: int, gone_below: int) -> None:
    """All offsets come in order, some come again, then what came early is removed."""
    deliveries = [(offset, offset) for offset in range(end)]
    deliveries += [(offset, end + offset) for offset in range(min(again_from, end), min(again_from + 5, end))]
    first: dict[int, int] = {}
    for offset, second in deliveries:
        if second >= gone_below:
            first.setdefault(offset, second)
    assert find([Delivered(offset, at(second)) for offset, second in sorted(first.items())]) == []


@given(OFFSETS, st.integers(0, 60), st.integers(0, 60))
def test_what_the_broker_has_is_missing(held: set[int], low: int, first: int) -> None:
    held = {offset for offset in held if offset >= low}
    gap = OffsetRange(first, first + 20)
    for compacted in (False, True):
        found = list(judge_gap(gap, BrokerPartition(low, 61, compacted), held))
        missing = offsets_of([each for each, kind in found if kind is OffsetKind.MISSING])
        unknown = offsets_of([each for each, kind in found if kind is OffsetKind.UNKNOWN])
        assert missing == sorted(offset for offset in held if gap.first <= offset <= gap.last)
        assert unknown == ([] if compacted else list(range(gap.first, min(gap.last + 1, low))))


def test_without_the_broker_a_gap_is_told_as_one_that_was_not_checked() -> None:
    assert list(judge_gap(OffsetRange(3, 4), None)) == [(OffsetRange(3, 4), OffsetKind.UNCHECKED)]


@pytest.mark.parametrize(
    ("last", "low", "end", "expected"),
    [
        (4, 0, 5, None),
        (4, 0, 7, OffsetRange(5, 6)),
        (None, 2, 4, OffsetRange(2, 3)),
        (None, 0, 0, None),
        (9, 0, 4, None),
    ],
)
def test_what_is_above_the_last_one_is_unread(last: int | None, low: int, end: int, expected: OffsetRange) -> None:
    assert unread(last, BrokerPartition(low, end)) == expected


def test_a_message_is_due_from_the_one_time_to_before_the_other() -> None:
    assert due({1: at(0), 2: at(1), 3: at(2), 4: at(3)}, at(1), at(3)) == [2, 3]


def test_only_a_repetition_loses_nothing() -> None:
    assert [kind for kind in OffsetKind if not kind.lost] == [OffsetKind.REPEATED]


def test_a_range_is_not_empty() -> None:
    with pytest.raises(ValueError, match="no offsets from 2 to 1"):
        OffsetRange(2, 1)
