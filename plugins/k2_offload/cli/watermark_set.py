"""``k2 watermark set`` lets a table begin, or go on, at a later time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from k2_offload.adapters.iceberg import ColdTable
from k2_offload.cli.console import FINDING, JsonOption, command, errors, print_json, screen
from k2_offload.core.errors import DamagedTable, OffloadError
from k2_offload.core.exactly_once import WindowId, decide_publish, watermark_of
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import Window, format_time
from k2_offload.cycle import Cycle
from k2_offload.session import open_cycle

_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d(:\d\d(\.\d{1,6})?)?(Z|[+-]\d\d:\d\d)?)?", re.ASCII)


def parse_instant(text: str | datetime) -> datetime:
    """A time from the command line; one without a zone is UTC, as everywhere here.

    :raises typer.BadParameter: if it is no time
    """
    if isinstance(text, datetime):  # as click passes a value that it has converted before
        return text
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        time = datetime.fromisoformat(text)
        return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise typer.BadParameter(
            f"'{text}' is no time in ISO 8601 to the microsecond, such as 2026-03-01 or 2026-03-01T12:00:00Z (UTC)"
        ) from None


TableArgument = Annotated[str, typer.Argument(help="The table's name in the table file.", show_default=False)]
TimeArgument = Annotated[
    datetime,
    typer.Argument(
        parser=parse_instant, metavar="TIME", help="ISO 8601, UTC unless it names a zone.", show_default=False
    ),
]
YesOption = Annotated[bool, typer.Option("--yes", help="Do not ask.")]
DryRunOption = Annotated[bool, typer.Option("--dry-run", help="Show what would be set, and change nothing.")]


@dataclass(frozen=True)
class Found:
    """Where the table stands before.

    :param cold: ``None`` if there is no such table yet
    :param columns: of its source
    :param skipped: what is to count as moved though it is not; ``None`` if the watermark is there already
    :param rows: how many ClickHouse has in it
    """

    cold: ColdTable | None
    columns: tuple[Column, ...]
    watermark: datetime
    skipped: Window | None
    rows: int


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
    with open_cycle("watermark") as cycle:
        spec = cycle.tables[table]
        cycle.ledger.create_schema()
        found = _look(cycle, spec, time)
        if not as_json:
            screen.print(_explain(spec, found, time), soft_wrap=True)
        changed = found.skipped is not None and not dry_run and (yes or confirmed("Set it?"))
        if changed and found.skipped is not None:
            _adopt(cycle, spec, found, found.skipped)
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
        screen.print(f"[green]✓[/green] {table}: the watermark is {format_time(time)}")


def confirmed(question: str) -> bool:
    """Whether a person agrees.

    :raises typer.Exit: otherwise, or if there is nobody to ask
    """
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:
        errors.print()
        agreed = False
    if not agreed:
        errors.print("Nothing was changed. --yes answers in advance.")
        raise typer.Exit(FINDING)
    return True


def _look(cycle: Cycle, table: TableSpec, time: datetime) -> Found:
    """What would happen.

    :raises OffloadError: if that is not possible, or not safe
    """
    columns = cycle.clickhouse.columns(table)
    now = cycle.clickhouse.now()
    if time > now:
        raise OffloadError(
            f"{table.name}: {format_time(time)} is in the future; ClickHouse's clock says {format_time(now)}. "
            "Nothing was changed."
        )
    cold = cycle.catalog.load(table)
    record = cycle.ledger.read_tables().get(table.name)
    if record and record.table_uuid and record.table_uuid != (cold.uuid if cold else None):
        raise DamagedTable(
            f"{table.name}: the cold table that the ledger has followed was dropped. Nothing was changed. If that was "
            f"meant, run first `k2 watermark rebuild {table.name}`."
        )
    watermark = watermark_of(cold.published if cold else None)
    if cold is not None and time < watermark:
        raise OffloadError(_refusal_to_go_back(table, cold, watermark, time, now))
    skipped = Window(watermark, time) if watermark < time else None
    rows = sum(cycle.clickhouse.rows_per_hour(table, skipped).rows.values()) if skipped else 0
    return Found(cold, columns, watermark, skipped, rows)


def _refusal_to_go_back(table: TableSpec, cold: ColdTable, watermark: datetime, time: datetime, now: datetime) -> str:
    message = (
        f"{table.name}: the cold table holds everything up to {format_time(watermark)}; from {format_time(time)} on, "
        "rows would be moved a second time. Nothing was changed. "
    )
    published = cold.published_until(time)
    if published is None:
        return message + "To take rows out and move them again, it would need a snapshot that ends there: none is left."
    end = published.window_id.window.high
    if end < now - table.warm_retention:
        return message + (
            f"Its newest snapshot that ends there is of {format_time(end)}, and ClickHouse no longer has all rows from "
            f"then on: it keeps {_days(table.warm_retention)}. Going back would lose them."
        )
    return message + (
        f"What is safe as long as ClickHouse has all rows from {format_time(end)} on (it keeps "
        f"{_days(table.warm_retention)}): go back to the snapshot that ends there, with Spark: "
        f"{cold.rollback_statement(published.snapshot.snapshot_id)} - the next cycle follows by itself."
    )


def _explain(table: TableSpec, found: Found, time: datetime) -> str:
    if found.skipped is None:
        return f"{table.name}: the watermark is {format_time(time)} already. There is nothing to change."
    creation = "" if found.cold else " The cold table does not exist yet and will be created."
    return (
        f"{table.name}: the watermark will go from {format_time(found.watermark)} to {format_time(time)}.{creation}\n"
        f"{found.rows:,} rows in ClickHouse lie between. They will [bold]not be moved[/bold]: they stay in ClickHouse "
        f"until its TTL ({_days(table.warm_retention)}), and `k2 status` counts them as late."
    )


def _adopt(cycle: Cycle, table: TableSpec, found: Found, skipped: Window) -> None:
    cycle.commit(table)  # what has been published already is to be recorded as that
    with cycle.ledger.locked(table.name) as locked:
        opened = locked.entry().open_window
        cold = found.cold or cycle.catalog.load_or_create(table, found.columns)
        window_id = WindowId(cold.uuid, skipped)
        decide_publish(table.name, window_id, cold.uuid, cold.published)
        cold.adopt(window_id)
        if opened is not None:  # also one with the very same bounds, which would otherwise pass for moved
            locked.abandon(opened)
            locked.set_status("initialized")
    cycle.commit(table)


def _days(duration: timedelta) -> str:
    return f"{duration.days} day{'s' if duration.days != 1 else ''}"
