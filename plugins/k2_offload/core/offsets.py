"""Which offsets of a broker's partitions are missing or repeated, and which of that is a finding.

Offsets are whole numbers; ranges of them include both ends. A partition's messages arrive in their
order; after a rebalance some come again. Not every offset is a message: compaction removes some, and the ends of
transactions take one each. So a range that ClickHouse lacks is a gap only if the broker has messages in it; where the
broker holds nothing of it any more, nobody can tell, and where the topic is compacted that is as it should be.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import accumulate, pairwise

OFFSETS_TTL = timedelta(days=7)
"""How long ClickHouse keeps offsets; docker/clickhouse/80_message_offsets.sql says the same."""
_LARGEST_MARGIN = timedelta(days=1)


class OffsetKind(StrEnum):
    """What is wrong with a range of offsets."""

    MISSING = "missing in ClickHouse"
    UNKNOWN = "missing in ClickHouse, and gone from the broker"
    ANEW = (
        "in ClickHouse, and not yet given by the broker: the topic begins anew, or the broker lost its end; what is "
        "missing of it cannot be told"
    )
    NO_PARTITION = "in ClickHouse, and the broker does not know this topic or partition"
    UNCHECKED = "missing in ClickHouse, as far as can be told without the broker"
    REPEATED = "delivered more than once"
    NOT_IN_BRONZE = "missing in bronze"
    NOT_COLD = "missing in Iceberg"

    @property
    def lost(self) -> bool:
        """Whether rows may be missing; a repetition loses nothing."""
        return self is not OffsetKind.REPEATED

    @property
    def there(self) -> bool:
        """Whether ClickHouse has the messages that the finding names."""
        return self in (OffsetKind.REPEATED, OffsetKind.ANEW, OffsetKind.NO_PARTITION)


@dataclass(frozen=True, order=True)
class Partition:
    """A partition of a topic."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}[{self.number}]"


@dataclass(frozen=True, order=True)
class OffsetRange:
    """Offsets from ``first`` to ``last``, both included.

    :raises ValueError: if it is empty
    """

    first: int
    last: int

    def __post_init__(self) -> None:
        if self.first > self.last:
            raise ValueError(f"no offsets from {self.first} to {self.last}")

    def __len__(self) -> int:
        return self.last - self.first + 1

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Delivered:
    """Consecutive offsets that ClickHouse has.

    :param received_at: when the first of their deliveries came that ClickHouse still has
    """

    offsets: OffsetRange
    received_at: datetime


@dataclass(frozen=True)
class BrokerPartition:
    """What the broker holds of a partition.

    :param first: the lowest offset that it keeps
    :param end: the offset that its next message will have
    :param compacted: whether the broker removes messages that a later one replaces
    """

    first: int
    end: int
    compacted: bool = False


@dataclass(frozen=True)
class SeenEnd:
    """What a comparison has kept of a partition.

    :param read_below: ClickHouse has had all lower offsets, or nobody can tell; its TTL forgets that
    :param due_below: what is lower was there at a look before, and was due by then
    :param end: the offset that the broker's next message was to have
    :param at: when it was asked
    """

    read_below: int
    due_below: int
    end: int
    at: datetime

    def holds(self, broker: BrokerPartition, kept_since: datetime) -> bool:
        """Whether it says anything of what is there now: the topic was not made anew, nor the table of offsets."""
        return self.at >= kept_since and self.end <= broker.end


@dataclass(frozen=True)
class OffsetFinding:
    """A range of offsets with which something is wrong."""

    partition: Partition
    offsets: OffsetRange
    kind: OffsetKind

    def __str__(self) -> str:
        return f"{self.partition}: offsets {self.offsets} ({len(self.offsets)}): {self.kind}"


def ranges(offsets: Iterable[int]) -> list[OffsetRange]:
    """The offsets as the fewest ranges, in order."""
    found: list[OffsetRange] = []
    for offset in sorted(set(offsets)):
        if found and found[-1].last == offset - 1:
            found[-1] = OffsetRange(found[-1].first, offset)
        else:
            found.append(OffsetRange(offset, offset))
    return found


def interior_gaps(delivered: Sequence[Delivered]) -> Iterator[OffsetRange]:
    """What lies between offsets that ClickHouse has.

    A gap is left out if all that lies below it came later than something above it: what is below came again, after the
    TTL had removed what it came with first. The gap's two neighbours alone do not tell: they may have been read again.

    :param delivered: of one partition, in the order of the offsets; no two of them touch
    """
    times = [each.received_at for each in delivered]
    first_below = accumulate(times, min)
    first_above = [*accumulate(reversed(times), min)][::-1]
    for (before, after), below, above in zip(pairwise(delivered), first_below, first_above[1:], strict=False):
        if below <= above:
            yield OffsetRange(before.offsets.last + 1, after.offsets.first - 1)


