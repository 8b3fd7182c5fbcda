"""``k2 view`` makes and renews the views over both tiers."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import asdict
from typing import Annotated, Any

import typer

from k2_offload.cli.console import FINDING, command, print_json, screen, show_error
from k2_offload.cli.options import JsonOption, TablesArgument
from k2_offload.core.combined_view import ViewState
from k2_offload.core.errors import OffloadError, Unreachable
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import format_time
from k2_offload.work.combined_view import PlannedView, apply_view, plan_view, read_state
from k2_offload.work.tiers import Tiers, open_tiers


@command
def view(
    tables: TablesArgument = None,
    apply: Annotated[bool, typer.Option("--apply", help="Make the view, or renew it.")] = False,
    accept_unsealed: Annotated[
        bool,
        typer.Option(
            "--accept-unsealed",
            help="Read days from the cold table that were never sealed and that ClickHouse does not hold any more.",
        ),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show where the view over both tiers has its boundary, and where it would be now; with --apply, renew it.

    Only tables with 'view' in the table file have one. k2_reconcile renews them every half hour.

    Example: [bold]k2 view silver_trades --apply[/bold]
    """
    done: list[dict[str, Any]] = []
    failed = False
    with open_tiers() as tiers:
        chosen = tiers.tables.select(tables or [])
        if apply:
            tiers.ledger.migrate()
        for table in chosen:
            if table.view is None and not tables:
                continue
            try:
                planned = plan_view(tiers, table, by_person=True, accept_unsealed=accept_unsealed)
                if apply:
                    apply_view(tiers, table, planned)
            except Unreachable:
                raise
            except OffloadError as error:
                failed = True
                if as_json:
                    done.append(_refused(tiers, table, error))
                else:
                    show_error(f"{error} {_describe_present(tiers, table)}")
                continue
            done.append(_document(planned, changed=apply))
            if not as_json:
                screen.print(_describe(table, planned, changed=apply), soft_wrap=True, markup=False)
    if as_json:
        print_json(done)
    elif not done and not failed:
        screen.print("No table has a view: set 'view' in the table file (docs/reading.md).")
    if failed:
        raise typer.Exit(FINDING)


def _document(planned: PlannedView, *, changed: bool) -> dict[str, Any]:
    state = planned.state
    times = {"boundary": format_time(state.boundary), "valid_until": format_time(state.valid_until)}
    return {
        **asdict(state),
        **times,
        "boundary_before": format_time(planned.before.boundary) if planned.before else None,
        "held_by": planned.held_by,
        "statement": planned.statement,
        "changed": changed,
        "problem": None,
    }


def _refused(tiers: Tiers, table: TableSpec, error: OffloadError) -> dict[str, Any]:
    present = _present(tiers, table)
    return {
        "table": table.name,
        "boundary_before": format_time(present.boundary) if present else None,
        "valid_until": format_time(present.valid_until) if present else None,
        "changed": False,
        "problem": str(error),
    }


def _present(tiers: Tiers, table: TableSpec) -> ViewState | None:
    if table.view is None:
        return None
    with suppress(OffloadError):  # what is wrong with it has been said
        return read_state(tiers, table)
    return None


def _describe_present(tiers: Tiers, table: TableSpec) -> str:
    present = _present(tiers, table)
    if present is None:
        return "There is no view of it."
    return f"{table.view} stays as it is: it reads days before {_describe_state(present)}"


def _describe_state(state: ViewState) -> str:
    return f"{state.boundary:%Y-%m-%d} from the cold table, and is good until {state.valid_until:%Y-%m-%d %H:%M} UTC."


def _describe(table: TableSpec, planned: PlannedView, *, changed: bool) -> str:
    state = planned.state
    reads = "reads" if changed else "would read"
    lines = [f"{table.name}: {table.view} {reads} days before {_describe_state(state)}"]
    if not changed:
        before = (
            f"It reads days before {_describe_state(planned.before)}" if planned.before else "There is no view yet."
        )
        lines.append(f"Nothing was changed. {before}")
    lines.append(f"The boundary is no later, because {planned.held_by}.")
    if state.accepted_days:
        lines.append(f"{len(state.accepted_days)} of these days were never sealed: {', '.join(state.accepted_days)}")
    return "\n".join(lines)
