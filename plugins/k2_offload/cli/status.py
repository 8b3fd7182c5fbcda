"""``k2 status`` shows where every table stands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer

from k2_offload.cli.console import (
    FINDING,
    JsonOption,
    LayerOption,
    TablesArgument,
    command,
    number_table,
    print_json,
    screen,
    show_duration,
    show_error,
    show_number,
    show_seconds,
    show_table,
    show_time,
    show_window,
    with_progress,
)
from k2_offload.core.windows import format_time
from k2_offload.work.status import TableStatus, read_status
from k2_offload.work.tiers import open_tiers

_COLOURS = {"success": "green", "failed": "red", "running": "yellow"}


@command
def status(
    tables: TablesArgument = None,
    layer: LayerOption = None,
    counts: Annotated[bool, typer.Option("--counts/--no-counts", help="Count warm and late rows.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Show watermark, lag, last window and rows of every table.

    "moved" and "took" are the last window's rows and seconds. Lag is measured against the newest row in ClickHouse: a
    quiet market is no lag. Late rows came below the watermark: no cycle moves them. All times are UTC. Exit code 1 if a
    table cannot be looked at.

    Example: [bold]k2 status --layer gold[/bold]
    """
    with open_tiers() as tiers:
        chosen = tiers.tables.select(tables or [], layer)
        tiers.ledger.migrate()
        records, gaps = tiers.ledger.read_tables(), tiers.ledger.read_gaps()
        lines = [
            read_status(tiers, table, records.get(table.name), counts, gaps.get(table.name, ()))
            for table in with_progress("looking at", chosen)
        ]
    if as_json:
        print_json([_document(line) for line in lines])
    else:
        _print(lines)
    problems = [line.problem for line in lines if line.problem is not None]
    for problem in problems:
        show_error(problem)
    if problems:
        raise typer.Exit(FINDING)


def _document(line: TableStatus) -> dict[str, object]:
    record = line.record
    return {
        "table": line.table.name,
        "layer": line.table.layer,
        "watermark": _text(line.watermark),
        "lag_seconds": line.lag.total_seconds() if line.lag is not None else None,
        "status": record.status if record else "initialized",
        "window_low": _text(record.low if record else None),
        "window_high": _text(record.high if record else None),
        "window_state": record.state if record else None,
        "window_rows": record.rows if record else None,
        "seconds": record.last_run_duration_seconds if record else None,
        "last_successful_run": _text(record.last_successful_run if record else None),
        "warm_rows": line.warm_rows,
        "cold_rows": line.cold_rows,
        "late_rows": line.late_rows,
        "rows_before_2000": line.before_first,
        "rows_from_the_future": line.future,
        "gaps": [
            {"low": _text(gap.window.low), "high": _text(gap.window.high), "kind": str(gap.kind), "rows": gap.rows}
            for gap in line.gaps
        ],
        "row_limit": record.row_limit if record else None,
        "problem": line.problem,
    }


def _text(time: datetime | None) -> str | None:
    return format_time(time) if time else None


def _print(lines: list[TableStatus]) -> None:
    numbers = ["moved", "took", "lag", "warm rows", "cold rows", "late"]
    shown = number_table(["table", "status", "watermark (UTC)"], numbers)
    for line in lines:
        record = line.record
        state = record.status if record else "initialized"
        colour = _COLOURS.get(state, "dim")
        late = show_number(line.late_rows)
        shown.add_row(
            line.table.name,
            f"[{colour}]{state}[/{colour}]",
            show_time(line.watermark),
            show_number(record.rows if record else None),
            show_seconds(record.last_run_duration_seconds if record else None),
            show_duration(line.lag),
            show_number(line.warm_rows),
            show_number(line.cold_rows),
            f"[yellow]{late}[/yellow]" if line.late else late,
        )
    show_table(shown)
    if days := sorted({day for line in lines for day in line.late or {}}):
        screen.print(
            f"[yellow]late[/yellow]: rows of {', '.join(map(str, days))} that came below the watermark. No cycle moves "
            "them; they stay in ClickHouse until its TTL. `k2 verify TABLE` compares both tiers.",
            soft_wrap=True,
        )
    for line in lines:
        for note in _notes(line):
            screen.print(f"[yellow]{line.table.name}[/yellow]: {note}", soft_wrap=True)


def _notes(line: TableStatus) -> Iterator[str]:
    """What a person should know of a table beside its numbers."""
    if line.before_first:
        yield f"{line.before_first:,} rows are of times before 2000-01-01. No cycle moves them."
    if line.future:
        yield f"{line.future:,} rows are from the future. They are moved when their time has come."
    if line.record and line.record.row_limit is not None:
        yield (
            f"its windows have been made smaller, since a larger one has failed twice: about {line.record.row_limit:,} "
            "rows at most. They grow again with each one that is moved."
        )
    for gap in line.gaps:
        rows = "an unknown number of" if gap.rows is None else f"{gap.rows:,}"
        yield f"{rows} rows missed in {show_window(gap.window.low, gap.window.high)} ({gap.kind})."
