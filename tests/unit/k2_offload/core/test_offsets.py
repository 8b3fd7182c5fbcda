"""Laws of gaps in offsets: what was seeded is found, and nothing else."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from k2_offload.core.offsets import (
    OFFSETS_TTL,
    BrokerPartition,
    Delivered,
    OffsetFinding,
    OffsetKind,
    OffsetRange,
    Partition,
    due,
    interior_gaps,
    judge_gap,
    looked_at_since,
    ranges,
    strangers,
    unread,
    within,
)

T0 = datetime(2026, 1, 1, tzinfo=UTC)
ZERO = Partition("t", 0)
SCRIPT = Path(__file__).parents[4] / "docker" / "clickhouse" / "80_message_offsets.sql"
OFFSETS = st.sets(st.integers(0, 60), min_size=1)


def at(seconds: int) -> datetime:
    return T0 + timedelta(seconds=seconds)


def offsets_of(found: list[OffsetRange]) -> list[int]:
    return [offset for each in found for offset in range(each.first, each.last + 1)]


def find(first: dict[int, int]) -> list[OffsetRange]:
    """The gaps of offsets that were delivered first at some seconds."""
    parts = ranges(first)
    seconds = (min(first[offset] for offset in offsets_of([part])) for part in parts)
    return list(interior_gaps([Delivered(part, at(second)) for part, second in zip(parts, seconds, strict=True)]))


def first_kept(deliveries: list[tuple[int, int]], gone_below: int) -> dict[int, int]:
    """When each offset was delivered first, of the deliveries that the TTL has not removed; they are in their order."""
    first: dict[int, int] = {}
    for offset, second in deliveries:
        if second >= gone_below:
            first.setdefault(offset, second)
    return first


@given(OFFSETS)
def test_ranges_hold_each_offset_once_and_do_not_touch(offsets: set[int]) -> None:
    found = ranges(offsets)
    assert offsets_of(found) == sorted(offsets)
    assert all(before.last + 1 < after.first for before, after in pairwise(found))


@given(OFFSETS)
def test_gaps_and_what_came_make_the_whole(offsets: set[int]) -> None:
    gaps = find({offset: offset for offset in offsets})
    assert sorted([*offsets, *offsets_of(gaps)]) == list(range(min(offsets), max(offsets) + 1))


@given(st.integers(1, 60), st.integers(0, 59), st.integers(0, 60))
def test_a_rebalance_and_the_ttl_leave_no_gap(end: int, again_from: int, gone_below: int) -> None:
    """All offsets come in order, some come again, then what came early is removed."""
    deliveries = [(offset, offset) for offset in range(end)]
    deliveries += [(offset, end + offset) for offset in range(min(again_from, end), min(again_from + 5, end))]
    assert find(first_kept(deliveries, gone_below)) == []


SOME = st.sets(st.integers(1, 10))


@given(lost=SOME, again=st.lists(SOME, max_size=3), gone_below=st.just(0) | st.integers(0, 11))
def test_what_is_read_again_hides_no_gap_and_makes_none(lost: set[int], again: list[set[int]], gone_below: int) -> None:
    """Offsets 0 to 11 came, but for some; then some were read again, of the lost ones and of others.

    The TTL has not yet removed the last that came before that.
    """
    deliveries = [(offset, offset) for offset in range(12) if offset not in lost]
    for offsets in again:
        deliveries += [(offset, 100 + len(deliveries)) for offset in sorted(offsets)]
    missing = sorted(lost.difference(*again))
    told = offsets_of(find(first_kept(deliveries, gone_below)))
    assert set(told) <= set(missing), "nothing that came is told"
    if gone_below == 0:
        assert told == missing


def test_a_gap_that_was_read_again_in_part_is_still_told() -> None:
    came = {offset: offset for offset in (*range(100), *range(150, 160))}
    assert find(came | {offset: 1000 + offset for offset in range(104, 111)}) == [
        OffsetRange(100, 103),
        OffsetRange(111, 149),
    ]


def test_what_came_between_two_ranges_that_were_read_again_is_not_missed_after_the_ttl() -> None:
    again = {offset: 1000 + offset for offset in (*range(100, 111), *range(150, 161))}
    assert find(again | {offset: offset for offset in range(200, 300)}) == []


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
    ],
)
def test_what_is_above_the_last_one_is_unread(last: int | None, low: int, end: int, expected: OffsetRange) -> None:
    assert unread(last, BrokerPartition(low, end)) == expected


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({ZERO: BrokerPartition(0, 10)}, None),
        ({ZERO: BrokerPartition(0, 4)}, (OffsetRange(4, 9), OffsetKind.ANEW)),
        ({ZERO: BrokerPartition(0, 9)}, (OffsetRange(9, 9), OffsetKind.ANEW)),
        ({Partition("t", 1): BrokerPartition(0, 10)}, (OffsetRange(9, 9), OffsetKind.NO_PARTITION)),
    ],
)
def test_offsets_that_are_not_the_brokers_are_found(
    known: dict[Partition, BrokerPartition], expected: tuple[OffsetRange, OffsetKind] | None
) -> None:
    found = list(strangers({ZERO: 9}, known))
    assert found == ([OffsetFinding(ZERO, *expected)] if expected else [])
    assert all(each.kind.lost and each.kind.there for each in found)


def test_the_broker_is_asked_only_for_what_it_may_hold() -> None:
    gap = OffsetRange(10, 20)
    assert within(gap, BrokerPartition(0, 50)) == gap
    assert within(gap, BrokerPartition(15, 18)) == OffsetRange(15, 17)
    assert within(gap, BrokerPartition(21, 50)) is within(gap, BrokerPartition(0, 10)) is None


def test_a_gap_across_the_logs_start_is_told_in_both_parts() -> None:
    assert list(judge_gap(OffsetRange(10, 20), BrokerPartition(15, 50), range(15, 21))) == [
        (OffsetRange(10, 14), OffsetKind.UNKNOWN),
        (OffsetRange(15, 20), OffsetKind.MISSING),
    ]


def test_even_a_day_of_retention_is_looked_at() -> None:
    assert looked_at_since(T0, timedelta(days=1)) == T0 - timedelta(days=1) * 6 / 7
    assert looked_at_since(T0, timedelta(days=3)) == T0 - timedelta(days=3) * 6 / 7


@pytest.mark.parametrize("days", [7, 30])
def test_nothing_older_than_the_offsets_is_looked_at(days: int) -> None:
    assert looked_at_since(T0, timedelta(days=days)) == T0 - timedelta(days=6)


def test_offsets_are_kept_as_long_as_the_script_says() -> None:
    [days] = re.findall(r"TTL toDateTime\(received_at\) \+ INTERVAL (\d+) DAY", SCRIPT.read_text())
    assert timedelta(days=int(days)) == OFFSETS_TTL


def test_a_malformed_time_of_kraken_is_not_1970() -> None:
    assert "arrayFilter(time -> time > 0, arrayMap(" in SCRIPT.read_text()


def test_a_message_is_due_from_the_one_time_to_before_the_other() -> None:
    assert due({1: at(0), 2: at(1), 3: at(2), 4: at(3)}, at(1), at(3)) == [2, 3]


def test_only_a_repetition_loses_nothing() -> None:
    assert [kind for kind in OffsetKind if not kind.lost] == [OffsetKind.REPEATED]


def test_a_range_is_not_empty() -> None:
    with pytest.raises(ValueError, match="no offsets from 2 to 1"):
        OffsetRange(2, 1)
