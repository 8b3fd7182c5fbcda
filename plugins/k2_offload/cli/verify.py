"""``k2 verify`` compares the rows of both tiers."""

from __future__ import annotations

import typer

from k2_offload.cli.console import (
    FINDING,
    UNKNOWN,
    Json,
    Layer,
    Tables,
    command,
    number_table,
    print_json,
    progress,
    screen,
    show_number,
    show_table,
    show_time,
)
from k2_offload.core import queries
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.tables import TableSpec
from k2_offload.core.verification import Comparison, cold_table_function, window_to_verify
from k2_offload.core.windows import format_time
from k2_offload.cycle import Cycle
from k2_offload.session import open_cycle


@command
def verify(tables: Tables = None, layer: Layer = None, json: Json = False) -> None:
    """Compare counts and content hashes, warm against cold, for everything below the watermark.

    Both sides are computed by ClickHouse over whole rows; rows that the warm tier's TTL may have removed are left out.
    Exit code 0 only if every table is equal.

    Example: [bold]k2 verify silver_trades --json[/bold]
    """
    with open_cycle("verify") as cycle, progress("verifying") as update:
        results = []
        for table in cycle.tables.select(tables or [], layer):
            update(f"verifying {table.name}")
            results.append(compare(cycle, table))
    if json:
        print_json([_document(result) for result in results])
    else:
        _print(results)
    if not all(result.equal for result in results):
        raise typer.Exit(FINDING)


def compare(cycle: Cycle, table: TableSpec) -> Comparison:
    """Compare one table as it is now."""
    cold = cycle.catalog.load(table)
    window = window_to_verify(watermark_of(cold.published if cold else None), table.warm_retention, cycle.now())
    if cold is None or window is None:
        return Comparison(table.name, None)
    columns = cycle.clickhouse.columns(table)
    reader = cold_table_function(cold.location, cold.metadata_location, cycle.lake_collection)
    [(warm_rows, warm_hash)] = cycle.clickhouse.execute(queries.warm_hash(table, columns, window))
    [(cold_rows, cold_hash)] = cycle.clickhouse.execute(queries.cold_hash(table, columns, window, reader))
    return Comparison(table.name, window, warm_rows, cold_rows, warm_hash, cold_hash)


def _document(result: Comparison) -> dict[str, object]:
    return {
        "table": result.table,
        "warm_rows": result.warm_rows,
        "cold_rows": result.cold_rows,
        "warm_hash": str(result.warm_hash),
        "cold_hash": str(result.cold_hash),
        "equal": result.equal,
        "low": format_time(result.window.low) if result.window else None,
        "high": format_time(result.window.high) if result.window else None,
    }


def _print(results: list[Comparison]) -> None:
    shown = number_table("", ["table"], ["warm rows", "cold rows", "content hash"], names_after=["equal", "compared"])
    for result in results:
        window = result.window
        same = "[green]✓[/green]" if result.equal else "[red]✗ differs[/red]"
        shown.add_row(
            result.table,
            show_number(result.warm_rows),
            show_number(result.cold_rows),
            f"{result.cold_hash:016x}" if window else UNKNOWN,
            same,
            f"{show_time(window.low)} … {show_time(window.high)}" if window else "nothing offloaded yet",
        )
    show_table(shown)
    differing = [result.table for result in results if not result.equal]
    screen.print(
        f"[red]{len(differing)} of {len(results)} tables differ: {', '.join(differing)}[/red]"
        if differing
        else f"[green]all {len(results)} tables equal[/green]"
    )
