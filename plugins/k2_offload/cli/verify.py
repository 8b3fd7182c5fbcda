"""``k2 verify`` compares the rows of both tiers, or checks the cold tier alone."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial
from typing import Annotated

import typer
from rich.markup import escape

from k2_offload.cli.console import (
    FAILED,
    FINDING,
    PASSED,
    command,
    number_table,
    print_json,
    screen,
    show_error,
    show_found,
    show_table,
    window_document,
    with_progress,
)
from k2_offload.cli.days import day_document, describe_unsure
from k2_offload.cli.options import JsonOption, LayerOption, TablesArgument, YesOption, parse_day
from k2_offload.cli.verify_offsets import verify_offsets
from k2_offload.cli.verify_sealed import accept_sealed, check_sealed
from k2_offload.core.day_comparison import DayComparison, DifferingRow, TableComparison
from k2_offload.core.errors import OffloadError
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import UNKNOWN, show_bytes, show_number, show_window
from k2_offload.work.cold_check import ColdCheck, check_cold
from k2_offload.work.compare import compare, compared_columns, describe, read_differing
from k2_offload.work.tiers import Tiers, open_tiers

_SHOWN_ROWS = 10
"""Of each side of a day."""

_LONGEST_VALUE = 60

Differing = dict[tuple[str, date], list[DifferingRow]]
"""Rows by table and day."""


def _day_option(name: str, text: str) -> object:
    return typer.Option(name, parser=parse_day, metavar="DAY", help=text, show_default=False)


@command
def verify(
    tables: TablesArgument = None,
    layer: LayerOption = None,
    first: Annotated[date | None, _day_option("--from", "The first partition day (UTC).")] = None,
    last: Annotated[date | None, _day_option("--to", "The last one, inclusive.")] = None,
    deep: Annotated[bool, typer.Option("--deep", help="Show the rows that differ, some of each side.")] = False,
    cold_only: Annotated[bool, typer.Option("--cold-only", help="Read the cold tables' files; no ClickHouse.")] = False,
    sealed: Annotated[
        bool, typer.Option("--sealed", help="Look whether sealed days still hold the same rows.")
    ] = False,
    accept: Annotated[
        date | None,
        _day_option("--accept", "With --sealed and one table: accept what this day holds now, and seal that."),
    ] = None,
    yes: YesOption = False,
    offsets: Annotated[bool, typer.Option("--offsets", help="Compare the broker's offsets; bronze tables.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Compare counts and content hashes, warm against cold, day by day, for everything below the watermark.

    Both sides are computed by ClickHouse over whole rows; without --from, from the first day of which the warm tier's
    TTL can have removed nothing. With --cold-only, each data file of the cold tables is read instead: is it there and
    whole, and do its rows agree with its metadata? Is it registered once, and each key in one row only? With --sealed,
    the days that k2_reconcile has sealed are read and compared with their seals; with --accept, a person accepts a day
    that was changed on purpose, and that stays on record. With --offsets, each message of the
    broker is looked for in ClickHouse and Iceberg. Exit code 0 only if nothing was found; a message that was delivered
    twice is shown, and is no finding.

    Example: [bold]k2 verify silver_trades --from 2026-03-01 --to 2026-03-03 --deep[/bold]
    """
    if first is not None and last is not None and first > last:
        raise typer.BadParameter(f"--from {first} is after --to {last}")
    if deep and cold_only:
        raise typer.BadParameter("--deep compares with ClickHouse, and --cold-only does not ask it")
    if sealed and (deep or cold_only):
        raise typer.BadParameter("--sealed goes with neither --deep nor --cold-only")
    if offsets and (deep or cold_only or sealed or first or last):
        raise typer.BadParameter("--offsets goes with none of --deep, --cold-only, --sealed, --from and --to")
    if accept is not None and (not sealed or len(tables or []) != 1 or first or last):
        raise typer.BadParameter("--accept goes with --sealed and the name of one table, and without --from and --to")
    with open_tiers() as tiers:
        chosen = tiers.tables.select(tables or [], layer)
        if accept is not None:
            accept_sealed(tiers, chosen[0], accept, as_json, yes=yes)
            passed = True
        elif sealed:
            passed = check_sealed(tiers, chosen, (first, last), as_json)
        elif offsets:
            passed = verify_offsets(tiers, chosen, as_json)
        elif cold_only:
            passed = _check_cold(tiers, chosen, (first, last), as_json)
        else:
            passed = _compare(tiers, chosen, (first, last), deep, as_json)
    if not passed:
        raise typer.Exit(FINDING)


