"""What one partition day holds in both tiers, what a difference means, and whether the cold day may be replaced.

A *day* is a partition of the cold table: a UTC day of the partition column, whatever windows are cut on. Of a day, the
cold tier must hold the rows whose timestamp lies below the watermark, and no others. What was skipped on purpose is
left out on both sides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from k2_offload.core.windows import Window

TTL_MARGIN = timedelta(hours=1)
"""Rows so close to their end are not compared: clocks differ, and a comparison takes time."""

HEALED_WITHIN = timedelta(hours=1)
"""How long a day that may be healed may differ."""

CONTENT_EVERY = timedelta(days=1)
"""How old the last comparison of a day's content may be."""

LEFT_FOR_AT_MOST = timedelta(days=3)
"""How old it may become where there is no time for all days."""


def day_window(day: date) -> Window:
    """A UTC day as a range of the partition column."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=UTC)
    return Window(midnight, midnight + timedelta(days=1))


def days_window(first: date, last: date) -> Window:
    """UTC days as one range.

    :param last: inclusive
    """
    return Window(day_window(first).low, day_window(last).high)


@dataclass(frozen=True)
class DayScope:
    """Which rows of a table are compared.

    :param below: the watermark of the snapshot that is compared; only rows with earlier timestamps count
    :param left_out: ranges of the timestamp column that were skipped on purpose
    """

    day: date
    below: datetime
    left_out: tuple[Window, ...] = ()


class Verdict(StrEnum):
    """What a comparison of one day has found."""

    EQUAL = "equal"
    LATE_ROWS = "late rows"
    """The warm tier holds rows that the cold tier does not."""

    CHANGED_ROWS = "changed rows"
    """Each tier holds rows that the other does not."""

    EXPIRED = "expired in warm"
    """The cold tier holds more, of a day that the warm tier's TTL may have reached: as it should be."""

    COLD_HAS_MORE = "cold has more"
    """The cold tier holds more, of a day that the warm tier should still hold as a whole."""

    LEFT_OUT = "left out"
    """All that is compared is equal, and the cold tier holds other rows besides: of times that were skipped on
    purpose, or that no window holds."""

    UNREADABLE = "unreadable"
    """The cold tier's rows cannot be read."""

    @property
    def differs(self) -> bool:
        """Whether something is to be done or decided."""
        return self not in (Verdict.EQUAL, Verdict.EXPIRED, Verdict.LEFT_OUT)


@dataclass(frozen=True)
class DayComparison:
    """Both sides of one day.

    :param snapshot_id: of the cold table, as it was compared
    :param whole: whether the warm tier's TTL can have removed none of the day's rows
    :param late_rows: rows that only the warm tier holds
    :param gone_rows: rows that only the cold tier holds
    :param shrunk_rows: versions of rows (candles) that are older in the warm tier than in the cold one, or gone from
        it; ``None`` where rows have no versions
    :param cold_hash: 0 where the cold day cannot be read
    :param other_rows: cold rows of the day that are not compared; they would go with their files
    :param differing: timestamps from the first differing row to the last, half-open
    :param problem: why the cold day cannot be read
    :param export_hash: of the warm rows with all their values: what a heal's files must hold; ``None`` if it is
        ``warm_hash``
    :param lost_columns: whose values a heal would take: the cold day holds them, and the source is not read for them
        any more
    """

    table: str
    scope: DayScope
    snapshot_id: int
    whole: bool
    warm_rows: int
    warm_hash: int
    cold_rows: int
    late_rows: int = 0
    gone_rows: int = 0
    shrunk_rows: int | None = None
    other_rows: int = 0
    differing: Window | None = None
    problem: str | None = None
    cold_hash: int = 0
    export_hash: int | None = None
    lost_columns: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """What that means."""
        if self.problem is not None:
            return Verdict.UNREADABLE
        if not self.late_rows and not self.gone_rows:
            return Verdict.LEFT_OUT if self.other_rows else Verdict.EQUAL
        if not self.whole:
            return Verdict.LATE_ROWS if self.late_rows else Verdict.EXPIRED
        if not self.gone_rows:
            return Verdict.LATE_ROWS
        return Verdict.CHANGED_ROWS if self.late_rows else Verdict.COLD_HAS_MORE

    @property
    def differs(self) -> bool:
        """Whether something is to be done or decided."""
        return self.verdict.differs

    @property
    def going_rows(self) -> int:
        """Rows that the cold tier would lose if the day were replaced, at most."""
        return self.cold_rows if self.problem is not None else self.gone_rows

    def obstacle(self, going_rows: int = 0) -> str | None:
        """Why the cold day may not be replaced by what the warm tier holds; ``None`` if it may.

        :param going_rows: a person has seen so many rows that would go
        """
        if not self.whole:
            return "the warm tier may no longer hold the day as a whole"
        if self.lost_columns:
            return f"the values of column {', '.join(self.lost_columns)}, which is not filled any more, would go"
        if self.other_rows:
            return f"{self.other_rows} of its cold rows are of no window, or were skipped on purpose, and would go too"
        if self.problem is not None and self.scope.left_out:
            return "it cannot be read, and some of its times were skipped on purpose"
        if going_rows:
            if not self.warm_rows:
                return "the warm tier holds no row of it"
            return None if self.going_rows <= going_rows else f"{self.going_rows} rows would go, not {going_rows}"
        if self.problem is not None:
            return "what the cold tier holds of it cannot be read"
        if self.shrunk_rows:
            return f"{self.shrunk_rows} candles would lose trades, or have other values with as many"
        if self.gone_rows and self.shrunk_rows is None:
            return f"{self.gone_rows} rows of the cold tier are not in the warm tier"
        return None


