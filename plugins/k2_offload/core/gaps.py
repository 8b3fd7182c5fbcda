"""What a table has missed: rows that the warm tier no longer shows, and that nobody has moved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from k2_offload.core.day_comparison import TTL_MARGIN
from k2_offload.core.skips import covers
from k2_offload.core.windows import Window


class GapKind(StrEnum):
    """How the rows were missed."""

    EXPIRED = "expired"
    """The TTL was faster than the offload."""

    FEWER_ROWS = "fewer rows"
    """The source showed fewer rows than when the window was planned."""

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


def without_filled(gaps: Iterable[Gap], filled: Sequence[Window]) -> tuple[Gap, ...]:
    """Those that are gaps still: what was skipped is none any more once all of it was brought.

    :param filled: see :class:`k2_offload.core.skips.Skips`
    """
    return tuple(gap for gap in gaps if gap.kind is not GapKind.SKIPPED or not covers(filled, gap.window))


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
