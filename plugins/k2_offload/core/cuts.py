"""How many rows one window may have, and where a window that has more is cut."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from k2_offload.core.exactly_once import check_not_fewer
from k2_offload.core.windows import TICK, Window

CUT_STEPS = (timedelta(hours=1), timedelta(minutes=1), timedelta(seconds=1), timedelta(milliseconds=1), TICK)
"""Windows are cut at full hours; where one hour has too many rows, at full minutes of it, and so on."""


@dataclass(frozen=True)
class Counts:
    """Rows of a window by the step (its start, UTC) that their timestamps lie in.

    :param max_sequence: the highest sequence by step
    :param oldest: the oldest timestamp by step
    """

    rows: Mapping[datetime, int]
    max_sequence: Mapping[datetime, int]
    oldest: Mapping[datetime, datetime] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """Rows of all steps."""
        return sum(self.rows.values())

    @property
    def first_row(self) -> datetime | None:
        """The oldest timestamp of all steps; ``None`` if there is no row."""
        return min(self.oldest.values(), default=None)

    def within(self, window: Window, length: timedelta) -> Counts:
        """Those of the steps of that length that have times in a window."""
        rows = {step: rows for step, rows in self.rows.items() if window.low - length < step < window.high}
        sequences = {step: sequence for step, sequence in self.max_sequence.items() if step in rows}
        return Counts(rows, sequences, {step: oldest for step, oldest in self.oldest.items() if step in rows})


def cut_by_rows(
    table: str,
    window: Window,
    count: Callable[[Window, timedelta], Counts],
    max_rows: int,
    at_least: int = 0,
    *,
    from_end: bool = False,
    check: Callable[[str, Window, int, int], None] | None = None,
) -> tuple[Window, Counts]:
    """The longest prefix of the window, in whole hours, that holds at most ``max_rows`` rows.

    If the first hour with rows holds more, it is cut in the same way by minutes, and so on. Rows with equal timestamps
    stay together, however many they are.

    :param count: counts the rows of a window by steps of a length; steps without rows may be missing
    :param at_least: how many rows the whole window is known to hold
    :param from_end: the longest suffix instead
    :param check: refuses a count that is less than one before; as for a window when left out
    :returns: the prefix, and its rows by the finest step that was needed
    :raises AuditFailed: if a count shows fewer rows of a range than was known before
    """
    for step in CUT_STEPS:
        counts = count(window, step)
        (check or check_not_fewer)(table, window, counts.total, at_least)
        window = _cut_from_end(window, counts.rows, max_rows, step) if from_end else _cut(window, counts.rows, max_rows)
        counts = counts.within(window, step)
        at_least = counts.total
        if at_least <= max_rows:
            break
    return window, counts


def _cut(window: Window, rows: Mapping[datetime, int], max_rows: int) -> Window:
    taken = 0
    for step in sorted(rows):
        if taken and taken + rows[step] > max_rows:
            return Window(window.low, step)
        taken += rows[step]
    return window


def _cut_from_end(window: Window, rows: Mapping[datetime, int], max_rows: int, length: timedelta) -> Window:
    taken = 0
    for step in sorted(rows, reverse=True):
        if taken and taken + rows[step] > max_rows:
            return Window(step + length, window.high)
        taken += rows[step]
    return window


def rows_of_next_attempt(rows: int, max_rows: int, failures: int) -> int:
    """How many rows an open window may have when it is tried again.

    One failure may be an ordinary crash. From the second on, half of the rows have to do.

    :param rows: how many it has
    :param failures: attempts at it that have failed; one that has taken the place of a larger one has one
    """
    if not failures:
        return rows
    return min(rows if failures == 1 else max(1, rows // 2), max_rows)


def next_row_limit(rows: int, took: timedelta, task_timeout: timedelta) -> int:
    """How many rows a window may have after one that was made smaller: as many as take half of a task's time.

    :param rows: of the window that was moved
    :param took: from its planning to its publication was known
    """
    return max(1, max(1, rows) * (task_timeout // 2) // max(took, timedelta(seconds=1)))
