"""``k2 register`` lets the catalog name the newest metadata file of a cold table again."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape

from k2_offload.cli.console import (
    FINDING,
    PASSED,
    command,
    number_table,
    print_json,
    screen,
    show_found,
    show_table,
    with_progress,
)
from k2_offload.cli.options import DryRunOption, JsonOption, TablesArgument, YesOption, confirmed
from k2_offload.core.errors import OffloadError
from k2_offload.core.registration import TableState
from k2_offload.core.text import show_number, show_time
from k2_offload.core.windows import format_time
from k2_offload.work.registration import Look, look, targets
from k2_offload.work.registration import register as let_catalog_name
from k2_offload.work.tiers import open_tiers

PlaceOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="URI",
        help="The table's folder, or the metadata file to take. One table only.",
        show_default=False,
    ),
]


@command
def register(
    tables: TablesArgument = None,
    place: PlaceOption = None,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Register cold tables that the catalog has lost, or knows in an older state, from their newest metadata file.

    Stop Airflow first. Looks for metadata files in each table's folder, shows where they end, and asks; the seals of
    days (k2_seals) are among the tables. No file is written or removed, and no row is moved: the next cycle goes on
    where the metadata file ends. Exit code 1 if a table has none that could be found.

    Example: [bold]k2 register silver_trades --dry-run[/bold]
    """
    with open_tiers() as tiers:
        names = tables or list(targets(tiers))
        if place is not None and len(names) != 1:
            raise typer.BadParameter("name the one table that it is of", param_hint="--from")
        if not dry_run:
            tiers.ledger.migrate()
        found = [look(tiers, name, place) for name in with_progress("look at", names)]
        chosen = [each for each in found if each.chosen is not None]
        findings = [each.finding for each in found if each.finding is not None]
        if not as_json:
            _print(found)
        agreed = bool(chosen) and not dry_run and (yes or confirmed("Register what is marked with →?", as_json=as_json))
        registered: set[str] = set()
        for each in chosen if agreed else ():
            try:
                let_catalog_name(tiers, each)
            except OffloadError as error:  # the others are registered all the same
                findings.append(str(error))
                continue
            registered.add(each.name)
            if not as_json:
                screen.print(f"{PASSED} {each.name}: registered")
    findings += filter(None, map(_missing, found))
    if as_json:
        print_json([_document(each, registered=each.name in registered) for each in found])
    show_found((), findings)
    if findings:
        raise typer.Exit(FINDING)


def _print(found: list[Look]) -> None:
    shown = number_table(["table", "", "written at"], ["rows"], ["watermark", "metadata file"])
    for each in found:
        states = [state for state in each.found if state != each.chosen and not _same(state, each.current)]
        name = each.name
        for mark, state in (("in the catalog", each.current), ("→", each.chosen), *(("", state) for state in states)):
            if state is not None:
                shown.add_row(name, mark, *_cells(state))
                name = ""
        if name:
            shown.add_row(name, "unreadable" if each.problem else "not there")
    show_table(shown)
    for each in found:
        for note in each.notes:
            screen.print(escape(f"{each.name}: {note}"), soft_wrap=True)
    if all(each.current is not None and each.chosen is None and each.finding is None for each in found):
        screen.print(
            "The catalog names tables that can be read, and no later state follows. There is nothing to change."
        )


def _missing(found: Look) -> str | None:
    """That a table has neither an entry nor a state that could get one, if nothing else has been found of it."""
    if found.current is not None or found.chosen is not None or found.finding is not None:
        return None
    return f"{found.name}: it was found neither in the catalog nor in its folder. Nothing was registered."


def _same(state: TableState, current: TableState | None) -> bool:
    return current is not None and state.file_name == current.file_name


def _cells(state: TableState) -> list[str]:
    watermark = format_time(state.watermark) if state.watermark else "-"
    return [show_time(state.updated_at), show_number(state.rows), watermark, escape(state.metadata_file)]


def _document(found: Look, *, registered: bool) -> dict[str, object]:
    return {
        "table": found.name,
        "registered": registered,
        "problem": found.finding or found.problem or _missing(found),
        "current": _state_document(found.current),
        "chosen": _state_document(found.chosen),
        "found": [_state_document(state) for state in found.found],
        "notes": list(found.notes),
    }


def _state_document(state: TableState | None) -> dict[str, object] | None:
    if state is None:
        return None
    return {
        "metadata_file": state.metadata_file,
        "table_uuid": state.table_uuid,
        "updated_at": format_time(state.updated_at),
        "rows": state.rows,
        "watermark": format_time(state.watermark) if state.watermark else None,
    }
