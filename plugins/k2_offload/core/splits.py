"""Splits: which rows of a window go into which file.

A file belongs to one partition, a day of the partition column, so splits are half-open ranges of that column, each
within one day (UTC). The splits of a day leave no gap and do not overlap: whatever its time, a row is in one of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import groupby

SLOT = timedelta(minutes=5)
"""Rows are counted by it, and it is never split. At a billion rows a day it holds 3.5 million."""


@dataclass(frozen=True)
class Split:
    """The rows of a window whose partition column lies in ``[low, high)``.

    :param rows: how many there are
    """

    low: datetime
    high: datetime
    rows: int

    @property
    def day(self) -> date:
        """The partition (UTC)."""
        return self.low.date()


def split_days(rows_per_slot: Mapping[datetime, int], max_file_rows: int) -> list[Split]:
    """One split for each day with rows; where that has more than ``max_file_rows``, several of about equal size.

    A split holds more rows only if a single slot does.

    :param rows_per_slot: start of the slot of the partition column (UTC, see :data:`SLOT`) → rows of the window in it;
        slots without rows are missing
    """
    return [
        split
        for day, slots in groupby(sorted(rows_per_slot.items()), key=lambda slot: slot[0].date())
        for split in _split_day(day, list(slots), max_file_rows)
    ]


def _split_day(day: date, slots: Sequence[tuple[datetime, int]], max_file_rows: int) -> Iterator[Split]:
    total = sum(rows for _, rows in slots)
    files = -(-total // max_file_rows)
    enough = -(-total // files)
    low, taken = datetime(day.year, day.month, day.day, tzinfo=UTC), 0
    for start, rows in slots:
        if taken and (taken >= enough or taken + rows > max_file_rows):
            yield Split(low, start, taken)
            low, taken = start, 0
        taken += rows
    yield Split(low, datetime(day.year, day.month, day.day, tzinfo=UTC) + timedelta(days=1), taken)
