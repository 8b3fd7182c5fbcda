"""``k2 backfill`` brings what was skipped through the DAG k2_backfill."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from typing import Annotated

import typer
from rich.progress import TimeRemainingColumn

from k2_offload.cli.console import (
    FINDING,
    command,
    errors,
    new_progress,
    number_table,
    print_json,
    screen,
    show_error,
    show_table,
    window_document,
)
from k2_offload.cli.options import DryRunOption, JsonOption, TableArgument, parse_time_argument
from k2_offload.cli.run import explain, run_dag
from k2_offload.core.dag_ids import BACKFILL_DAG_ID
from k2_offload.core.errors import OffloadError
from k2_offload.core.gaps import Shortage
from k2_offload.core.skips import intersect, subtract
from k2_offload.core.text import show_number, show_window
from k2_offload.core.windows import format_time
from k2_offload.work.backfill import LeftOut, check_all_came, describe_nulls, find_left_out
from k2_offload.work.tiers import open_tiers

_LOOK_SECONDS = 2

FromOption = Annotated[
    datetime | None, typer.Option("--from", parser=parse_time_argument, metavar="TIME", help="From here on.")
]
ToOption = Annotated[
    datetime | None, typer.Option("--to", parser=parse_time_argument, metavar="TIME", help="Below this time.")
]


@command
def backfill(
    table: TableArgument,
    low: FromOption = None,
    high: ToOption = None,
    newest_first: Annotated[
        bool, typer.Option("--newest-first/--oldest-first", help="Which rows to begin with.")
    ] = False,
    max_rows: Annotated[int, typer.Option(min=0, help="Of one window; 0 means as the table file says.")] = 0,
    accept_fewer: Annotated[
        bool,
        typer.Option(
            "--accept-fewer",
            help="Bring ranges of which ClickHouse does not show all rows that were left out, or none.",
        ),
    ] = False,
    accept_null: Annotated[
        bool,
        typer.Option("--accept-null", help="Bring rows without columns that the cold table does not fill any more."),
    ] = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Bring what was left out of a cold table on purpose: by `k2 watermark set`, or by `history: backfill`.

    In windows of a bounded number of rows, beside the cycles. It may be stopped at any time and run again: the cold
    table itself says what is left out. The oldest rows come first, for ClickHouse's TTL takes them first.

    Example: [bold]k2 backfill silver_trades --from 2026-03-01 --dry-run[/bold]
    """
    before = _find(table, low, high)
    failed = None
    if before.ranges and not dry_run:
        conf = {
            "from": format_time(low) if low else "",
            "to": format_time(high) if high else "",
            "max_rows": max_rows,
            "newest_first": newest_first,
            "accept_fewer": accept_fewer,
            "accept_null": accept_null,
        }
        with _progress(before):
            failed = run_dag(BACKFILL_DAG_ID, [table], conf, shows_waiting=False)
    after = _find(table, low, high)
    if as_json:
        print_json(_document(before, after))
    elif not before.ranges:
        screen.print(f"{table}: nothing is left out in that range. There is nothing to bring.")
    else:
        _print(before, after, dry_run=dry_run)
    if before.expired_before is not None and before.may_have_expired and not as_json:
        screen.print(
            f"Rows before {format_time(before.expired_before)} may have expired in ClickHouse, by its TTL. What is "
            "still there is brought.",
            soft_wrap=True,
        )
    for each in () if as_json else _short(before, after):
        if each.rows is not None:
            screen.print(
                f"{each.rows:,} rows were left out in {show_window(each.window.low, each.window.high)}, and ClickHouse "
                f"showed {each.found:,} of them: {each.rows - each.found:,} are missing. That stays on record.",
                soft_wrap=True,
            )
    if dry_run and before.nulls and not (as_json or accept_null):
        screen.print(describe_nulls(before), markup=False, soft_wrap=True)
    if failed:
        explain(failed)
    if not dry_run and after.ranges:
        show_error(f"{table}: {after.rows:,} rows are still left out. No row is lost: `k2 backfill {table}` goes on.")
        raise typer.Exit(FINDING)
    if failed:
        raise typer.Exit(FINDING)
    if not (dry_run or accept_fewer):
        check_all_came(after)


def _short(before: LeftOut, after: LeftOut) -> tuple[Shortage, ...]:
    return after.shortages or after.missed or before.shortages


@contextmanager
def _progress(before: LeftOut) -> Iterator[None]:
    """A bar on standard error: the rows that are brought, how long the rest may take; lines without a terminal."""
    bar = new_progress(TimeRemainingColumn())
    task, ended = bar.add_task(f"bringing {before.table.name}", total=before.rows), threading.Event()

    def watch() -> None:
        left, brought = before.ranges, 0
        while not ended.wait(_LOOK_SECONDS):
            with suppress(OffloadError), open_tiers() as tiers:
                cold = tiers.load_cold(before.table)
                filled = [part for each in left for part in intersect(cold.skips.filled if cold else (), each)]
                if not filled:
                    continue
                brought += sum(tiers.clickhouse.count_within(before.table, each) for each in filled)
                left = subtract(left, filled)
                bar.update(task, completed=brought)
                if not errors.is_terminal:
                    errors.print(f"  {before.table.name}: {brought:,} of {before.rows:,} rows brought")

    thread = threading.Thread(target=watch, daemon=True)
    with bar:
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _find(table: str, low: datetime | None, high: datetime | None) -> LeftOut:
    with open_tiers() as tiers:
        return find_left_out(tiers, tiers.tables[table], low, high)


def _document(before: LeftOut, after: LeftOut) -> dict[str, object]:
    return {
        "table": before.table.name,
        "rows_left_out_before": before.rows,
        "rows_left_out": after.rows,
        "left_out": [window_document(each) for each in after.ranges],
        "filled": [window_document(each) for each in subtract(before.ranges, after.ranges)],
        "may_have_expired": before.may_have_expired,
        "null_columns": {name: [window_document(each) for each in nulls] for name, nulls in before.nulls.items()},
        "rows_missing": sum(each.rows - each.found for each in _short(before, after) if each.rows is not None),
    }


def _print(before: LeftOut, after: LeftOut, *, dry_run: bool) -> None:
    shown = number_table(["range (UTC)"], [], ["state"])
    for each in subtract(before.ranges, after.ranges):
        shown.add_row(show_window(each.low, each.high), "[green]filled[/green]")
    for each in after.ranges:
        shown.add_row(show_window(each.low, each.high), "left out")
    show_table(shown)
    screen.print(f"{show_number(before.rows)} rows in ClickHouse were left out, {show_number(after.rows)} are now.")
    if dry_run:
        screen.print("A dry run: nothing was changed.")