class RowKind(StrEnum):
    """What a row is that only one tier holds, or one holds more often."""

    LATE = "late row"
    """ClickHouse alone holds it: it came after its window was moved."""

    GONE = "only cold"
    WARM_VERSION = "changed, in warm"
    """Both hold a row of its key, with other values."""

    COLD_VERSION = "changed, in cold"


@dataclass(frozen=True)
class DifferingRow:
    """A row that one tier holds more often than the other.

    :param times: how much more often
    :param values: as ClickHouse prints them, in the order of the table's columns; bytes in hexadecimal
    """

    kind: RowKind
    times: int
    values: tuple[str | None, ...]


@dataclass(frozen=True)
class TableComparison:
    """What the comparison of some days of one table has found.

    :param window: from the first day that was compared to the watermark, or to the end of the last one; ``None`` if
        there was nothing to compare
    :param problem: why the table could not be compared; it counts as unequal then
    """

    table: str
    window: Window | None
    days: tuple[DayComparison, ...] = ()
    problem: str | None = None

    @property
    def warm_rows(self) -> int:
        """Those that were compared."""
        return sum(day.warm_rows for day in self.days)

    @property
    def cold_rows(self) -> int:
        """Those that were compared."""
        return sum(day.cold_rows for day in self.days)

    @property
    def warm_hash(self) -> int:
        """Of all days."""
        return sum(day.warm_hash for day in self.days) % 2**64

    @property
    def cold_hash(self) -> int:
        """Of all days."""
        return sum(day.cold_hash for day in self.days) % 2**64

    @property
    def differing(self) -> list[DayComparison]:
        """The days in which something is to be done or decided."""
        return [day for day in self.days if day.differs]

    @property
    def equal(self) -> bool:
        """Whether nothing is."""
        return self.problem is None and not self.differing


def first_whole_day(now: datetime, retention: timedelta) -> date:
    """The first day of which no row is within :data:`TTL_MARGIN` of its end.

    :param retention: how long the source keeps a row, from the earlier of its two times on
    """
    oldest = now - retention + TTL_MARGIN
    return oldest.date() if oldest == _midnight(oldest) else oldest.date() + timedelta(days=1)


def _midnight(time: datetime) -> datetime:
    return time.replace(hour=0, minute=0, second=0, microsecond=0)


def is_still_whole(day: date, was_whole: bool, now: datetime, retention: timedelta | None) -> bool:
    """Whether the warm tier surely holds a day as a whole that was compared before.

    :param was_whole: whether it did then
    :param retention: how long the source keeps a row; ``None`` if no clock removes any
    """
    return was_whole and (retention is None or day >= first_whole_day(now, retention))


def window_to_compare(watermark: datetime, first: date) -> Window | None:
    """What both tiers must hold: from the first whole day up to the watermark.

    The TTL is taken to count from the timestamp column, as a candle's does from the end of its window, even if the
    partitions follow another column; where it counts from an earlier time, shorten ``warm_retention_days``.

    :param first: that day
    :returns: ``None`` if nothing lies between
    """
    low = day_window(first).low
    return Window(low, watermark) if low < watermark else None


@dataclass(frozen=True)
class LastComparison:
    """What is known of a day from before.

    :param compared_at: when its content was last compared
    """

    verdict: Verdict
    compared_at: datetime


def days_to_compare(
    warm: Mapping[date, int],
    cold: Mapping[date, int],
    known: Mapping[date, LastComparison],
    is_whole: Callable[[date], bool],
    now: datetime,
) -> list[date]:
    """Of which days the content is to be compared now.

    Those whose counts differ, which were not equal the last time, or which have not been compared for a day. A day
    that the TTL has reached is looked at as long as the warm tier holds any of it: counts say nothing of it any more.
    One that could not be read is looked at until it can be.

    :param warm: rows below the watermark, by day
    :param cold: rows by day
    :param is_whole: whether the warm tier surely holds a day as a whole, see :func:`first_whole_day`
    """
    due = {day for day, rows in warm.items() if rows and not is_whole(day)}
    due |= {day for day, last in known.items() if last.verdict is Verdict.UNREADABLE}
    for day in {*warm, *cold}:
        last = known.get(day)
        if is_whole(day) and (
            warm.get(day, 0) != cold.get(day, 0)
            or last is None
            or last.verdict is not Verdict.EQUAL
            or now - last.compared_at >= CONTENT_EVERY
        ):
            due.add(day)
    return sorted(due)
