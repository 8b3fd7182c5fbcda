"""``k2 status`` shows where every table stands."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Annotated

import typer

from k2_offload.adapters.iceberg import ColdTable
from k2_offload.adapters.ledger import TableRecord
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
    with_progress,
)
from k2_offload.core import queries
from k2_offload.core.errors import OffloadError, Unreachable
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.lag import lag
from k2_offload.core.late_rows import late_rows
from k2_offload.core.tables import TableSpec
from k2_offload.core.verification import window_to_verify
from k2_offload.core.windows import format_time
from k2_offload.cycle import Cycle
from k2_offload.session import open_cycle

_COLOURS = {"success": "green", "failed": "red", "running": "yellow"}


@dataclass(frozen=True)
class TableStatus:
    """Where one table stands, in all three places.

    :param record: what the ledger says
    :param watermark: what the cold table says
    :param lag: see :func:`k2_offload.core.lag.lag`
    :param late: see :func:`k2_offload.core.late_rows.late_rows`
    :param problem: why the table could not be looked at; what is not known is ``None`` then
    """

    table: TableSpec
    record: TableRecord | None
    watermark: datetime | None = None
    lag: timedelta | None = None
    warm_rows: int | None = None
    cold_rows: int | None = None
    late: dict[date, int] | None = None
    problem: str | None = None

    @property
    def late_rows(self) -> int | None:
        """Late rows of all days."""
        return None if self.late is None else sum(self.late.values())


@command
def status(
    tables: TablesArgument = None,
    layer: LayerOption = None,
    counts: Annotated[bool, typer.Option("--counts/--no-counts", help="Count warm and late rows.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Show watermark, lag, last window and rows of every table.

    "moved" and "took" are the last window's rows and seconds. Lag is measured against the newest row in ClickHouse: a
    quiet market is no lag. Late rows came below the watermark: no cycle moves them. All times are UTC. Exit code 1 if a
    table cannot be looked at.

    Example: [bold]k2 status --layer gold[/bold]
    """
    with open_cycle("status") as cycle:
        chosen = cycle.tables.select(tables or [], layer)
        cycle.ledger.create_schema()
        records = cycle.ledger.read_tables()
        lines = [
            read_status(cycle, table, records.get(table.name), counts) for table in with_progress("looking at", chosen)
        ]
    if as_json:
        print_json([_document(line) for line in lines])
    else:
        _print(lines)
    problems = [line.problem for line in lines if line.problem is not None]
    for problem in problems:
        show_error(problem)
    if problems:
        raise typer.Exit(FINDING)


def read_status(cycle: Cycle, table: TableSpec, record: TableRecord | None, counts: bool) -> TableStatus:
    """Look at one table; what is wrong with it alone becomes its ``problem``.

    :raises Unreachable: if a service is down
    """
    try:
        cold = cycle.catalog.load(table)
        watermark = watermark_of(cold.published) if cold and cold.published else None
        cycle.clickhouse.columns(table)
        return TableStatus(
            table,
            record,
            watermark,
            lag(watermark, cycle.clickhouse.newest_row(table, before=cycle.now())),
            cycle.clickhouse.count(table) if counts else None,
            cold.total_rows if cold else 0,
            _find_late_rows(cycle, table, cold) if counts else None,
        )
    except Unreachable:
        raise
    except OffloadError as error:
        return TableStatus(table, record, problem=str(error))


def _find_late_rows(cycle: Cycle, table: TableSpec, cold: ColdTable | None) -> dict[date, int] | None:
    watermark = watermark_of(cold.published if cold else None)
    window = window_to_verify(watermark, table.warm_retention, cycle.now())
    if cold is None or window is None:
        return {}
    since = window.low.date()
    cold_rows = cold.rows_per_day(table.partition_column, since)
    if cold_rows is None:
        return None
    return late_rows(cycle.clickhouse.rows_per_day(queries.rows_per_day(table, window)), cold_rows, since)


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
        "problem": line.problem,
    }


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
