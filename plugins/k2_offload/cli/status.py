"""``k2 status``: where every table stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Annotated

import typer

from k2_offload.adapters.ledger import TableRecord
from k2_offload.cli.console import (
    UNKNOWN,
    Json,
    Layer,
    Tables,
    command,
    number_table,
    print_json,
    progress,
    show_duration,
    show_number,
    show_table,
    show_time,
)
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import TICK, format_time
from k2_offload.cycle import Cycle
from k2_offload.session import open_cycle


@dataclass(frozen=True)
class TableStatus:
    """One line of the screen.

    :param lag: from the watermark to the source's newest row; a quiet market is no lag
    """

    table: TableSpec
    record: TableRecord | None
    watermark: datetime | None
    lag: timedelta | None
    warm_rows: int | None
    cold_rows: int | None


@command
def status(
    tables: Tables = None,
    layer: Layer = None,
    counts: Annotated[bool, typer.Option(help="Count the warm tier's rows.")] = True,
    json: Json = False,
) -> None:
    """Show watermark, lag, last window and rows of every table.

    Lag is measured against the newest row in ClickHouse. All times are UTC, windows half-open.

    Example: [bold]k2 status --layer gold[/bold]
    """
    with open_cycle("status") as cycle, progress("looking"):
        cycle.ledger.create_schema()
        records = cycle.ledger.read_tables()
        lines = [
            read_status(cycle, table, records.get(table.name), counts)
            for table in cycle.tables.select(tables or [], layer)
        ]
    if json:
        print_json([_document(line) for line in lines])
    else:
        _print(lines)


def read_status(cycle: Cycle, table: TableSpec, record: TableRecord | None, counts: bool) -> TableStatus:
    """Look at one table in all three places."""
    cold = cycle.catalog.load(table)
    watermark = watermark_of(cold.published) if cold and cold.published else None
    newest = cycle.clickhouse.newest_row(table)
    lag = None
    if newest is not None and watermark is not None:
        lag = max(newest + TICK - watermark, timedelta(0))
    warm_rows = cycle.clickhouse.count(table) if counts else None
    return TableStatus(table, record, watermark, lag, warm_rows, cold.total_rows if cold else 0)


def _document(line: TableStatus) -> dict[str, object]:
    record = line.record
    window = record if record and record.low else None
    return {
        "table": line.table.name,
        "layer": line.table.layer,
        "watermark": format_time(line.watermark) if line.watermark else None,
        "lag_seconds": line.lag.total_seconds() if line.lag is not None else None,
        "status": record.status if record else "initialized",
        "window_low": format_time(window.low) if window and window.low else None,
        "window_high": format_time(window.high) if window and window.high else None,
        "window_state": window.state if window else None,
        "window_rows": window.rows if window else None,
        "seconds": record.last_run_duration_seconds if record else None,
        "warm_rows": line.warm_rows,
        "cold_rows": line.cold_rows,
    }


def _print(lines: list[TableStatus]) -> None:
    shown = number_table(
        "", ["table", "status", "watermark"], ["lag", "window rows", "seconds", "warm rows", "cold rows"]
    )
    for line in lines:
        record = line.record
        state = record.status if record else "initialized"
        colour = {"success": "green", "failed": "red", "running": "yellow"}.get(state, "dim")
        shown.add_row(
            line.table.name,
            f"[{colour}]{state}[/{colour}]",
            show_time(line.watermark),
            show_duration(line.lag),
            show_number(record.rows if record else None),
            f"{record.last_run_duration_seconds:.1f}" if record and record.last_run_duration_seconds else UNKNOWN,
            show_number(line.warm_rows),
            show_number(line.cold_rows),
        )
    show_table(shown)
