"""``k2 watermark``: what the cold table says against what the ledger says, and how to accept or change the former."""

from __future__ import annotations

import typer
from rich.markup import escape

from k2_offload.adapters.ledger_records import TableRecord
from k2_offload.cli.console import (
    FINDING,
    PASSED,
    command,
    errors,
    number_table,
    print_json,
    screen,
    show_error,
    show_table,
    window_document,
)
from k2_offload.cli.options import DryRunOption, JsonOption, TableArgument, YesOption, confirmed
from k2_offload.cli.watermark_set import set_watermark
from k2_offload.core.exactly_once import FIRST_WATERMARK, watermark_of
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import UNKNOWN, show_number, show_window
from k2_offload.core.windows import format_time
from k2_offload.work.tiers import Tiers, open_tiers
from k2_offload.work.watermarks import ColdReading, accept, difference, read_cold_table

app = typer.Typer(help="Look at a table's watermark, rebuild it from the cold table, or set it.", no_args_is_help=True)
app.command("set")(set_watermark)


@app.command("show")
@command
def show(table: TableArgument, as_json: JsonOption = False) -> None:
    """Show what the cold table holds and what the ledger believes. Changes nothing.

    Exit code 1 if the two differ, or if the cold table's history cannot say.

    Example: [bold]k2 watermark show silver_trades[/bold]
    """
    with open_tiers() as tiers:
        spec = tiers.tables[table]
        record = tiers.ledger.read_tables().get(table)
        found = _read(tiers, spec)
    differs = difference(table, found, record)
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
    with open_tiers() as tiers:
        spec = tiers.tables[table]
        if not dry_run:
            tiers.ledger.migrate()
        found = _read(tiers, spec)
        if not as_json:
            _print(found, tiers.ledger.read_tables().get(table))
            screen.print(_explain(table, found), soft_wrap=True)
        if not dry_run and (yes or confirmed("Accept that?", as_json=as_json)):
            accept(tiers, spec, found)
        if as_json:
            print_json(_document(table, found, tiers.ledger.read_tables().get(table)))
        elif not dry_run:
            screen.print(f"{PASSED} {table}: the watermark is {format_time(found.watermark)}")


def _read(tiers: Tiers, table: TableSpec) -> ColdReading:
    with errors.status("reading the cold table"):
        return read_cold_table(tiers, table)


def _explain(table: str, found: ColdReading) -> str:
    if found.cold is None:
        return (
            "There is no cold table. It is made now, and the next cycle moves everything that ClickHouse has. Files of "
            "an older one in its folder would pass for orphans."
        )
    if found.adopt is not None and found.skipped_rows is not None:
        return (
            "The cold table holds no row, so nothing can come twice: by the new timestamp column, too, the next cycle "
            f"goes on at {format_time(found.watermark)}. [bold]{found.skipped_rows:,} rows[/bold] in ClickHouse that "
            f"lie below it by that are left out, and `k2 backfill {table}` brings them. {_given_up(table, found)}"
            "A snapshot without rows records that."
        )
    if found.adopt is not None and found.old_column is not None:
        unknown = f"An unknown number of rows, as {escape(found.old_column)} has gone from the source,"
        late = unknown if found.late is None else f"[bold]{found.late:,} rows[/bold]"
        return (
            f"The next cycle goes on at {format_time(found.watermark)} by the new timestamp column. "
            f"{late} in ClickHouse that were not moved lie below it: no window moves them. "
            "k2_reconcile heals those of days that ClickHouse holds as a whole; nothing brings the others, and `k2 "
            f"status` does not count them as late. {_given_up(table, found)}A snapshot without rows records where the "
            "table ends."
        )
    if found.adopt is not None:
        return (
            "The cold table's history does not say what it holds, so its newest row does: the next cycle goes on at "
            f"{format_time(found.watermark)}. A snapshot without rows records that. {_given_up(table, found)}Rows that "
            "are there twice are not looked for: where another system has filled the table, use `k2 adopt`."
        )
    if found.published is None:
        return "The cold table is empty. The next cycle moves everything that ClickHouse has."
    return f"The next cycle goes on at {format_time(found.watermark)}."


def _given_up(table: str, found: ColdReading) -> str:
    """What `k2 backfill` cannot bring any more then, if anything; with a space behind it."""
    if not found.given_up:
        return ""
    ranges = "; ".join(
        f"{show_number(each.rows) if each.rows is not None else 'an unknown number of'} rows in "
        f"{show_window(each.low, each.high)}"
        for each in found.given_up
    )
    before = f"To bring them before, put the old column back and run `k2 backfill {table}`. "
    return (
        f"[bold]{ranges}[/bold], left out on purpose, cannot be brought by `k2 backfill {table}` any more, and stay on "
        f"record as missed. {before if found.late is not None else ''}"
    )


def _document(table: str, found: ColdReading, record: TableRecord | None) -> dict[str, object]:
    published = found.published
    opened = record if record and record.state == "open" else None
    return {
        "table": table,
        "cold_watermark": format_time(found.watermark) if found.cold else None,
        "cold_table_uuid": found.cold.uuid if found.cold else None,
        "snapshot_id": str(published.snapshot.snapshot_id) if published else None,
        "ledger_watermark": format_time(record.watermark) if record and record.watermark else None,
        "ledger_table_uuid": record.table_uuid if record else None,
        "open_window_low": format_time(opened.low) if opened and opened.low else None,
        "open_window_high": format_time(opened.high) if opened and opened.high else None,
        "given_up": [{**window_document(each), "rows": each.rows} for each in found.given_up],
    }


def _print(found: ColdReading, record: TableRecord | None) -> None:
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
