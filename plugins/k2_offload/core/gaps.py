"""What a table has missed: rows that the warm tier no longer shows, and that nobody has moved."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from k2_offload.core.day_comparison import TTL_MARGIN
from k2_offload.core.skips import GivenUp, Skips, covers, intersect, merge, subtract
from k2_offload.core.windows import Window


class GapKind(StrEnum):
    """How the rows were missed."""

    EXPIRED = "expired"
    """The TTL was faster than the offload."""

    FEWER_ROWS = "fewer rows"
    """The source showed fewer rows than when the window was planned, or skipped; or rows that were skipped were given
    up."""

    SKIPPED = "skipped"
    """A person let the table go on at a later time."""


@dataclass(frozen=True)
class Gap:
    """A range on the table's timestamp column in which rows may be missing from the cold tier.

    :param rows: how many; ``None`` where nobody can know
    """

    window: Window
    kind: GapKind
    rows: int | None
    accepted_at: datetime


def count_missed(gaps: Iterable[Gap]) -> int:
    """In how many of them rows are missing, or may be."""
    return sum(gap.rows != 0 for gap in gaps)


def on_record(gaps: Sequence[Gap], skips: Skips) -> tuple[Gap, ...]:
    """Those that are gaps in a cold table as it is now.

    Of what was skipped, the table's chain of snapshots says whether it is. Whatever of that is not in the chain was
    undone: main was rolled back below it, or the table begun anew; or it was given up, and has a record of its own
    (:func:`find_given_up`). What was brought is no gap any more, unless fewer rows came than were skipped: then the
    rest is one.

    :param gaps: all that the ledger has of the table, the oldest record last among those that overlap
    :param skips: of the chain
    """
    skipped = _skipped(gaps, skips)
    standing = [gap for gap in skipped if intersect(skips.left_out, gap.window)]
    for short, accepted_at in _brought_short(skipped, skips):
        standing.append(Gap(short.window, GapKind.FEWER_ROWS, (short.rows or 0) - short.found, accepted_at))
    others = (gap for gap in gaps if gap.kind is not GapKind.SKIPPED)
    return tuple(sorted((*others, *standing), key=lambda gap: gap.window))


def not_looked_for(gaps: Iterable[Gap], skips: Skips) -> tuple[Window, ...]:
    """Where the cold table may lack rows that it is known to lack, as narrow as that is known.

    A range that was skipped, and brought with fewer rows, is none of them: it is long, and few of its rows are missing.

    :param gaps: all that the ledger has of the table
    :param skips: of the cold table's chain
    """
    return merge([*skips.left_out, *(gap.window for gap in gaps if gap.kind is not GapKind.SKIPPED)])


@dataclass(frozen=True)
class Shortage:
    """A range that was skipped, of which fewer rows can be brought than were left out.

    :param rows: how many were left out; ``None`` where the ledger does not say, and no row is there
    :param found: how many were brought, or are still to bring
    """

    window: Window
    rows: int | None
    found: int


def find_brought_short(gaps: Iterable[Gap], skips: Skips, window: Window) -> list[Shortage]:
    """What was skipped, and brought as a whole with fewer rows: that is over, whatever is still left out beside it.

    :param gaps: all that the ledger has of the table
    :param skips: of the cold table's chain
    :param window: look at what was skipped together with this range
    """
    short = (each for each, _ in _brought_short(_skipped(gaps, skips), skips))
    return [each for each in short if intersect([each.window], window)]


def _brought_short(skipped: Sequence[Gap], skips: Skips) -> Iterator[tuple[Shortage, datetime]]:
    """Each with the time of its record; what touches was brought together."""
    for filled in skips.filled:
        brought = [gap for gap in skipped if covers([filled], gap.window)]
        if (rows := sum(gap.rows or 0 for gap in brought)) > filled.rows:
            window = Window(brought[0].window.low, brought[-1].window.high)
            yield Shortage(window, rows, filled.rows), brought[-1].accepted_at


def find_given_up(gaps: Sequence[Gap], before: Skips, after: Skips, dropped: Sequence[Window]) -> tuple[GivenUp, ...]:
    """What would be on record no longer once a chain says something else of what was skipped, though no row came.

    :param gaps: all that the ledger has of the table
    :param before: what the chain says
    :param after: what it will say
    :param dropped: of what is left out before, what is not left out after, and moved by no window
    """
    skipped, found = _skipped(gaps, before), []
    for gap in skipped:
        parts = [part for each in merge(dropped) for part in intersect([each], gap.window)]
        if parts and gap.rows != 0:
            brought = sum(each.rows for each in before.filled if covers([gap.window], each))
            is_all = not subtract(intersect(before.left_out, gap.window), parts)
            crossing = (each for each in before.filled if not covers([gap.window], each))
            is_known = is_all and not any(intersect([each], gap.window) for each in crossing)
            rows = (gap.rows or 0) - brought if is_known else 0
            found.append(GivenUp(parts[0].low, parts[-1].high, rows if rows > 0 else None))
    found += [GivenUp(each.low, each.high, None) for each in subtract(dropped, [gap.window for gap in skipped])]
    still = [short for short, _ in _brought_short(_skipped(gaps, after), after)]
    short = (each for each, _ in _brought_short(skipped, before) if each not in still)
    found += [GivenUp(each.window.low, each.window.high, (each.rows or 0) - each.found) for each in short]
    return tuple(sorted(found, key=lambda each: (each.low, each.high)))


def count_anew(
    gaps: Sequence[Gap], window: Window, count: Callable[[Window], int]
) -> tuple[tuple[Window, ...], tuple[GivenUp, ...]]:
    """What is missing of all that was ever skipped, by the rows of a cold table of which no snapshot says it.

    :param gaps: all that the ledger has of the table
    :param window: what the table is taken to hold; whatever lies above it is moved by the next windows
    :param count: how many rows the table has in a range
    :returns: ranges of which it holds no row, which are left out; and those of which it holds some, and not all
    """
    left_out, given_up = [], []
    skipped = [gap.window for gap in gaps if gap.kind is GapKind.SKIPPED]
    for gap in _skipped(gaps, Skips(merge(skipped))):
        for part in intersect([gap.window], window):
            if not (rows := count(part)):
                left_out.append(part)
            elif part != gap.window:
                given_up.append(GivenUp(part.low, part.high, None))
            elif (missing := (gap.rows or 0) - rows) > 0:
                given_up.append(GivenUp(part.low, part.high, missing))
    return merge(left_out), tuple(given_up)


def find_shortages(
    gaps: Iterable[Gap], skips: Skips, of: Sequence[Window], count: Callable[[Window], int]
) -> list[Shortage]:
    """Where the source does not show all that was skipped.

    :param gaps: all that the ledger has of the table
    :param skips: of the cold table's chain
    :param of: look at what was skipped together with these ranges
    :param count: how many rows the source has in a range
    """
    skipped, found = _skipped(gaps, skips), []
    for whole in skips.all:
        if not any(intersect([whole], each) for each in of):
            continue
        rows = sum(each.rows for each in skips.filled if covers([whole], each))
        rows += sum(count(each) for each in intersect(skips.left_out, whole))
        left_out = [gap.rows or 0 for gap in skipped if covers([whole], gap.window)]
        if rows < sum(left_out) or (not left_out and not rows):
            found.append(Shortage(whole, sum(left_out) if left_out else None, rows))
    return found


def _skipped(gaps: Iterable[Gap], skips: Skips) -> list[Gap]:
    """What the chain has skipped, as the ledger has it on record, in its order."""
    skipped: list[Gap] = []
    for gap in sorted(gaps, key=lambda each: each.accepted_at, reverse=True):
        of_chain = gap.kind is GapKind.SKIPPED and covers(skips.all, gap.window)
        # Of two that overlap, the later one was skipped again after the other had been undone.
        if of_chain and not any(intersect([other.window], gap.window) for other in skipped):
            skipped.append(gap)
    return sorted(skipped, key=lambda each: each.window)


@dataclass(frozen=True)
class Looked:
    """What is known of rows that may have expired before they were moved.

    :param looked_at: when the source was last seen to hold no row that was not moved; ``None`` if never
    :param cleared_until: below it, no row waits to be moved: none was there at the last look, or a person has accepted
        that they are gone; ``None`` if that is not known
    """

    looked_at: datetime | None = None
    cleared_until: datetime | None = None


def may_have_expired(watermark: datetime, looked: Looked, now: datetime, retention: timedelta) -> Window | None:
    """The range that the TTL may have taken before it was moved.

    Everything below the watermark is in the cold tier. A source that was seen to hold nothing above it, within half of
    the retention, has lost nothing, however long its market has been silent: a row that came since is younger than the
    other half.

    :param retention: how long the source keeps a row
    :returns: ``[start, now - retention + TTL_MARGIN)``, for clocks differ; ``None`` if that is empty
    """
    if looked.looked_at is not None and looked.looked_at >= now - retention / 2:
        return None
    start = watermark if looked.cleared_until is None else max(watermark, looked.cleared_until)
    end = now - retention + TTL_MARGIN
    return Window(start, end) if start < end else None


def first_contact(now: datetime, retention: timedelta) -> Looked:
    """What is known when a table's first window opens: what has expired by then, or does soon, is nobody's loss."""
    return Looked(cleared_until=soon_expired(now, retention))


def soon_expired(now: datetime, retention: timedelta) -> datetime:
    """What is older has expired, or does within an eighth of the retention.

    That much is given up, on record where it is a loss: rows go on expiring until those that are left have been moved.
    """
    return now - retention + TTL_MARGIN + retention / 8
