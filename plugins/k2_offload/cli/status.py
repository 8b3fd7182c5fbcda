"""``k2 status`` shows where every table stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, NamedTuple

import typer
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from k2_offload.adapters.dag_runs import ActiveRun, read_active_runs
from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.cli.console import (
    FINDING,
    command,
    number_table,
    print_json,
    screen,
    show_error,
    show_table,
    with_progress,
)
from k2_offload.cli.fail_on import check_known, find_reasons
from k2_offload.cli.options import JsonOption, LayerOption, TablesArgument
from k2_offload.cli.watch import watch_looks
from k2_offload.core.conditions import FORMS, Condition, parse_conditions
from k2_offload.core.dag_ids import dag_id
from k2_offload.core.observation import Records
from k2_offload.core.tables import Layer, TableSpec
from k2_offload.core.text import show_bytes, show_duration, show_number, show_time
from k2_offload.core.windows import format_time
from k2_offload.work.notes import describe_late, describe_records, describe_runs, find_notes
from k2_offload.work.records import read_records
from k2_offload.work.status import Below, TableStatus, read_status
from k2_offload.work.tiers import open_tiers, wall_clock

NAMES = ("table", "status", "watermark (UTC)")
NUMBERS = ("moved", "took", "lag", "warm rows", "cold rows", "late", "snapshots", "metadata", "sealed")
"""The columns after :data:`NAMES`."""

_COLOURS = {"success": "green", "failed": "red", "running": "yellow"}


@command
def status(
    tables: TablesArgument = None,
    layer: LayerOption = None,
    counts: Annotated[bool, typer.Option("--counts/--no-counts", help="Count warm and late rows.")] = True,
    fail_on: Annotated[
        str | None,
        typer.Option(metavar="CONDITIONS", help=f"Exit with 1 if one holds, of: {FORMS}.", show_default=False),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show it again and again, until Ctrl-C.")] = False,
    every: Annotated[
        float, typer.Option(min=1, metavar="SECONDS", help="With --watch: the pause between two looks.")
    ] = 5,
    as_json: JsonOption = False,
) -> None:
    """Show watermark, lag, last window and rows of every table.

    "moved" and "took" are the last window's rows and time. Lag is the age of the oldest row that has not been moved.
    "silent" is for how long ClickHouse has got no row. Late rows came below the watermark: no window holds them.
    "snapshots" and "metadata" are what every load of the cold table reads. "sealed" are days.

    Lines below the table name what is held back by another table, what of days, seals and messages needs somebody, and
    a layer's run that goes on. All times are UTC.

    Exit code 1 if a table cannot be looked at, or for a reason that --fail-on names: one line each on standard error.

    Example: [bold]k2 status --fail-on 'lag>30m,failed,differ'[/bold], [bold]k2 status --watch --no-counts[/bold]
    """
    if watch and (as_json or fail_on is not None):
        raise typer.BadParameter("--watch goes on until Ctrl-C: it goes with neither --json nor --fail-on")
    if watch:
        chosen = load_tables(load_settings().tables_file).select(tables or [], layer)
        watch_looks(lambda: _screen_of(_look([table.name for table in chosen], layer, counts)), every)
        return
    conditions = [] if fail_on is None else parse_conditions(fail_on)
    check_known(conditions, counts)
    look = _look(tables or [], layer, counts, partial(with_progress, "looking at"))
    lines, now, runs = look.lines, look.now, look.runs
    reasons = {
        line.table.name: list(find_reasons(line, look.records[line.table.name], conditions, now))
        for line in lines
        if line.problem is None
    }
    if as_json:
        documents = (_document(line, look.records[line.table.name], reasons.get(line.table.name, ())) for line in lines)
        print_json(
            [each | _run_document(runs[dag_id(line.table.layer)]) for each, line in zip(documents, lines, strict=True)]
        )
    else:
        show_table(_table_of(look))
        for note in _notes(look):
            screen.print(note, soft_wrap=True)
    findings = [line.problem for line in lines if line.problem is not None]
    findings += [reason for found in reasons.values() for _, reason in found]
    for finding in findings:
        show_error(finding)
    if findings:
        raise typer.Exit(FINDING)


class Look(NamedTuple):
    """What was seen at one time.

    :param records: by table
    :param runs: those that go on, by DAG
    """

    lines: list[TableStatus]
    records: dict[str, Records]
    now: datetime
    runs: dict[str, list[ActiveRun]]


def _look(
    tables: list[str],
    layer: Layer | None,
    counts: bool,
    one_by_one: Callable[[Sequence[TableSpec]], Iterable[TableSpec]] = iter,
) -> Look:
    with open_tiers() as tiers:
        chosen = tiers.tables.select(tables, layer)
        records, gaps = tiers.ledger.read_tables(), tiers.ledger.read_gaps()
        recorded, below = read_records(tiers.ledger), Below()
        lines = [
            read_status(tiers, table, records.get(table.name), counts, gaps.get(table.name, ()), below=below)
            for table in one_by_one(chosen)
        ]
        now = tiers.now()
    checked = {
        line.table.name: recorded.of(line.table, now, line.gaps if line.problem is None else None) for line in lines
    }
    runs = {name: read_active_runs([name]) for name in dict.fromkeys(dag_id(each.layer) for each in chosen)}
    return Look(lines, checked, now, runs)


def _screen_of(look: Look) -> Iterator[RenderableType]:
    yield Text.from_markup(f"[bold]{show_time(look.now)} UTC[/bold]; Ctrl-C ends it")
    yield _table_of(look)
    yield from map(Text.from_markup, _notes(look))
    yield from (Text(f"{line.table.name}: {line.problem}", "red") for line in look.lines if line.problem is not None)


def _document(line: TableStatus, records: Records, reasons: Sequence[tuple[Condition, str]]) -> dict[str, object]:
    record, metadata = line.record, line.metadata
    days, sealed, messages = records.comparisons, records.sealed, records.offsets
    failed = record is not None and record.status == "failed"
    return {
        "table": line.table.name,
        "layer": line.table.layer,
        "watermark": _text(line.watermark),
        "lag_seconds": line.lag.total_seconds() if line.lag is not None and not line.silent else None,
        "silent": line.silence is not None if line.problem is None else None,
        "silent_since": _text(line.silence.since if line.silence else None),
        "status": record.status if record else "initialized",
        "failure": record.reason if record and failed else None,
        "refusal": line.refusal,
        "window_low": _text(record.low if record else None),
        "window_high": _text(record.high if record else None),
        "window_state": record.state if record else None,
        "window_rows": record.rows if record else None,
        "seconds": record.last_run_duration_seconds if record else None,
        "last_successful_run": _text(record.last_successful_run if record else None),
        "warm_rows": line.warm_rows,
        "cold_rows": line.cold_rows,
        "late_rows": line.late_rows,
        "rows_before_2000": line.before_first,
        "rows_from_the_future": line.future,
        "gaps": [
            {"low": _text(gap.window.low), "high": _text(gap.window.high), "kind": str(gap.kind), "rows": gap.rows}
            for gap in line.gaps
        ],
        "row_limit": record.row_limit if record else None,
        "snapshots": metadata.snapshots if metadata else None,
        "metadata_bytes": metadata.size_bytes if metadata else None,
        "maintenance_overdue": metadata.overdue if metadata else None,
        "held_back_by": line.held_back_by.table if line.held_back_by else None,
        "held_back_at": _text(line.held_back_by.watermark if line.held_back_by else None),
        "expires_at": _text(line.expiry.expires_at if line.expiry else None),
        "expiry_of": line.expiry.storage if line.expiry else None,
        "differing_days": [each.day.isoformat() for each in days.differing] if days else None,
        "differs_since": _text(days.differs_since if days else None),
        "sealed_days": sealed.days if sealed else None,
        "newest_sealed_day": sealed.newest.isoformat() if sealed and sealed.newest else None,
        "broken_seals": sealed.broken if sealed else None,
        "missing_messages": messages.missing if messages else None,
        "messages_compared_at": _text(messages.at if messages else None),
        "problem": line.problem,
        "reasons": [{"condition": condition.text, "reason": reason} for condition, reason in reasons],
    }


def _run_document(runs: list[ActiveRun]) -> dict[str, object]:
    """The run of the table's layer that goes on, and how many wait for it."""
    if not runs:
        return {"run": None}
    first = runs[0]
    return {
        "run": {
            "id": first.run_id,
            "state": first.state,
            "since": format_time(first.since),
            "abandoned": first.is_abandoned(wall_clock()),
            "waiting_runs": len(runs) - 1,
        }
    }


