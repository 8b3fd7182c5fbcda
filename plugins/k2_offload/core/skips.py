"""What a chain of windows has left out on purpose, and what of that was brought later: sets of half-open ranges."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from k2_offload.core.windows import Window, format_time, parse_time

LEFT_OUT_PROPERTY = "k2.left-out"
"""Snapshot summary key: the ranges below the watermark of which the table holds no row, because they were skipped."""

FILLED_PROPERTY = "k2.filled"
"""Snapshot summary key: the ranges that were skipped, and brought later, with the rows that came."""


GIVEN_UP_PROPERTY = "k2.given-up"
"""Snapshot summary key of a window without rows that a person has published: what of those ranges its snapshot does not
pass on, with the rows that are missing, see :class:`GivenUp`."""


@dataclass(frozen=True, order=True)
class Filled(Window):
    """A range that was brought.

    :param rows: how many came with it; late ones that were healed into it are not among them
    """

    rows: int


@dataclass(frozen=True, order=True)
class GivenUp(Window):
    """A range of which rows were skipped that cannot be brought any more, though ClickHouse may have them.

    :param rows: how many; ``None`` where nobody knows
    """

    rows: int | None

    @staticmethod
    def write(ranges: Iterable[GivenUp]) -> dict[str, str]:
        """Key and value as they stand in a snapshot's summary; nothing if there are none."""
        return {GIVEN_UP_PROPERTY: text} if (text := _format(ranges)) else {}

    @staticmethod
    def read(summary: Mapping[str, str]) -> tuple[GivenUp, ...]:
        """The inverse of :meth:`write`; none where the summary does not say."""
        try:
            return tuple(GivenUp(low, high, rows) for low, high, rows in _parse(summary.get(GIVEN_UP_PROPERTY) or ""))
        except (ValueError, TypeError):  # not ours
            return ()


def merge(ranges: Iterable[Window]) -> tuple[Window, ...]:
    """The same times in as few ranges as possible, in their order."""
    merged: list[Window] = []
    for each in sorted(ranges, key=_bounds):
        if merged and each.low <= merged[-1].high:
            merged[-1] = Window(merged[-1].low, max(merged[-1].high, each.high))
        else:
            merged.append(Window(each.low, each.high))
    return tuple(merged)


def _bounds(window: Window) -> tuple[datetime, datetime]:
    return window.low, window.high


def subtract(ranges: Iterable[Window], taken: Iterable[Window]) -> tuple[Window, ...]:
    """The times of the first that are not of the second."""
    left = list(merge(ranges))
    for away in merge(taken):
        left = [part for each in left for part in _without(each, away)]
    return tuple(left)


def intersect(ranges: Iterable[Window], window: Window) -> tuple[Window, ...]:
    """The times of ranges that lie in a window."""
    clipped = ((max(each.low, window.low), min(each.high, window.high)) for each in merge(ranges))
    return tuple(Window(low, high) for low, high in clipped if low < high)


def covers(ranges: Iterable[Window], window: Window) -> bool:
    """Whether all times of a window are of the ranges."""
    return any(each.low <= window.low and window.high <= each.high for each in merge(ranges))


def _without(window: Window, away: Window) -> Iterable[Window]:
    if window.low < (high := min(window.high, away.low)):
        yield Window(window.low, high)
    if (low := max(window.low, away.high)) < window.high:
        yield Window(low, window.high)


@dataclass(frozen=True)
class Skips:
    """What a snapshot says of the ranges that were skipped before it; both are merged, and share no time.

    :param left_out: the table holds no row of them
    :param filled: what was brought since
    """

    left_out: tuple[Window, ...] = ()
    filled: tuple[Filled, ...] = ()

    @property
    def all(self) -> tuple[Window, ...]:
        """Whatever was skipped, brought since or not."""
        return merge([*self.left_out, *self.filled])

    def skipping(self, window: Window) -> Skips:
        """After a window without rows that a person has published."""
        return Skips(merge([*self.left_out, window]), self.filled)

    def filling(self, window: Window, rows: int) -> Skips:
        """After the rows of a range have been brought, so many."""
        parts = [*self.filled, Filled(window.low, window.high, rows)]
        filled = (
            Filled(whole.low, whole.high, sum(part.rows for part in parts if covers([whole], part)))
            for whole in merge(parts)
        )
        return Skips(subtract(self.left_out, [window]), tuple(filled))

    @property
    def summary(self) -> dict[str, str]:
        """Keys and values as they stand in a snapshot's summary; empty ones too, for they end the search."""
        return {LEFT_OUT_PROPERTY: _format(self.left_out), FILLED_PROPERTY: _format(self.filled)}

    @staticmethod
    def read(summary: Mapping[str, str]) -> Skips | None:
        """The inverse of :attr:`summary`; ``None`` if it does not say."""
        left_out, filled = summary.get(LEFT_OUT_PROPERTY), summary.get(FILLED_PROPERTY)
        if left_out is None or filled is None:
            return None
        try:
            return Skips(
                tuple(Window(low, high) for low, high, _ in _parse(left_out)),
                tuple(Filled(low, high, rows or 0) for low, high, rows in _parse(filled)),
            )
        except (ValueError, TypeError):  # not ours
            return None


def _format(ranges: Iterable[Window]) -> str:
    return ",".join("/".join([format_time(each.low), format_time(each.high), *_rows(each)]) for each in ranges)


def _rows(window: Window) -> list[str]:
    return [str(window.rows)] if isinstance(window, Filled | GivenUp) and window.rows is not None else []


def _parse(text: str) -> Iterable[tuple[datetime, datetime, int | None]]:
    for each in filter(None, text.split(",")):
        low, high, *rows = each.split("/")
        yield parse_time(low), parse_time(high), int(*rows) if rows else None
