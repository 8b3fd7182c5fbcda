"""``k2 validate`` checks that everything is in place for the next cycle."""

from __future__ import annotations

from dataclasses import asdict

import typer
from rich.markup import escape

from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.cli.console import (
    FAILED,
    FINDING,
    PASSED,
    command,
    number_table,
    print_json,
    screen,
    show_error,
    show_table,
    with_progress,
)
from k2_offload.cli.options import JsonOption
from k2_offload.core.text import UNKNOWN, show_duration, show_number
from k2_offload.work.tiers import open_tiers
from k2_offload.work.validate import (
    CATALOG,
    CLICKHOUSE,
    Check,
    SourceCheck,
    check_lake,
    check_other_servers,
    check_schedule,
    check_services,
    check_source,
)


@command
def validate(as_json: JsonOption = False) -> None:
    """Check the table file, every connection, the lake's storage, every source table, Java and Spark.

    A small file is written into the warehouse, read and removed, in each of the ways that a cycle writes. Nothing else
    is changed. All checks are made, whatever the first ones find. Exit code 1 if one failed, 2 if the table file is
    wrong.

    Example: [bold]k2 validate[/bold]
    """
    settings = load_settings()
    tables = load_tables(settings.tables_file)
    found = f"{len(tables.by_name)} tables in {settings.tables_file}"
    chosen = list(tables.by_name.values())
    schedule = check_schedule(settings, chosen)
    checks = [Check("table file", True, found), schedule, *check_services(settings, chosen)]
    sources = []
    if all(check.passed for check in checks if check.subject in (CLICKHOUSE, CATALOG)):
        with open_tiers(tables) as tiers:
            checks += check_lake(tiers)
            checks += check_other_servers(tiers)
            sources = [check_source(tiers, table) for table in with_progress("checking", chosen)]
    if as_json:
        print_json({"checks": [asdict(check) for check in checks], "tables": [_document(each) for each in sources]})
    else:
        _print(checks, sources)
    if not all(check.passed for check in checks) or any(source.problem for source in sources):
        raise typer.Exit(FINDING)


def _document(source: SourceCheck) -> dict[str, object]:
    return {
        "table": source.table.name,
        "source": source.table.source,
        "target": source.table.target,
        "columns": source.columns,
        "ttl_of": source.storage,
        "kept_seconds": source.kept_for.total_seconds() if source.kept_for is not None else None,
        "passed": source.problem is None,
        "problem": source.problem,
    }


def _ttl(source: SourceCheck) -> str:
    if source.storage is None:
        return "not known"
    return "none" if source.kept_for is None else show_duration(source.kept_for)


def _print(checks: list[Check], sources: list[SourceCheck]) -> None:
    for check in checks:
        mark = PASSED if check.passed else FAILED
        screen.print(f"{mark} {check.subject:<18} {escape(check.detail)}", soft_wrap=True)
    screen.print()
    if not sources:
        show_error(
            "The lake's storage and the source tables could not be checked: that takes ClickHouse and the catalog."
        )
        return
    shown = number_table(["", "table", "source", "target"], ["columns"], ["TTL"])
    for source in sources:
        mark = PASSED if source.problem is None else FAILED
        columns = UNKNOWN if source.columns is None else show_number(source.columns)
        shown.add_row(mark, source.table.name, source.table.source, source.table.target, columns, _ttl(source))
    show_table(shown)
    for source in sources:
        if source.problem:
            show_error(source.problem)
