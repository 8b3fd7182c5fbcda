"""``k2 watermark``: what the cold table says against what the ledger says, and how to accept or change the former."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from k2_offload.adapters.iceberg import ColdTable
from k2_offload.adapters.ledger import TableRecord
from k2_offload.cli.console import (
    FINDING,
    UNKNOWN,
    JsonOption,
    command,
    errors,
    number_table,
    print_json,
    screen,
    show_error,
    show_number,
    show_table,
    show_window,
)
from k2_offload.cli.watermark_set import DryRunOption, TableArgument, YesOption, confirmed, set_watermark
from k2_offload.core.errors import DamagedTable
from k2_offload.core.exactly_once import FIRST_WATERMARK, Published, WindowId, adopted, watermark_of
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import format_time
from k2_offload.cycle import Cycle
from k2_offload.session import open_cycle

app = typer.Typer(help="Look at a table's watermark, rebuild it from the cold table, or set it.", no_args_is_help=True)
app.command("set")(set_watermark)


@dataclass(frozen=True)
class Found:
    """What the cold table says of itself.

    :param cold: ``None`` if there is no such table yet
    :param published: its newest window
    :param adopt: the window it holds all the same, where its history cannot say
    :param problem: why its history cannot say
    """

    cold: ColdTable | None
    published: Published | None = None
    adopt: WindowId | None = None
    problem: str | None = None

    @property
    def watermark(self) -> str:
        """Where the next cycle goes on after a rebuild."""
        return format_time(self.adopt.window.high if self.adopt else watermark_of(self.published))


@app.command("show")
@command
def show(table: TableArgument, as_json: JsonOption = False) -> None:
    """Show what the cold table holds and what the ledger believes. Changes nothing.

    Exit code 1 if the two differ, or if the cold table's history cannot say.

    Example: [bold]k2 watermark show silver_trades[/bold]
    """
    with open_cycle("watermark") as cycle:
        spec = cycle.tables[table]
        cycle.ledger.create_schema()
        record = cycle.ledger.read_tables().get(table)
        found = _look(cycle, spec)
    differs = found.problem or _difference(table, found, record)
    if as_json:
        print_json(_document(table, found, record) | {"problem": differs})
    else:
        _print(found, record)
    if differs:
        show_error(differs)
        raise typer.Exit(FINDING)


@app.command("rebuild")
@command
def rebuild(
    table: TableArgument,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Accept the cold table as it is, and set the ledger's watermark to what it holds.

    For a cold table that was dropped and recreated, or whose snapshots were expired past its last offloaded window.
    Where its history does not say what it holds, its newest row does. No row is touched, in neither tier.

    Example: [bold]k2 watermark rebuild silver_trades --dry-run[/bold]
    """
    with open_cycle("watermark") as cycle:
        spec = cycle.tables[table]
        cycle.ledger.create_schema()
        found = _look(cycle, spec)
        if not as_json:
            _print(found, cycle.ledger.read_tables().get(table))
            screen.print(_explain(found), soft_wrap=True)
        if not dry_run and (yes or confirmed("Accept that?")):
            _accept(cycle, spec, found)
        if as_json:
            print_json(_document(table, found, cycle.ledger.read_tables().get(table)))
        elif not dry_run:
            screen.print(f"[green]✓[/green] {table}: the watermark is {found.watermark}")


def _look(cycle: Cycle, table: TableSpec) -> Found:
    cold = cycle.catalog.load(table)
    if cold is None:
        return Found(None)
    try:
        return Found(cold, cold.published)
    except DamagedTable as error:
        with errors.status("reading the cold table for its newest row"):
            newest = cold.newest_row(table.timestamp_column)
        return Found(cold, None, adopted(cold.uuid, newest) if newest else None, str(error))


def _accept(cycle: Cycle, table: TableSpec, found: Found) -> None:
    if found.cold is not None and found.adopt is not None:
        found.cold.adopt(found.adopt)
    with cycle.ledger.locked(table.name) as locked:
        locked.forget_cold_table()
    cycle.commit(table)


def _explain(found: Found) -> str:
    if found.cold is None:
        return "There is no cold table. The next cycle creates it and moves everything that ClickHouse has."
    if found.adopt is not None:
        return (
            "The cold table's history does not say what it holds, so its newest row does: the next cycle goes on at "
            f"{found.watermark}. A snapshot without rows records that."
        )
    if found.published is None:
        return "The cold table is empty. The next cycle moves everything that ClickHouse has."
    return f"The next cycle goes on at {found.watermark}."


def _difference(table: str, found: Found, record: TableRecord | None) -> str | None:
    """What a person should look at, if anything."""
    if found.cold is None or record is None or record.table_uuid is None:
        return None
    if found.cold.uuid != record.table_uuid:
        return (
            f"{table}: the cold table was dropped and recreated since the ledger last looked. Nothing is lost yet. If "
            f"that was meant, run `k2 watermark rebuild {table}`."
        )
    if record.watermark != watermark_of(found.published):
        return f"{table}: the ledger says another watermark. The next cycle sets it to what the cold table holds."
    return None


def _document(table: str, found: Found, record: TableRecord | None) -> dict[str, object]:
    published = found.published
    opened = record if record and record.state == "open" else None
    return {
        "table": table,
        "cold_watermark": found.watermark if found.cold else None,
        "cold_table_uuid": found.cold.uuid if found.cold else None,
        "snapshot_id": str(published.snapshot.snapshot_id) if published else None,
        "ledger_watermark": format_time(record.watermark) if record and record.watermark else None,
        "ledger_table_uuid": record.table_uuid if record else None,
        "open_window_low": format_time(opened.low) if opened and opened.low else None,
        "open_window_high": format_time(opened.high) if opened and opened.high else None,
    }


def _print(found: Found, record: TableRecord | None) -> None:
    shown = number_table(["", "cold table", "ledger"], [])
    cold, published = found.cold, found.published
    window = published.window_id.window if published else None
    followed = record.watermark if record and record.watermark != FIRST_WATERMARK else None
    shown.add_row(
        "watermark",
        format_time(watermark_of(published)) if published else UNKNOWN,
        format_time(followed) if followed else UNKNOWN,
    )
    shown.add_row(
        "last window",
        show_window(window.low, window.high) if window else UNKNOWN,
        show_window(record.low, record.high) + (f", {record.state}" if record.state else "") if record else UNKNOWN,
    )
    shown.add_row(
        "its rows",
        show_number(published.snapshot.rows if published else None),
        show_number(record.rows if record else None),
    )
    shown.add_row("all rows", show_number(cold.total_rows if cold else None), "")
    shown.add_row("table UUID", cold.uuid if cold else UNKNOWN, (record.table_uuid if record else None) or UNKNOWN)
    show_table(shown)
