"""What became of one table on one day, from the chain of its snapshots and the ledger's windows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from math import ceil

from k2_offload.core.day_comparison import day_window
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.windows import Window


@dataclass(frozen=True)
class DayBounds:
    """One day, half-open, in UTC."""

    day: date
    start: datetime
    end: datetime

    @staticmethod
    def of(day: date) -> DayBounds:
        """The whole day."""
        whole = day_window(day)
        return DayBounds(day, whole.low, whole.high)

    def has(self, instant: datetime | None) -> bool:
        """Whether a time is in it."""
        return instant is not None and self.start <= instant < self.end


@dataclass(frozen=True)
class LedgerWindow:
    """One window as the ledger knows it.

    :param state: ``open``, ``committed`` or ``abandoned``
    :param failures: how often it was planned and not published
    :param rows: published with it; ``None`` until then, as ``size_bytes``
    :param first_row: its oldest timestamp when it was planned; ``None`` if an older version has planned it
    """

    window_id: str
    window: Window
    state: str
    failures: int
    planned_at: datetime
    committed_at: datetime | None
    rows: int | None
    size_bytes: int | None
    first_row: datetime | None = None


@dataclass(frozen=True)
class ChainSnapshot:
    """One snapshot that readers see, or that leads to what they see.

    :param window_id: of the window that it brought, as text; with its ``window``
    :param heal: whether it healed a day
    :param backfill: whether it brought a range that was skipped
    :param rewritten_days: how many days' files it rewrote
    :param rows: that it added, in ``files`` files of ``size_bytes`` together
    :param more_rows: rows of the table with it, less those before it
    """

    made_at: datetime
    window_id: str | None
    window: Window | None
    heal: bool
    backfill: bool
    rewritten_days: int
    rows: int
    more_rows: int
    files: int
    size_bytes: int


@dataclass(frozen=True)
class Chain:
    """The snapshots of a cold table that readers see, newest first.

    :param whole: whether it goes back to the table's first snapshot; older ones have expired otherwise
    """

    snapshots: Sequence[ChainSnapshot]
    whole: bool

    def covers(self, since: datetime) -> bool:
        """Whether nothing that was made since then has expired."""
        return self.whole or any(each.made_at < since for each in self.snapshots)


@dataclass(frozen=True)
class DayWindow:
    """A window that was published on the day.

    :param at: when its snapshot was made, right before readers saw it; where that has expired, when the ledger knew it
    :param lag: from its first row, or its beginning where that is not known, to that; no row of it waited longer.
        ``None`` for the first window of a table, which begins in 2000, and for one without rows
    """

    at: datetime
    window: Window
    rows: int
    size_bytes: int
    lag: timedelta | None


@dataclass(frozen=True)
class DayFigures:
    """What one table did on a day.

    :param from_chain: whether the windows are those of the chain; otherwise, as of a day whose snapshots have expired,
        they are the ledger's, and ``files``, ``heals``, ``healed_rows``, ``backfills``, ``backfilled_rows`` and
        ``rewrites`` are ``None``
    :param windows: oldest first
    :param files: data files that windows, heals and backfills have added
    :param heals: days that were healed
    :param healed_rows: rows that the table held more after those heals
    :param backfills: ranges that were skipped before and were brought
    :param backfilled_rows: rows that those brought
    :param rewrites: days whose files maintenance has rewritten
    :param planned: windows that were planned on the day
    :param failures: how often those were planned and not published
    :param waiting: how often windows that were planned before the day and not published on it had failed when the
        ledger was read; 0 if there is none
    :param lost_windows: windows that the ledger has as published on the day and the chain has not
    """

    from_chain: bool
    windows: Sequence[DayWindow]
    files: int | None
    heals: int | None
    healed_rows: int | None
    backfills: int | None
    backfilled_rows: int | None
    rewrites: int | None
    planned: int
    failures: int
    lost_windows: int
    waiting: int = 0

    @property
    def rows(self) -> int:
        """Rows that were moved."""
        return sum(each.rows for each in self.windows)

    @property
    def size_bytes(self) -> int:
        """Bytes of the data files of the windows."""
        return sum(each.size_bytes for each in self.windows)

    def lag(self, share: float) -> timedelta | None:
        """How long no row of that share of the windows with rows has waited, as Postgres' percentile_disc.

        :param share: more than 0, at most 1
        :returns: ``None`` if there is no such window
        """
        lags = sorted(each.lag for each in self.windows if each.lag is not None)
        return lags[ceil(share * len(lags)) - 1] if lags else None

    @property
    def is_idle(self) -> bool:
        """Whether it is known that nothing at all happened."""
        happened = (self.heals, self.backfills, self.rewrites, self.planned, self.lost_windows, self.waiting)
        return self.from_chain and not self.windows and not any(happened)


def figures_of(bounds: DayBounds, ledger: Sequence[LedgerWindow], chain: Chain | None) -> DayFigures:
    """Put together what both say.

    The chain decides which windows there are; the ledger knows which were planned, and failed.

    :param ledger: windows that were planned or recorded as published on the day, or waited all day
    :param chain: ``None`` if it could not be read, or does not exist
    """
    planned = [each for each in ledger if bounds.has(each.planned_at)]
    recorded = [each for each in ledger if each.state == "committed" and bounds.has(each.committed_at)]
    failures = sum(each.failures for each in planned)
    waiting = sum(
        each.failures
        for each in ledger
        if each.planned_at < bounds.start and (each.committed_at is None or each.committed_at >= bounds.end)
    )
    if chain is None or not chain.covers(bounds.start):
        windows = [
            _window(
                each.committed_at or bounds.start, each.window, each.rows or 0, each.size_bytes or 0, each.first_row
            )
            for each in recorded
        ]
        unknown = (None, None, None, None, None, None)
        return DayFigures(False, _ordered(windows), *unknown, len(planned), failures, 0, waiting)
    of_day = [each for each in chain.snapshots if bounds.has(each.made_at)]
    first_rows = {each.window_id: each.first_row for each in ledger}
    windows = [
        _window(each.made_at, each.window, each.rows, each.size_bytes, first_rows.get(each.window_id))
        for each in of_day
        if each.window is not None and each.window_id is not None
    ]
    heals = [each for each in of_day if each.heal]
    backfills = [each for each in of_day if each.backfill]
    in_chain = {each.window_id for each in chain.snapshots}
    return DayFigures(
        True,
        _ordered(windows),
        sum(each.files for each in of_day if each.window_id is not None or each.heal or each.backfill),
        len(heals),
        sum(each.more_rows for each in heals),
        len(backfills),
        sum(each.rows for each in backfills),
        sum(each.rewritten_days for each in of_day),
        len(planned),
        failures,
        sum(each.window_id not in in_chain for each in recorded),
        waiting,
    )


def _window(at: datetime, window: Window, rows: int, size_bytes: int, first_row: datetime | None) -> DayWindow:
    counts = rows > 0 and window.low > FIRST_WATERMARK
    return DayWindow(at, window, rows, size_bytes, at - (first_row or window.low) if counts else None)


def _ordered(windows: Sequence[DayWindow]) -> tuple[DayWindow, ...]:
    return tuple(sorted(windows, key=lambda each: each.at))
