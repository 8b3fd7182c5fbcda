"""``k2 heal`` compares both tiers day by day, and replaces cold days that differ."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from k2_offload.airflow_tasks.dag_ids import RECONCILE_DAG_ID
from k2_offload.cli.console import (
    FAILED,
    FINDING,
    PASSED,
    JsonOption,
    TablesArgument,
    command,
    errors,
    number_table,
    print_json,
    screen,
    show_error,
    show_table,
    with_progress,
)
from k2_offload.cli.run import explain, run_dag
from k2_offload.cli.watermark_set import DryRunOption, YesOption, confirmed
from k2_offload.core.day_comparison import DayComparison, Verdict
from k2_offload.core.text import UNKNOWN, show_number
from k2_offload.core.windows import format_time
from k2_offload.work.reconcile import Found, describe, reconcile
from k2_offload.work.tiers import open_tiers


def parse_day(text: str | date) -> date:
    """A day from the command line.

    :raises typer.BadParameter: if it is none
    """
    if isinstance(text, date):  # as click passes a value that it has converted before
        return text
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"'{text}' is no day, such as 2026-03-01") from None


DaysOption = Annotated[
    list[date] | None,
    typer.Option("--day", parser=parse_day, metavar="DAY", help="A partition day (UTC); may be repeated."),
]
ShrinkOption = Annotated[
    bool, typer.Option("--allow-shrink", help="Replace named days even if cold rows go, or cannot be read.")
]


@command
def heal(
    tables: TablesArgument = None,
    day: DaysOption = None,
    allow_shrink: ShrinkOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare both tiers day by day, and replace the cold days that differ by what ClickHouse holds of them.

    Without --day, the days that are due: whose counts differ, that were not equal the last time, or that have not been
    compared for a day. A day in which cold rows would go is left alone, unless it is named and --allow-shrink is given.
    The DAG k2_reconcile does the same every half hour, without --allow-shrink. Exit code 0 only if all days are equal
    in the end.

    Example: [bold]k2 heal silver_trades --day 2026-03-01 --dry-run[/bold]
    """
    days = day or []
    if allow_shrink and not (tables and days):
        raise typer.BadParameter("--allow-shrink needs the names of tables, and --day")
    found = _compare(tables or [], days)
    going = max((day.going_rows for table in found for day in table.days), default=0) if allow_shrink else 0
    if going:
        found = _compare(tables or [], days, going)
    heals = [each for table in found for each in table.heals]
    if not as_json:
        _print(found)
    healed = bool(heals) and not dry_run and (yes or confirmed(f"Replace {len(heals)} days?"))
    if healed:
        _run(found, days, going)
        found = _compare(tables or [], [each.scope.day for table in found for each in table.days])
        if not as_json:
            _print(found)
    if as_json:
        print_json([_document(each) for table in found for each in table.days])
    problems = [problem for table in found for problem in table.problems]
    unhealed = [describe(day, None) for table in found for day in table.days if day.differs and day.obstacle() is None]
    for problem in dict.fromkeys(problems + unhealed):
        show_error(problem)
    if any(table.problems or any(each.differs and each.whole for each in table.days) for table in found):
        raise typer.Exit(FINDING)
    if not as_json:
        screen.print("[green]all days equal[/green]")


def _compare(tables: list[str], days: Sequence[date], going_rows: int = 0) -> list[Found]:
    with open_tiers() as tiers:
        tiers.ledger.migrate()
        chosen = tiers.tables.select(tables)
        found: list[Found] = []
        for each in reconcile(tiers, list(with_progress("counting", chosen)), days, going_rows=going_rows):
            errors.print(f"  {each.table.name}: compared {len(each.days)} days")
            found.append(each)
        return found


def _run(found: Sequence[Found], days: Sequence[date], going_rows: int) -> None:
    log = Path(tempfile.mkdtemp(prefix="k2-heal-")) / "airflow.log"
    healing = [table.table.name for table in found if table.heals]
    conf = {"days": [day.isoformat() for day in days], "going_rows": going_rows}
    if run_dag(RECONCILE_DAG_ID, healing, log, conf) != "success":
        explain(log)


def _document(day: DayComparison) -> dict[str, object]:
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


def _print(found: Sequence[Found]) -> None:
    shown = number_table(["table", "day"], ["warm rows", "cold rows", "only warm", "only cold"], ["result", "equal"])
    for day in (day for table in found for day in table.days):
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
    for day in (day for table in found for day in table.days):
        if day.verdict is Verdict.LATE_ROWS and not day.whole:
            screen.print(describe(day, day.obstacle()), soft_wrap=True)
