"""``k2 verify --sealed``: whether each sealed day of the cold tier still holds what was sealed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from functools import partial

from k2_offload.cli.console import (
    FAILED,
    PASSED,
    number_table,
    print_json,
    screen,
    show_found,
    show_table,
    with_progress,
)
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import UNKNOWN, show_number
from k2_offload.work.tiers import Tiers
from k2_offload.work.verify_seals import SealCheck, verify_sealed


def check_sealed(
    tiers: Tiers, chosen: Sequence[TableSpec], days: tuple[date | None, date | None], as_json: bool
) -> bool:
    """Verify the sealed days of some tables, and show what was found.

    :returns: whether all seals are whole
    """
    results = [
        verify_sealed(tiers, table, *days, partial(with_progress, f"verifying {table}"))
        for table in with_progress("verifying", chosen)
    ]
    if as_json:
        print_json([_document(result) for result in results])
    else:
        _print(results)
    return not any(result.findings for result in results)


def _document(result: SealCheck) -> dict[str, object]:
    return {
        "table": result.table,
        "days": result.days,
        "rows": result.rows,
        "newest": result.newest.isoformat() if result.newest else None,
        "passed": not result.findings,
        "findings": result.findings,
        "notes": result.notes,
    }


def _print(results: Sequence[SealCheck]) -> None:
    shown = number_table(["table"], ["sealed days", "rows"], ["newest", "whole"])
    for result in results:
        newest = str(result.newest) if result.newest else UNKNOWN
        whole = FAILED if result.findings else PASSED if result.days else UNKNOWN
        shown.add_row(result.table, show_number(result.days), show_number(result.rows), newest, whole)
    show_table(shown)
    for result in results:
        show_found(result.notes, result.findings)
    if any(result.days for result in results) and not any(result.findings or result.notes for result in results):
        screen.print("[green]every sealed day holds the rows that were sealed[/green]")