def judge_gap(
    gap: OffsetRange, broker: BrokerPartition | None, held: Iterable[int] = ()
) -> Iterator[tuple[OffsetRange, OffsetKind]]:
    """What of a gap is a finding.

    :param broker: ``None`` if it was not asked
    :param held: offsets within the gap of which the broker has a message
    """
    if broker is None:
        yield gap, OffsetKind.UNCHECKED
        return
    if gap.first < broker.first and not broker.compacted:
        yield OffsetRange(gap.first, min(gap.last, broker.first - 1)), OffsetKind.UNKNOWN
    for missing in ranges(offset for offset in held if max(gap.first, broker.first) <= offset <= gap.last):
        yield missing, OffsetKind.MISSING


def within(gap: OffsetRange, broker: BrokerPartition) -> OffsetRange | None:
    """What of a gap the broker may still hold; ``None`` if nothing."""
    first, last = max(gap.first, broker.first), min(gap.last, broker.end - 1)
    return OffsetRange(first, last) if first <= last else None


def strangers(last: Mapping[Partition, int], known: Mapping[Partition, BrokerPartition]) -> Iterator[OffsetFinding]:
    """Partitions whose offsets in ClickHouse are not the broker's.

    :param last: the highest offset that ClickHouse has, read before the broker was asked
    """
    for partition, offset in sorted(last.items()):
        held = known.get(partition)
        if held is None:
            yield OffsetFinding(partition, OffsetRange(offset, offset), OffsetKind.NO_PARTITION)
        elif offset >= held.end:
            yield OffsetFinding(partition, OffsetRange(held.end, offset), OffsetKind.ANEW)


def looked_at_since(now: datetime, retention: timedelta) -> datetime:
    """What came or happened before may be gone: from bronze, or from the table of offsets.

    :param retention: bronze's
    """
    kept = min(retention, OFFSETS_TTL)
    return now - kept + min(_LARGEST_MARGIN, kept / 7)


def unread(last: int | None, broker: BrokerPartition) -> OffsetRange | None:
    """What the broker holds above the last offset that ClickHouse has; ``None`` if nothing.

    A last offset that the broker has not given yet is for :func:`strangers`.

    :param last: ``None`` if ClickHouse has none
    """
    first = max(broker.first, 0 if last is None else last + 1)
    return OffsetRange(first, broker.end - 1) if first < broker.end else None


def due(
    messages: Mapping[int, datetime], since: datetime, before: datetime, overdue: OffsetRange | None = None
) -> list[int]:
    """Offsets of unread messages that ClickHouse should have by now.

    The time of a message is mostly its producer's, which may be ahead, replay old events, or give none; so what was
    there when the broker was asked before is due whatever its time.

    :param messages: offsets, and the broker's time of each
    :param since: what is older may have gone from ClickHouse, or was read before it kept offsets
    :param before: what is not older is on its way
    :param overdue: of :func:`overdue`
    """
    return sorted(
        offset
        for offset, at in messages.items()
        if since <= at < before or (overdue is not None and overdue.first <= offset <= overdue.last)
    )


def overdue(
    seen: SeenEnd | None, last: int | None, broker: BrokerPartition, kept_since: datetime, before: datetime
) -> OffsetRange | None:
    """What the broker had at an earlier look, and ClickHouse has not had by now; ``None`` if nothing.

    :param last: the highest offset that ClickHouse has; ``None`` if none
    :param kept_since: from then on ClickHouse has the offset of each message; an earlier look says nothing
    :param before: what a younger look saw is on its way
    """
    if seen is None or not seen.holds(broker, kept_since):
        return None
    first = max(broker.first, seen.read_below, 0 if last is None else last + 1)
    end = seen.end if seen.at < before else seen.due_below
    return OffsetRange(first, end - 1) if first < end else None


def see(
    seen: SeenEnd | None,
    last: int | None,
    broker: BrokerPartition,
    kept_since: datetime,
    before: datetime,
    now: datetime,
) -> SeenEnd | None:
    """What to keep of a partition for the next look; ``None`` as long as ClickHouse does not keep all offsets.

    What a first look sees may have been read before ClickHouse kept offsets, but for what lies above its last one.

    :param seen: what was kept so far; it stays until what it saw is due
    """
    if now < kept_since:
        return None
    known = seen if seen is not None and seen.holds(broker, kept_since) else None
    had = last + 1 if last is not None else 0 if known is not None else broker.end
    read_below = min(max(had, known.read_below if known is not None else 0), broker.end)
    if known is None:
        return SeenEnd(read_below, 0, broker.end, now)
    if before <= known.at <= now:
        return SeenEnd(read_below, known.due_below, known.end, known.at)
    return SeenEnd(read_below, known.end if known.at < before else known.due_below, broker.end, now)
