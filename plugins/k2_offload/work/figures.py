"""Bars of inline SVG: where each stands, for a template to draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from k2_offload.adapters.ledger_records import RecordedWindow
from k2_offload.core.report import DayBounds, DayWindow
from k2_offload.core.text import show_duration, show_number, show_time, show_window

WIDTH, HEIGHT = 1000.0, 100.0
"""The coordinates of every figure; the page stretches it."""

_SLOTS = 96
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Bar:
    """One bar, from the bottom of the figure up.

    :param kind: the state of the window: ``committed``, ``open`` or ``abandoned``
    :param title: what a pointer on it shows
    """

    x: float
    width: float
    height: float
    kind: str
    title: str

    @property
    def y(self) -> float:
        """Its upper edge."""
        return HEIGHT - self.height


@dataclass(frozen=True)
class Figure:
    """Bars over an axis of time.

    :param label: all of it in words
    :param top: what the highest bar stands for
    :param ticks: times along the axis, evenly spaced
    """

    bars: Sequence[Bar]
    label: str
    top: str = ""
    ticks: Sequence[str] = ()

    @property
    def path(self) -> str:
        """All bars as one SVG path: a hundred sparklines of a hundred bars are a page of a megabyte otherwise."""
        return "".join(f"M{bar.x:g} {HEIGHT:g}V{bar.y:g}h{bar.width:g}V{HEIGHT:g}z" for bar in self.bars)


def sparkline(windows: Sequence[RecordedWindow], now: datetime) -> Figure:
    """Rows per window of the last day, one slot for each quarter of an hour."""
    recent = [each for each in windows if timedelta(0) <= now - each.planned_at < _DAY and each.state == "committed"]
    rows = [0] * _SLOTS
    for each in recent:
        rows[_SLOTS - 1 - int((now - each.planned_at) / (_DAY / _SLOTS))] += each.rows or 0
    most, width = max(rows), WIDTH / _SLOTS
    bars = [
        Bar(round(slot * width, 1), round(width * 0.8, 1), _height(count, most), "committed", "")
        for slot, count in enumerate(rows)
        if count
    ]
    return Figure(bars, f"last 24 hours: {sum(rows):,} rows in {len(recent)} windows, at most {most:,} in a quarter")


def rows_over_time(windows: Sequence[RecordedWindow]) -> Figure:
    """Rows of each window, where it was planned."""
    return _over_time(windows, lambda each: float(each.planned_rows if each.rows is None else each.rows), _rows, "rows")


def seconds_over_time(windows: Sequence[RecordedWindow]) -> Figure:
    """From the plan of each window to its commit; one that is not committed has no bar."""
    return _over_time(windows, lambda each: each.took.total_seconds() if each.took else 0.0, _seconds, "duration")


def rows_through_day(windows: Sequence[DayWindow], bounds: DayBounds) -> Figure:
    """Rows of each window of a day, where it was published."""
    return _through_day(windows, bounds, lambda each: float(each.rows), _rows, "rows")


def lag_through_day(windows: Sequence[DayWindow], bounds: DayBounds) -> Figure:
    """The lag of each window of a day, where it was published; one that has none has no bar."""
    return _through_day(windows, bounds, lambda each: each.lag.total_seconds() if each.lag else 0.0, _seconds, "lag")


def _through_day(
    windows: Sequence[DayWindow],
    bounds: DayBounds,
    value: Callable[[DayWindow], float],
    show: Callable[[float], str],
    what: str,
) -> Figure:
    most = max(map(value, windows), default=0.0)
    width = WIDTH / _SLOTS * 0.8
    bars = [
        Bar(
            round((each.at - bounds.start) / _DAY * (WIDTH - width), 1),
            round(width, 1),
            _height(value(each), most),
            "committed",
            f"{show_window(each.window.low, each.window.high)}: {each.rows:,} rows, lag {show_duration(each.lag)}, "
            f"published {show_time(each.at)}",
        )
        for each in windows
    ]
    label = f"{what} of {len(windows)} windows of {bounds.day}, at most {show(most)}"
    return Figure(bars, label, show(most), ("00:00", "06:00", "12:00", "18:00", "24:00"))


def _over_time(
    windows: Sequence[RecordedWindow], value: Callable[[RecordedWindow], float], show: Callable[[float], str], what: str
) -> Figure:
    if not windows:
        return Figure((), "no windows")
    first, last = min(each.planned_at for each in windows), max(each.planned_at for each in windows)
    span, most = max(last - first, timedelta(minutes=1)), max(map(value, windows))
    width = max(2.0, min(12.0, WIDTH / len(windows) * 0.7))
    bars = [
        Bar(
            round((each.planned_at - first) / span * (WIDTH - width), 1),
            round(width, 1),
            _height(value(each), most),
            each.state,
            f"{show_window(each.low, each.high)}: {each.state}, {show_number(each.rows)} rows, "
            f"{show_duration(each.took)}, planned {show_time(each.planned_at)}",
        )
        for each in windows
    ]
    ticks = tuple(show_time(first + span * part / 2)[5:16] for part in range(3))
    label = f"{what} of {len(windows)} windows from {show_time(first)} to {show_time(last)}, at most {show(most)}"
    return Figure(bars, label, show(most), ticks)


def _height(value: float, most: float) -> float:
    """Whatever is more than nothing can be seen."""
    return round(max(3.0, value / most * HEIGHT), 1) if value and most else 0.0


def _rows(value: float) -> str:
    return f"{value:,.0f} rows"


def _seconds(value: float) -> str:
    return show_duration(timedelta(seconds=value))
