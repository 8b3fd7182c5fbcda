"""``k2 doctor`` goes through what the runbooks check."""

from __future__ import annotations

import time
from dataclasses import asdict

import typer
from rich.markup import escape

from k2_offload.adapters.dag_runs import read_dags
from k2_offload.adapters.settings import Settings, load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.cli.console import FINDING, command, number_table, print_json, screen, show_table
from k2_offload.cli.options import JsonOption
from k2_offload.core.dag_ids import watched_dags
from k2_offload.core.diagnosis import diagnose
from k2_offload.core.errors import NoAirflowDatabase
from k2_offload.core.needs import Finding, State
from k2_offload.work.observe import look
from k2_offload.work.validate import check_services

_COLOURS = {State.OK: "green", State.WARNING: "yellow", State.RED: "red"}
_PAGES = "docs/runbooks/"


@command
def doctor(as_json: JsonOption = False) -> None:
    """Go through all that the runbooks check, and say what to do and which page to read.

    Looks at services, versions, Spark, clocks, the lake's disk, runs, and each table's chain, last attempt, lag, TTL,
    feed, comparisons, seals, messages, gaps, leftovers and maintenance. Changes nothing. What cannot be known is red.
    Exit code 1 if something is red; a warning alone is none.

    Example: [bold]k2 doctor[/bold]
    """
    settings = load_settings()
    findings = [*_installed(settings), *_seen()]
    if as_json:
        print_json([asdict(each) for each in findings])
    else:
        shown = number_table(["check", "state", "what", "found", "do", "page"], [])
        for each in findings:
            colour = _COLOURS[each.state]
            cells = (each.subject, each.found, each.do, f"{_PAGES}{each.page}" if each.page else "")
            shown.add_row(each.check, f"[{colour}]{each.state}[/{colour}]", *(escape(cell) for cell in cells))
        show_table(shown)
    red = sum(each.state is State.RED for each in findings)
    if not as_json:
        screen.print(f"[red]{red} red[/red]" if red else "[green]nothing red[/green]")
    if red:
        raise typer.Exit(FINDING)


def _installed(settings: Settings) -> list[Finding]:
    page = "offload-failure.md#a-service-is-down"
    return [
        Finding("installation", State.OK, check.detail, check.subject)
        if check.passed
        else Finding("installation", State.RED, check.detail, check.subject, "k2 validate", page)
        for check in check_services(settings, load_tables(settings.tables_file).by_name.values())
    ]


def _seen() -> list[Finding]:
    seen = look(watched_dags, time.monotonic)
    try:
        paused = {name: dag.paused for name, dag in read_dags([dag.dag_id for dag in seen.dags]).items()}
    except NoAirflowDatabase:  # it is one of the services
        paused = {}
    return list(diagnose(seen, paused))
