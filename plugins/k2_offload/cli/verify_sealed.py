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
from k2_offload.cli.options import confirmed
from k2_offload.core.seals import Seal
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import UNKNOWN, show_number
from k2_offload.work.accept_seal import accept_changed_day, find_changed_day
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


def accept_sealed(tiers: Tiers, table: TableSpec, day: date, as_json: bool, *, yes: bool) -> None:
    """Show what was sealed of a changed day, and what it holds now; if a person accepts that, seal it.

    :raises OffloadError: if there is nothing to accept, or it may not be accepted
    """
    tiers.ledger.migrate()
    changed = find_changed_day(tiers, table, day)
    before, now = changed.seal, changed.successor
    if not as_json:
        screen.print(changed.problem, soft_wrap=True, markup=False)
        shown = number_table(["", "sealed at (UTC)"], ["rows"], ["content hash"])
        shown.add_row("sealed", f"{before.sealed_at:%Y-%m-%d %H:%M}", show_number(before.rows), _hash(before))
        shown.add_row("now", UNKNOWN, show_number(now.rows), _hash(now))
        show_table(shown)
    if yes or confirmed(f"Seal {day} of {table.name} with the {now.rows:,} rows that it holds now?", as_json=as_json):
        accept_changed_day(tiers, table, changed)
    if as_json:
        seals = {"sealed": before, "accepted": now}
        rows = {name: {"rows": seal.rows, "content_hash": str(seal.content_hash)} for name, seal in seals.items()}
        print_json({"table": table.name, "day": day.isoformat(), "seal_id": now.seal_id, **rows})
    else:
        screen.print(f"{PASSED} {table.name} {day}: accepted, and sealed; the seal before stays on record")


def _hash(seal: Seal) -> str:
    return f"{seal.content_hash:016x}"


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