def _text(time: datetime | None) -> str | None:
    return format_time(time) if time else None


def _table_of(look: Look) -> Table:
    shown = number_table(NAMES, NUMBERS)
    for line in look.lines:
        record = line.record
        state = record.status if record else "initialized"
        took = record.last_run_duration_seconds if record else None
        colour = _COLOURS.get(state, "dim")
        late, sealed = show_number(line.late_rows), look.records[line.table.name].sealed
        shown.add_row(
            line.table.name,
            f"[{colour}]{state}[/{colour}]",
            show_time(line.watermark),
            show_number(record.rows if record else None),
            show_duration(None if took is None else timedelta(seconds=took)),
            _lag(line, look.now),
            show_number(line.warm_rows),
            show_number(line.cold_rows),
            f"[yellow]{late}[/yellow]" if line.late else late,
            show_number(line.metadata.snapshots if line.metadata else None),
            show_bytes(line.metadata.size_bytes if line.metadata else None),
            show_number(sealed.days if sealed and sealed.days else None),
        )
    return shown


def _notes(look: Look) -> Iterator[str]:
    """In rich's markup."""
    if days := sorted({day for line in look.lines for day in line.late or {}}):
        yield f"[yellow]late[/yellow]: {describe_late(days)}"
    for line in look.lines:
        found = describe_records(line.table.name, look.records[line.table.name], look.now)
        for note in [*find_notes(line, look.now), *found]:
            yield f"[yellow]{line.table.name}[/yellow]: {escape(note)}"
    for active in filter(None, look.runs.values()):
        yield f"[yellow]{active[0].dag_id}[/yellow]: {escape(describe_runs(active, wall_clock()))}"


def _lag(line: TableStatus, now: datetime) -> str:
    if line.silence is None or not line.silent:
        return show_duration(line.lag)
    return "[yellow]silent[/yellow]" + (f" {show_duration(now - line.silence.since)}" if line.silence.since else "")
