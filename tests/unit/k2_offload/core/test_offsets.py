"""Laws of gaps in offsets: what was seeded is found, and nothing else."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import combinations, pairwise
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from k2_offload.core.offsets import (
    OFFSETS_TTL,
    BrokerPartition,
    Delivered,
    OffsetFinding,
    OffsetKind,
    OffsetRange,
    Partition,
    SeenEnd,
    due,
    interior_gaps,
    judge_gap,
    looked_at_since,
    overdue,
    ranges,
    see,
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


@dataclass
class Reader:
    """A partition, what ClickHouse reads of it, and the looks that are taken; times are minutes.

    :ivar sent: when each message came into the broker
    :ivar position: the next that is read
    :ivar last: the highest that ClickHouse has: none if it was read before offsets were kept, or the TTL has taken it,
        which takes longer than the time between looks
    """

    sent: list[int]
    position: int
    last: int | None = None
    seen: SeenEnd | None = None
    looks: set[tuple[int, int]] = field(default_factory=set)
    told: set[int] = field(default_factory=set)
    first_end: int = 0
    looked_at: int | None = None

    def does(self, what: str, count: int, minute: int) -> None:
        if what == "send":
            self.sent += [minute] * count
        elif what == "read":
            self.position = min(self.position + count, len(self.sent))
            self.last = self.position - 1 if self.position else self.last
        elif what == "forget" and self.looked_at == self.last:
            self.last = None
        elif what == "look":
            self.look(minute)

    def look(self, minute: int) -> None:
        now, before, broker = at(60 * minute), at(60 * (minute - 5)), BrokerPartition(0, len(self.sent))
        found = overdue(self.seen, self.last, broker, T0, before)
        told = set(offsets_of([found]) if found else [])
        assert all(offset >= self.position and self.sent[offset] < minute - 5 for offset in told), "it is on its way"
        assert told >= {offset for offset in self.told if offset >= self.position}, "it was told, and is not read"
        for (first, end), (second, _) in combinations(sorted(self.looks), 2):
            if first + 5 < second < minute - 5:
                assert told >= set(range(max(self.position, self.first_end), end)), "it was there for two looks"
        self.seen = see(self.seen, self.last, broker, T0, before, now)
        self.looks, self.told, self.looked_at = {*self.looks, (minute, len(self.sent))}, told, self.last
        self.first_end = min(self.looks)[1]


steps = st.tuples(
    st.sampled_from(["send", "read", "forget", "look", "look"]), st.integers(1, 3), st.sampled_from([0, 1, 6])
)
LOOKS = [("look", 1, 0), ("send", 1, 0)]
"""Only what comes after the first look is known to be new."""


@given(before=st.integers(0, 5), steps=st.lists(steps, max_size=20))
@example(before=0, steps=[*LOOKS, ("look", 1, 6), ("look", 1, 1)])
@example(before=0, steps=[*LOOKS, ("read", 1, 0), ("look", 1, 1), ("forget", 1, 0), ("look", 1, 6)])
@example(before=0, steps=[*LOOKS, *[("look", 1, 6)] * 3, *[("look", 1, 1)] * 5])
@example(before=0, steps=[*LOOKS, *[("look", 1, 4)] * 6])
def test_what_was_there_before_is_due_and_what_was_read_is_not_whatever_the_producers_clock_says(
    before: int, steps: list[tuple[str, int, int]]
) -> None:
    reader, minute = Reader([0] * before, before), 1
    for what, count, minutes in steps:
        minute += minutes
        reader.does(what, count, minute)
    for _ in range(2):
        minute += 10
        reader.look(minute)


def test_a_look_at_another_topic_or_another_table_of_offsets_says_nothing() -> None:
    seen, broker = SeenEnd(0, 5, 9, at(0)), BrokerPartition(0, 12)
    assert overdue(seen, None, broker, at(0), at(1)) == OffsetRange(0, 8)
    assert overdue(seen, None, broker, at(0), at(0)) == OffsetRange(0, 4), "the rest is on its way"
    assert overdue(seen, 6, broker, at(0), at(1)) == OffsetRange(7, 8)
    assert overdue(seen, 8, broker, at(0), at(1)) is None
    assert overdue(seen, None, BrokerPartition(4, 12), at(0), at(1)) == OffsetRange(4, 8)
    assert overdue(seen, None, BrokerPartition(0, 8), at(0), at(1)) is None, "it was made anew"
    assert overdue(seen, None, broker, at(1), at(2)) is None, "what was read before was not kept"
    assert see(seen, None, broker, at(1), at(1), at(2)) == SeenEnd(12, 0, 12, at(2))
    assert see(seen, None, broker, at(3), at(1), at(2)) is None, "not all is kept yet"
    assert see(None, 20, broker, at(0), at(1), at(2)) == SeenEnd(12, 0, 12, at(2)), "the topic was made anew"
    assert see(seen, None, broker, at(-9), at(-2), at(-1)) == SeenEnd(0, 5, 12, at(-1)), "a clock went back"


def test_a_message_that_was_there_before_is_due_at_any_time() -> None:
    """A clock that is ahead, an old event, no time at all."""
    sent = {1: at(10**6), 2: at(-(10**7)), 3: datetime.fromtimestamp(-0.001, UTC), 4: at(10**6)}
    assert due(sent, at(0), at(9)) == []
    assert due(sent, at(0), at(9), OffsetRange(0, 3)) == [1, 2, 3]
