"""``k2 retention`` shows what is held of old days and what waits, and goes on with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from typing import Annotated

import typer
from rich.markup import escape

from k2_offload.cli.console import FINDING, command, number_table, print_json, screen, show_error, show_table
from k2_offload.cli.options import JsonOption, TablesArgument, parse_day
from k2_offload.core.errors import InvalidCondition
from k2_offload.core.holding import Record
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import show_number
from k2_offload.core.windows import format_time
from k2_offload.work.proven_storage import PartitionState
from k2_offload.work.retention import remove_proven, restore_day
from k2_offload.work.tiers import open_tiers

RestoreOption = Annotated[
    date | None,
    typer.Option(parser=parse_day, metavar="DAY", help="Bring back the partition that holds this day of one table."),
]


@command
def retention(
    tables: TablesArgument = None,
    apply: Annotated[bool, typer.Option("--apply", help="Compare, move and drop what is due.")] = False,
    restore: RestoreOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show old partitions of ClickHouse: which are held before they are dropped, and which wait, and why.

    Only of tables with 'retention: proven', and what is still held of others; a partition without a reason would be
    compared now. The DAG k2_maintenance does the same as --apply once a day. A day that was brought back goes again
    when it is proven anew.

    Example: [bold]k2 retention silver_trades --restore 2026-03-01[/bold]
    """
    with open_tiers() as tiers:
        chosen = tiers.tables.select(tables or [])
        if apply or restore is not None:
            tiers.ledger.migrate()
        if restore is not None:
            if len(chosen) != 1 or apply:
                raise InvalidCondition("--restore needs one table, and no --apply.")
            record = restore_day(tiers, chosen[0], restore)
            if as_json:
                print_json(_restored(chosen[0], record))
            else:
                back = f"{chosen[0].name} {record.text}: its rows are back in {chosen[0].source}."
                screen.print(back, soft_wrap=True, markup=False)
            return
        found = remove_proven(tiers, chosen, dry_run=not apply)
    if as_json:
        print_json([_document(each) for each in found.states])
    elif found.states:
        _print(found.states)
    elif not found.problems:
        screen.print("No partition is held or waits: 'retention: proven' is set for no chosen table, or all is young.")
    for problem in found.problems:
        show_error(problem)
    if found.problems:
        raise typer.Exit(FINDING)


def _restored(table: TableSpec, record: Record) -> dict[str, object]:
    return {
        "table": table.name,
        "source": table.source,
        "days": record.text,
        "partition_id": record.partition_id,
        "rows": record.rows,
        "restored": True,
    }


def _document(state: PartitionState) -> dict[str, object]:
    return {**asdict(state), "at": format_time(state.at) if state.at is not None else None}


def _print(states: Sequence[PartitionState]) -> None:
    shown = number_table(["storage", "days", "partition"], ["rows"], ["state", "why it does not go on now"])
    for each in states:
        names = map(escape, (each.storage, each.days, each.partition_id))
        shown.add_row(*names, show_number(each.rows), each.state, escape(each.reason))
    show_table(shown)
