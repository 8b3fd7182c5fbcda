"""Partition days on the screen and in JSON."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from k2_offload.cli.console import FAILED, PASSED, number_table, show_table
from k2_offload.core.day_comparison import DayComparison, Verdict
from k2_offload.core.text import UNKNOWN, show_number
from k2_offload.core.windows import format_time


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


def show_comparisons(days: Iterable[DayComparison]) -> None:
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


def describe_unsure(table: str, days: Iterable[DayComparison]) -> Iterator[str]:
    """What cannot be said of a table's days though nothing is to be done about them: nobody may call these equal."""
    found = [day.verdict for day in days]
    if expired := found.count(Verdict.EXPIRED):
        yield (
            f"{table}: {expired:,} days hold more rows in the cold tier, and the TTL may have reached them in "
            "ClickHouse. That is as it should be; whether they hold the right ones cannot be said any more."
        )
    if left_out := found.count(Verdict.LEFT_OUT):
        yield (
            f"{table}: {left_out:,} days hold rows in the cold tier that were not compared, of times that were skipped "
            "on purpose or that no window holds. Whether these are the right ones cannot be said; the rest of these "
            "days is equal."
        )
