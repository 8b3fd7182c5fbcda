"""Windows: which part of a source table one run moves.

A window is half-open, ``[low, high)``, on the timestamp column alone, so rows with equal timestamps never
straddle a boundary. All times are aware UTC datetimes; one tick is one microsecond, the finest time Iceberg keeps.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

TICK = timedelta(microseconds=1)
HELD_BACK_AFTER = timedelta(minutes=20)
"""What has to wait longer than from one cycle to the end of the next is held back."""


def to_micros(time: datetime) -> int:
    """Microseconds since 1970-01-01 UTC, exact (no float on the way)."""
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // TICK


def from_micros(micros: int) -> datetime:
    """The UTC time that many microseconds after 1970-01-01."""
    return datetime(1970, 1, 1, tzinfo=UTC) + micros * TICK


@dataclass(frozen=True, order=True)
class Window:
    """The half-open time range ``[low, high)`` of one table; never empty.

    :raises ValueError: unless ``low < high`` and both are aware
    """

    low: datetime
    high: datetime

    def __post_init__(self) -> None:
        if self.low.tzinfo is None or self.high.tzinfo is None:
            raise ValueError(f"window bounds need a time zone: {self}")
        if not self.low < self.high:
            raise ValueError(f"a window cannot be empty: {self}")

    def __str__(self) -> str:
        return f"[{format_time(self.low)}, {format_time(self.high)})"


@dataclass(frozen=True)
class Upstream:
    """What a layer above must know of one table it is made of.

    :param watermark: everything below it is in the cold table
    :param last_row: timestamp of the newest row in the source, ``None`` while it is empty
    """

    table: str
    watermark: datetime
    last_row: datetime | None


def format_time(time: datetime) -> str:
    """ISO 8601 with microseconds and ``Z``; sorts as text and parses back with :func:`parse_time`."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


_FORMATTED = re.compile(r"\d{4}-\d\d-\d\dT([01]\d|2[0-3]):\d\d:\d\d\.\d{6}Z", re.ASCII)


def parse_time(text: str) -> datetime:
    """The inverse of :func:`format_time`.

    :raises ValueError: if the text is not in that form
    """
    if not _FORMATTED.fullmatch(text):
        raise ValueError(f"'{text}' is no time as it is written here, such as 2026-03-01T12:00:00.000000Z")
    return datetime.fromisoformat(text)  # several times as fast as strptime: a chain has thousands of them


def parse_window(text: str) -> Window:
    """The inverse of a window's text.

    :raises ValueError: if it is none
    """
    if not (text.startswith("[") and text.endswith(")")):
        raise ValueError(f"'{text}' is no window as it is written here")
    low, _, high = text[1:-1].partition(", ")
    return Window(parse_time(low), parse_time(high))


_INSTANT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)


def parse_instant(text: str) -> datetime:
    """A time that a person has written; one without a zone is UTC, as everywhere here.

    :raises ValueError: if it is no time
    """
    try:
        if not _INSTANT.fullmatch(text):
            raise ValueError
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError(
            f"'{text}' is no time in ISO 8601 to the microsecond, such as 2026-03-01 or 2026-03-01T12:00:00Z (UTC)"
        ) from None


def upstream_limit(upstreams: Sequence[Upstream], now: datetime, idle_after: timedelta) -> Upstream | None:
    """The table whose watermark a layer must not pass: the lowest among the tables it is made of.

    A table whose newest row is older than ``idle_after`` no longer holds the layers above back, once all it has is
    in the cold table; what it delivers later counts as late rows. A table that has not moved what it holds still does.

    :returns: ``None`` when nothing limits (no upstream, or all are idle and fully moved)
    """
    limits = []
    for upstream in upstreams:
        if upstream.last_row is None:
            continue
        moved = upstream.watermark > upstream.last_row
        if moved and now - upstream.last_row > idle_after:
            continue
        limits.append(upstream)
    return min(limits, key=lambda upstream: upstream.watermark, default=None)


def held_back_by(limit: Upstream | None, high: datetime | None) -> Upstream | None:
    """The table that keeps a layer from what it would have moved by now, if there is one.

    :param limit: see :func:`upstream_limit`
    :param high: where the next window would end without it, see :func:`window_high`
    """
    if limit is None or high is None or high - limit.watermark <= HELD_BACK_AFTER:
        return None
    return limit


def window_high(
    *,
    now: datetime,
    buffer: timedelta,
    last_row: datetime | None,
    out_of_order: timedelta,
    idle_after: timedelta,
    limit: datetime | None,
) -> datetime | None:
    """Where the next window may end: ``min(now - buffer, edge of the data, upstream limit)``.

    The buffer leaves rows still in flight alone. The edge of the data does so when the feed stalls: what it delivers
    afterwards has old timestamps, from ``out_of_order`` before the last row on. Once the source has been silent for
    longer than ``idle_after``, the edge is right after the last row: a quiet market is moved to the end.

    :returns: the exclusive upper bound, or ``None`` when the source is empty
    """
    if last_row is None:
        return None
    edge = last_row + TICK if now - last_row > idle_after else last_row - out_of_order
    high = min(now - buffer, edge)
    return high if limit is None else min(high, limit)