def _compare(
    tiers: Tiers, chosen: Sequence[TableSpec], days: tuple[date | None, date | None], deep: bool, as_json: bool
) -> bool:
    results: list[TableComparison] = []
    rows: Differing = {}
    for table in with_progress("comparing", chosen):
        result = compare(tiers, table, *days, partial(with_progress, f"comparing {table}"))
        results.append(result)
        for day in result.differing if deep else ():
            try:
                rows[table.name, day.scope.day] = read_differing(tiers, table, day, _SHOWN_ROWS)
            except OffloadError as error:  # what was found so far must not be lost
                show_error(str(error))
    if as_json:
        print_json([_document(result, rows) for result in results])
    else:
        _print(results)
        shown = {name for name, _ in rows}
        columns = {
            table.name: [column.name for column in compared_columns(tiers, table)]
            for table in chosen
            if table.name in shown
        }
        for result in results:
            for day in result.differing:
                _print_rows(day, columns.get(result.table, []), rows.get((result.table, day.scope.day), []))
        _print_findings(results)
    return all(result.equal for result in results)


def _document(result: TableComparison, rows: Differing) -> dict[str, object]:
    return {
        "table": result.table,
        "warm_rows": result.warm_rows,
        "cold_rows": result.cold_rows,
        "warm_hash": str(result.warm_hash),
        "cold_hash": str(result.cold_hash),
        "equal": result.equal,
        **window_document(result.window),
        "problem": result.problem,
        "differing_days": [
            day_document(day)
            | {
                "rows": [
                    {"kind": str(row.kind), "times": row.times, "values": row.values}
                    for row in rows.get((result.table, day.scope.day), ())
                ]
            }
            for day in result.differing
        ],
    }


def _print(results: Sequence[TableComparison]) -> None:
    shown = number_table(["table"], ["warm rows", "cold rows"], ["content hash", "equal", "compared (UTC)"])
    for result in results:
        window = result.window
        same = result.warm_hash == result.cold_hash
        hashes = f"{result.cold_hash:016x}" if same else f"{result.warm_hash:016x} ≠ {result.cold_hash:016x}"
        nothing = "nothing offloaded of these days" if result.problem is None else "not compared, see below"
        shown.add_row(
            result.table,
            show_number(result.warm_rows),
            show_number(result.cold_rows),
            hashes if window else UNKNOWN,
            (PASSED if window else UNKNOWN) if result.equal else FAILED,
            show_window(window.low, window.high) if window else nothing,
        )
    show_table(shown)


def _print_rows(day: DayComparison, columns: Sequence[str], rows: Sequence[DifferingRow]) -> None:
    if not rows:
        return
    shown = number_table(["row"], ["times"], columns)
    for row in rows:
        shown.add_row(str(row.kind), show_number(row.times), *map(_cell, row.values))
    screen.print(f"\n[bold]{day.table} {day.scope.day}[/bold]")
    show_table(shown)
    more = day.late_rows + day.gone_rows - sum(row.times for row in rows)
    if more > 0:
        screen.print(f"and {more:,} more")


def _cell(value: str | None) -> str:
    if value is None:
        return "[dim]NULL[/dim]"
    return escape(value if len(value) <= _LONGEST_VALUE else value[:_LONGEST_VALUE] + "…")


def _print_findings(results: Sequence[TableComparison]) -> None:
    for result in results:
        if result.problem is not None:
            show_error(result.problem)
        for day in result.differing:
            show_error(describe(day, day.obstacle()))
    unsure = [sentence for result in results for sentence in describe_unsure(result.table, result.days)]
    for sentence in unsure:
        screen.print(sentence, markup=False, soft_wrap=True)
    if unsure or not any(result.window for result in results):
        return
    if all(result.equal for result in results):
        compared = sum(result.window is not None for result in results)
        said = f"all {compared} tables equal" if len(results) > 1 else "equal"
        if left := len(results) - compared:
            said = f"{compared} tables equal; of {left} others, there was nothing to compare"
        screen.print(f"[green]{said}[/green]")


def _check_cold(
    tiers: Tiers, chosen: Sequence[TableSpec], days: tuple[date | None, date | None], as_json: bool
) -> bool:
    results = [
        check_cold(tiers, table, *days, partial(with_progress, f"reading {table}"))
        for table in with_progress("reading", chosen)
    ]
    if as_json:
        print_json([_cold_document(result) for result in results])
    else:
        _print_cold(results)
    return not any(result.findings for result in results)


def _cold_document(result: ColdCheck) -> dict[str, object]:
    return {
        "table": result.table,
        "exists": result.exists,
        "files": result.files,
        "bytes": result.size_bytes,
        "rows": result.rows,
        "passed": not result.findings,
        "findings": result.findings,
        "notes": result.notes,
    }


def _print_cold(results: Sequence[ColdCheck]) -> None:
    shown = number_table(["table"], ["files", "size", "rows"], ["sound"])
    for result in results:
        numbers = (show_number(result.files), show_bytes(result.size_bytes), show_number(result.rows))
        shown.add_row(result.table, *numbers, FAILED if result.findings else PASSED)
    show_table(shown)
    for result in results:
        show_found(result.notes, result.findings)
    if any(result.files for result in results) and not any(result.findings for result in results):
        screen.print("[green]all files are there, whole, and as they were registered[/green]")
