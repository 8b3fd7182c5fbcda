"""``k2 status`` shows where every table stands."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated

import typer
from rich.markup import escape

from k2_offload.adapters.dag_runs import ActiveRun, read_active_runs
from k2_offload.airflow_tasks.dag_ids import dag_id
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
from k2_offload.work.tiers import open_tiers, wall_clock

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
    quiet market is no lag. Late rows came below the watermark: no cycle moves them. Lines below the table name what is
    held back by another table, and a layer's run that goes on. All times are UTC. Exit code 1 if a table cannot be
    looked at.

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
    runs = {name: read_active_runs([name]) for name in dict.fromkeys(dag_id(table.layer) for table in chosen)}
    if as_json:
        print_json([_document(line) | _run_document(runs[dag_id(line.table.layer)]) for line in lines])
    else:
        _print(lines)
        for active in filter(None, runs.values()):
            screen.print(_describe(active), soft_wrap=True)
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
        "held_back_by": line.held_back_by.table if line.held_back_by else None,
        "held_back_at": _text(line.held_back_by.watermark if line.held_back_by else None),
        "problem": line.problem,
    }


def _run_document(runs: list[ActiveRun]) -> dict[str, object]:
    """The run of the table's layer that goes on, and how many wait for it."""
    if not runs:
        return {"run": None}
    first = runs[0]
    return {
        "run": {
            "id": first.run_id,
            "state": first.state,
            "since": format_time(first.since),
            "abandoned": first.is_abandoned(wall_clock()),
            "waiting_runs": len(runs) - 1,
        }
    }


def _describe(runs: list[ActiveRun]) -> str:
    first, now = runs[0], wall_clock()
    text = f"[yellow]{first.dag_id}[/yellow]: run {escape(first.run_id)} has been {first.state} since "
    text += f"{show_time(first.since)} ({show_duration(now - first.since)})"
    if len(runs) > 1:
        text += f"; runs that wait for it: {len(runs) - 1}"
    if first.is_abandoned(now):
        text += ". The process that ran it is gone: `k2 run` ends it"
    return text + "."


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
    if line.held_back_by:
        yield f"held back by {line.held_back_by.table} at {show_time(line.held_back_by.watermark)}."
    if line.before_first:
        yield f"{line.before_first:,} rows are of times before 2000-01-01. No cycle moves them."
    if line.future:
        yield f"{line.future:,} rows are from the future. They are moved when their time has come."
    for gap in line.gaps:
        rows = "an unknown number of" if gap.rows is None else f"{gap.rows:,}"
        yield f"{rows} rows missed in {show_window(gap.window.low, gap.window.high)} ({gap.kind})."
