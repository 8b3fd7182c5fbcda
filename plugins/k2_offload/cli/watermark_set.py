"""``k2 watermark set`` lets a table begin, or go on, at a later time."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

import typer

from k2_offload.cli.console import PASSED, command, print_json, screen
from k2_offload.cli.options import DryRunOption, JsonOption, TableArgument, YesOption, confirmed, parse_time_argument
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import format_time
from k2_offload.work.tiers import open_tiers
from k2_offload.work.watermarks import Skip, find_skip, skip

TimeArgument = Annotated[
    datetime,
    typer.Argument(
        parser=parse_time_argument, metavar="TIME", help="ISO 8601, UTC unless it names a zone.", show_default=False
    ),
]


@command
def set_watermark(
    table: TableArgument,
    time: TimeArgument,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Begin, or go on, at TIME: rows below it that have not been moved stay in ClickHouse, until its TTL.

    Forward only. A cold table that does not exist yet is created. No row is touched, in neither tier: a snapshot
    without rows says where the table ends.

    Example: [bold]k2 watermark set silver_trades 2026-03-01T12:00:00Z --dry-run[/bold]
    """
    with open_tiers() as tiers:
        spec = tiers.tables[table]
        if not dry_run:
            tiers.ledger.migrate()
        found = find_skip(tiers, spec, time)
        if not as_json:
            screen.print(_explain(spec, found, time), soft_wrap=True)
        changed = found.window is not None and not dry_run and (yes or confirmed("Set it?", as_json=as_json))
        if changed:
            skip(tiers, spec, found)
    if as_json:
        print_json(
            {
                "table": table,
                "watermark_before": format_time(found.watermark),
                "watermark": format_time(time),
                "rows_left_in_clickhouse": found.rows,
                "changed": changed,
            }
        )
    elif changed:
        screen.print(f"{PASSED} {table}: the watermark is {format_time(time)}")


def _explain(table: TableSpec, found: Skip, time: datetime) -> str:
    if found.window is None:
        return f"{table.name}: the watermark is {format_time(time)} already. There is nothing to change."
    creation = "" if found.cold else " The cold table does not exist yet and will be created."
    return (
        f"{table.name}: the watermark will go from {format_time(found.watermark)} to {format_time(time)}.{creation}\n"
        f"{found.rows:,} rows in ClickHouse lie between. They will [bold]not be moved[/bold]: they stay in ClickHouse "
        f"until its TTL ({table.warm_retention_text}), and `k2 status` counts them as late."
    )
