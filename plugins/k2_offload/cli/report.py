"""``k2 report`` says what became of every table on one day."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Annotated

import typer

from k2_offload.cli.console import FINDING, command, number_table, print_json, screen, show_error, show_table
from k2_offload.cli.options import JsonOption, LayerOption, TablesArgument, parse_day
from k2_offload.core.text import UNKNOWN, show_bytes, show_duration, show_number
from k2_offload.work.report import LEDGER_ALONE, Report, TableReport, check_day, read_report, summary, title, yesterday
from k2_offload.work.report_page import write
from k2_offload.work.tiers import open_tiers


@command
def report(
    tables: TablesArgument = None,
    layer: LayerOption = None,
    day: Annotated[
        date | None,
        typer.Option("--day", parser=parse_day, metavar="DAY", help="Which day (UTC); yesterday.", show_default=False),
    ] = None,
    output: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write it as one HTML file, too.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show what became of every table on one day: rows, lag, failures, heals, backfills, files, maintenance.

    The figures are read off the cold tables' snapshots, the ledger and ClickHouse. The DAG k2_report makes the same
    report every day, of the day before. Late rows are those of now. Changes nothing. Exit code 1 if a part is
    missing, because it could not be read.

    Example: [bold]k2 report --day 2026-11-26 --output report.html[/bold]
    """
    with open_tiers() as tiers:
        now = tiers.now()
        bounds = check_day(day or yesterday(now), now)
        chosen = tiers.tables.select(tables or [], layer)
        found = read_report(tiers, chosen, bounds)
    if output is not None:
        write(found, output)
    if as_json:
        print_json({"day": str(found.day), "tables": [_document(each) for each in found.tables]})
    else:
        _show(found)
    if found.incomplete:
        raise typer.Exit(FINDING)


def _show(found: Report) -> None:
    screen.print(f"{title(found)}. {summary(found)}", soft_wrap=True)
    _print(found)
    if found.from_ledger:
        screen.print(LEDGER_ALONE.format(tables=", ".join(found.from_ledger)), soft_wrap=True)
    for each in found.tables:
        for finding in each.findings:
            show_error(f"{each.table.name}: {finding}")


def _print(found: Report) -> None:
    lag, healing = ["lag p50", "lag p99"], ["late", "heals", "backfilled"]
    numbers = ["rows", "windows", *lag, "failed", *healing, "files", "size", "rewrites"]
    shown = number_table(["table"], numbers)
    for each in found.tables:
        day = each.figures
        if day is None:
            shown.add_row(each.table.name, *[UNKNOWN] * len(numbers))
            continue
        shown.add_row(
            each.table.name,
            show_number(day.rows),
            show_number(len(day.windows)),
            show_duration(day.lag(0.5)),
            show_duration(day.lag(0.99)),
            show_number(day.failures),
            show_number(each.late_rows),
            show_number(day.heals),
            show_number(day.backfilled_rows),
            show_number(day.files),
            show_bytes(day.size_bytes),
            show_number(day.rewrites),
        )
    show_table(shown)


def _document(each: TableReport) -> dict[str, object]:
    day = each.figures
    lags = [day.lag(share) if day is not None else None for share in (0.5, 0.99)]
    return {
        "table": each.table.name,
        "from_chain": day.from_chain if day else None,
        "rows": day.rows if day else None,
        "windows": len(day.windows) if day else None,
        "lag_p50_seconds": lags[0].total_seconds() if lags[0] is not None else None,
        "lag_p99_seconds": lags[1].total_seconds() if lags[1] is not None else None,
        "failures": day.failures if day else None,
        "late_rows": each.late_rows,
        "heals": day.heals if day else None,
        "healed_rows": day.healed_rows if day else None,
        "backfills": day.backfills if day else None,
        "backfilled_rows": day.backfilled_rows if day else None,
        "files": day.files if day else None,
        "bytes": day.size_bytes if day else None,
        "rewrites": day.rewrites if day else None,
        "maintenance_runs": len(each.maintenance),
        "findings": list(each.findings),
    }
