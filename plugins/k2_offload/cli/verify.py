"""``k2 verify`` compares the rows of both tiers."""

from __future__ import annotations

import typer

from k2_offload.cli.console import (
    FAILED,
    FINDING,
    PASSED,
    JsonOption,
    LayerOption,
    TablesArgument,
    command,
    number_table,
    print_json,
    screen,
    show_error,
    show_table,
    window_document,
    with_progress,
)
from k2_offload.core.comparison import Comparison
from k2_offload.core.text import UNKNOWN, show_number, show_window
from k2_offload.work.compare import compare
from k2_offload.work.tiers import open_tiers


@command
def verify(tables: TablesArgument = None, layer: LayerOption = None, as_json: JsonOption = False) -> None:
    """Compare counts and content hashes, warm against cold, for everything below the watermark.

    Both sides are computed by ClickHouse over whole rows; rows that the warm tier's TTL may have removed are left out.
    Exit code 0 only if every table is equal.

    Example: [bold]k2 verify silver_trades --json[/bold]
    """
    with open_tiers() as tiers:
        chosen = tiers.tables.select(tables or [], layer)
        results = [compare(tiers, table) for table in with_progress("comparing", chosen)]
    if as_json:
        print_json([_document(result) for result in results])
    else:
        _print(results)
    if not all(result.equal for result in results):
        raise typer.Exit(FINDING)


def _document(result: Comparison) -> dict[str, object]:
    return {
        "table": result.table,
        "warm_rows": result.warm_rows,
        "cold_rows": result.cold_rows,
        "warm_hash": str(result.warm_hash),
        "cold_hash": str(result.cold_hash),
        "equal": result.equal,
        **window_document(result.window),
        "problem": result.problem,
    }


def _print(results: list[Comparison]) -> None:
    shown = number_table(["table"], ["warm rows", "cold rows"], ["content hash", "equal", "compared (UTC)"])
    for result in results:
        window = result.window
        hashes = f"{result.cold_hash:016x}" if result.equal else f"{result.warm_hash:016x} ≠ {result.cold_hash:016x}"
        nothing = "nothing offloaded within the TTL" if result.problem is None else "not compared, see below"
        shown.add_row(
            result.table,
            show_number(result.warm_rows),
            show_number(result.cold_rows),
            hashes if window else UNKNOWN,
            PASSED if result.equal else FAILED,
            show_window(window.low, window.high) if window else nothing,
        )
    show_table(shown)
    for result in results:
        if not result.equal:
            show_error(result.problem or _difference(result))
    if all(result.equal for result in results):
        screen.print(f"[green]all {len(results)} tables equal[/green]" if len(results) > 1 else "[green]equal[/green]")


def _difference(result: Comparison) -> str:
    missing = result.warm_rows - result.cold_rows
    if missing > 0:
        return f"{result.table}: {missing:,} rows more in ClickHouse: late rows, or rows that the cold table has lost."
    if missing < 0:
        return f"{result.table}: {-missing:,} rows more in the cold table: rows deleted in ClickHouse, or duplicates."
    return f"{result.table}: as many rows, but not the same ones: rows changed after they were moved."
