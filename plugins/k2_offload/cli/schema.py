"""``k2 schema`` shows the columns of both sides, and lets the cold side follow."""

from __future__ import annotations

from collections.abc import Sequence
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
    show_table,
)
from k2_offload.cli.options import JsonOption, YesOption, confirmed
from k2_offload.core.errors import OffloadError
from k2_offload.core.schema_change import ColumnPair, describe
from k2_offload.work.schema import TableSchema, apply, read_schema, stop_filling
from k2_offload.work.tiers import Tiers, open_tiers

_NONE = "[dim]-[/dim]"

TableArgument = Annotated[str | None, typer.Argument(metavar="TABLE", help="Which table; all when none is named.")]
ApplyOption = Annotated[bool, typer.Option("--apply", help="Change the cold table now, as the next cycle would.")]
StopOption = Annotated[
    str | None,
    typer.Option(
        "--stop-filling", metavar="COLUMN", help="Leave this column of the cold table NULL from here on, for good."
    ),
]


@command
def schema(
    table: TableArgument = None,
    apply_now: ApplyOption = False,
    stop: StopOption = None,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the columns of both sides of each table, and how the cold table will follow its source.

    New columns, wider types and columns that may be NULL now are followed by the next cycle. Anything else stops the
    table until a person has chosen. Exit code 1 if a table is stopped.

    Example: [bold]k2 schema silver_trades --apply[/bold]
    """
    if (apply_now or stop) and table is None:
        raise typer.BadParameter("--apply and --stop-filling need the name of a table")
    with open_tiers() as tiers:
        if apply_now or stop:
            tiers.ledger.migrate()
        if table is not None and stop is not None:
            _stop(tiers, table, stop, yes=yes, quiet=as_json)
        if table is not None and apply_now:
            done = apply(tiers, tiers.tables[table])
            if not as_json:
                screen.print(f"{PASSED} {table}: {escape(', '.join(map(str, done)) or 'nothing to change')}")
        shown: list[TableSchema] = []
        problems: list[str] = []
        for spec in tiers.tables.select([table] if table else []):
            try:
                shown.append(read_schema(tiers, spec))
            except OffloadError as error:
                problems.append(str(error))
    problems += [refusal for each in shown for refusal in each.refusals]
    if as_json:
        print_json([_document(each) for each in shown])
    else:
        _print(shown, one=table is not None)
    for problem in problems:
        show_error(problem)
    if problems:
        raise typer.Exit(FINDING)


def _stop(tiers: Tiers, table: str, column: str, *, yes: bool, quiet: bool) -> None:
    if not yes:
        confirmed(
            f"{table}: '{column}' will be NULL in all rows from now on, for good; rows that are cold keep their "
            "values, and their days can no longer be healed. Go on?",
            as_json=quiet,
        )
    stopped = stop_filling(tiers, tiers.tables[table], column)
    if not quiet:
        screen.print(f"{PASSED} {table}: '{escape(column)}' is {'' if stopped else 'already '}not filled any more")


def _print(tables: Sequence[TableSchema], *, one: bool) -> None:
    names = ["column", "ClickHouse", "becomes", "cold table", "what is done"]
    for each in tables:
        waits = each.window_open and any(change.waits for change in each.changes)
        state = "new columns wait for the open window" if waits else ""
        if not one and each.exists and not each.changes and not each.refusals:
            screen.print(f"{PASSED} [bold]{each.table.name}[/bold]  {len(each.columns)} columns", soft_wrap=True)
            continue
        mark = FAILED if each.refusals else PASSED
        screen.print(f"{mark} [bold]{each.table.name}[/bold]  {state}".rstrip(), soft_wrap=True)
        shown = number_table(names, [])
        for pair in each.columns:
            shown.add_row(*_cells(pair, exists=each.exists))
        show_table(shown)
        screen.print()


def _cells(pair: ColumnPair, *, exists: bool) -> tuple[str, ...]:
    source, cold = pair.source, pair.cold
    what = describe(pair) if exists else "made by the first cycle"
    return (
        escape(pair.name),
        escape(source.source_type or "") if source else _NONE,
        _type(source.iceberg_type, source.nullable) if source else _NONE,
        _type(cold.iceberg_type, cold.nullable) if cold else _NONE,
        f"[red]{what}[/red]" if pair.refusal else f"[yellow]{what}[/yellow]" if pair.changes else what,
    )


def _type(iceberg_type: str, nullable: bool) -> str:
    return escape(iceberg_type) + (", NULL" if nullable else "")


def _document(schema: TableSchema) -> dict[str, object]:
    return {
        "table": schema.table.name,
        "exists": schema.exists,
        "window_open": schema.window_open,
        "changes": [str(change) for change in schema.changes],
        "refusals": schema.refusals,
        "columns": [
            {
                "name": pair.name,
                "clickhouse": pair.source.source_type if pair.source else None,
                "becomes": pair.source.iceberg_type if pair.source else None,
                "cold": pair.cold.iceberg_type if pair.cold else None,
                "cold_nullable": pair.cold.nullable if pair.cold else None,
                "state": describe(pair),
            }
            for pair in schema.columns
        ],
    }
