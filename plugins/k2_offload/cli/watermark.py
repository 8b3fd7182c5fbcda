"""``k2 watermark``: what the cold table says against what the ledger says, and how to accept the former."""

from __future__ import annotations

from typing import Annotated

import typer

from k2_offload.cli.console import UNKNOWN, Json, command, errors, print_json, screen
from k2_offload.core.exactly_once import LedgerEntry, Published, watermark_of
from k2_offload.core.windows import format_time
from k2_offload.session import open_cycle

app = typer.Typer(help="Look at a table's watermark, or rebuild it from the cold table.", no_args_is_help=True)
Table = Annotated[str, typer.Argument(help="The table's name in the table file.")]


@app.command("show")
@command
def show(table: Table, json: Json = False) -> None:
    """Show what the cold table holds and what the ledger believes. Changes nothing.

    Example: [bold]k2 watermark show silver_trades[/bold]
    """
    with open_cycle("watermark") as cycle:
        spec = cycle.tables[table]
        cycle.ledger.create_schema()
        with cycle.ledger.locked(table) as locked:
            entry = locked.entry()
        cold = cycle.catalog.load(spec)
        _print(table, cold.uuid if cold else None, cold.published if cold else None, entry, json)


@app.command("rebuild")
@command
def rebuild(
    table: Table,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be set, and change nothing.")] = False,
) -> None:
    """Accept the cold table as it is, and set the ledger's watermark to what it holds.

    For a cold table that was dropped and recreated, or whose snapshots were expired past its last offloaded window.
    No row is touched, in neither tier: the next cycle goes on from the watermark shown.

    Example: [bold]k2 watermark rebuild silver_trades --dry-run[/bold]
    """
    with open_cycle("watermark") as cycle:
        spec = cycle.tables[table]
        cold = cycle.catalog.load(spec)
        marker = cold.newest_window() if cold else None
        screen.print(f"The cold table ends at {format_time(watermark_of(marker))}; the next cycle goes on from there.")
        if dry_run:
            return
        if not yes and not typer.confirm("Set the watermark to that?"):
            errors.print("Nothing was changed.")
            raise typer.Exit(1)
        if cold is not None and marker is not None:
            cold.mark_published(marker)
        with cycle.ledger.locked(table) as locked:
            entry = locked.entry()
            if entry.open_window is not None:
                locked.abandon(entry.open_window)
            if cold is None:
                locked.forget_cold_table()
            else:
                locked.follow(cold.uuid, marker)
        screen.print(f"[green]✓[/green] {table}: watermark set to {format_time(watermark_of(marker))}")


def _print(table: str, table_uuid: str | None, published: Published | None, entry: LedgerEntry, json: bool) -> None:
    values = {
        "table": table,
        "cold_watermark": format_time(watermark_of(published)),
        "cold_table_uuid": table_uuid,
        "snapshot_id": str(published.snapshot.snapshot_id) if published else None,
        "ledger_watermark": format_time(entry.watermark) if entry.watermark else None,
        "ledger_table_uuid": entry.table_uuid,
        "open_window": str(entry.open_window.window) if entry.open_window else None,
    }
    if json:
        print_json(values)
    else:
        for name, value in values.items():
            screen.print(f"{name:<18} {UNKNOWN if value is None else value}")
