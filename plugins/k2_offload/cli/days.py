"""Partition days on the command line and on the screen."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date

import typer

from k2_offload.cli.console import FAILED, PASSED, number_table, show_table
from k2_offload.core.day_comparison import DayComparison
from k2_offload.core.text import UNKNOWN, show_number
from k2_offload.core.windows import format_time

_FIRST_DAY, _LAST_DAY = date(1900, 1, 1), date(2299, 12, 31)
"""ClickHouse knows no others."""


def parse_day(text: str | date) -> date:
    """A day from the command line.

    :raises typer.BadParameter: if it is none, or one that ClickHouse does not know
    """
    if isinstance(text, date):  # as click passes a value that it has converted before
        return text
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no day, such as 2026-03-01") from None
    if not _FIRST_DAY <= day <= _LAST_DAY:
        raise typer.BadParameter(f"'{text}' is not from {_FIRST_DAY} to {_LAST_DAY}, as all days of ClickHouse are")
    return day


def day_document(day: DayComparison) -> dict[str, object]:
    """What a day's comparison has found, for JSON."""
    return {
        "table": day.table,
        "day": day.scope.day.isoformat(),
        "result": str(day.verdict),
        "warm_rows": day.warm_rows,
        "cold_rows": day.cold_rows,
        "late_rows": day.late_rows,
        "gone_rows": day.gone_rows,
        "differs_from": format_time(day.differing.low) if day.differing else None,
        "differs_until": format_time(day.differing.high) if day.differing else None,
        "problem": day.problem or (day.obstacle() if day.differs else None),
    }


def show_days(days: Iterable[DayComparison]) -> None:
    """A table with a line for each day."""
    shown = number_table(["table", "day"], ["warm rows", "cold rows", "only warm", "only cold"], ["result", "equal"])
    for day in days:
        shown.add_row(
            day.table,
            day.scope.day.isoformat(),
            show_number(day.warm_rows),
            show_number(day.cold_rows),
            show_number(day.late_rows) if day.problem is None else UNKNOWN,
            show_number(day.gone_rows) if day.problem is None else UNKNOWN,
            str(day.verdict),
            FAILED if day.differs else PASSED,
        )
    show_table(shown)
