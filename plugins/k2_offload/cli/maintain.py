"""``k2 maintain`` tidies cold tables through the DAG k2_maintenance."""

from __future__ import annotations

from dataclasses import asdict

import typer

from k2_offload.adapters.ledger_records import MaintenanceRecord
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
)
from k2_offload.cli.options import DryRunOption, JsonOption, TablesArgument
from k2_offload.cli.run import explain, run_dag
from k2_offload.core.dag_ids import MAINTENANCE_DAG_ID
from k2_offload.core.errors import InvalidCondition
from k2_offload.core.text import show_bytes, show_number, show_seconds
from k2_offload.work.tiers import open_ledger, wall_clock


@command
def maintain(tables: TablesArgument = None, dry_run: DryRunOption = False, as_json: JsonOption = False) -> None:
    """Rewrite days of many files, expire old snapshots, remove files that no snapshot names.

    Of tables with 'retention: proven', old partitions of ClickHouse that are proven to be cold go, too (k2 retention).
    The DAG k2_maintenance does the same once a day. It is safe beside everything else, and may be stopped at any time.
    A dry run is a run of that DAG, too, and on record in the ledger as one.

    Example: [bold]k2 maintain silver_trades --dry-run[/bold]
    """
    chosen = load_tables(load_settings().tables_file).select(tables or [])
    names = {table.name for table in chosen if table.maintenance}
    left_alone = [table.name for table in chosen if not table.maintenance]
    if left_alone and (tables or not names):
        raise InvalidCondition(
            f"{', '.join(left_alone)}: not maintained, because the table file says 'maintenance: false'. Nothing was "
            "changed. Choose other tables, or change that; `k2 retention --apply` goes on with old partitions alone."
        )
    started = wall_clock()
    failed = run_dag(MAINTENANCE_DAG_ID, tables or [], {"dry_run": dry_run})
    records = [each for each in open_ledger(load_settings()).read_maintenance(started) if each.table in names]
    if as_json:
        print_json([asdict(each) for each in records])
    else:
        _print(records)
        if dry_run:
            screen.print("A dry run: nothing was changed.")
    for each in records:
        if each.problem is not None:
            show_error(each.problem)
    if failed:
        explain(failed)
        raise typer.Exit(FINDING)


def _print(records: list[MaintenanceRecord]) -> None:
    shown = number_table(
        ["table"],
        ["days rewritten", "files", "after", "size", "after", "snapshots expired", "left", "orphan files", "size", "s"],
        ["done"],
    )
    for each in records:
        shown.add_row(
            each.table,
            show_number(each.rewritten_days),
            show_number(each.files_before),
            show_number(each.files_after),
            show_bytes(each.bytes_before),
            show_bytes(each.bytes_after),
            show_number(each.expired_snapshots),
            show_number(each.snapshots_after),
            show_number(each.orphans),
            show_bytes(each.orphan_bytes),
            show_seconds(each.seconds),
            PASSED if each.problem is None else FAILED,
        )
    show_table(shown)
