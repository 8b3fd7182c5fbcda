"""``k2 accept`` lets a table go on that stopped because rows are gone."""

from __future__ import annotations

from collections.abc import Sequence

from k2_offload.cli.console import PASSED, command, print_json, screen
from k2_offload.cli.options import DryRunOption, JsonOption, TableArgument, YesOption, confirmed
from k2_offload.core.gaps import GapKind
from k2_offload.core.windows import format_time
from k2_offload.work.accept import Missed, accept_missed, find_missed
from k2_offload.work.tiers import open_tiers


@command
def accept(
    table: TableArgument, yes: YesOption = False, dry_run: DryRunOption = False, as_json: JsonOption = False
) -> None:
    """Accept that ClickHouse no longer holds rows that were not moved, and let the table go on with what is there.

    For a table that stopped because rows may have expired before they were moved, or because its open window holds
    fewer rows than were planned. The gap stays on record: `k2 status` shows it for ever. Look first whether a replica
    lags.

    Example: [bold]k2 accept silver_trades --dry-run[/bold]
    """
    with open_tiers() as tiers:
        spec = tiers.tables[table]
        if not dry_run:
            tiers.ledger.migrate()
        missed = find_missed(tiers, spec)
        if not as_json:
            screen.print(_explain(table, missed), soft_wrap=True)
        accepted = bool(missed) and not dry_run and (yes or confirmed("Accept that?", as_json=as_json))
        if accepted:
            accept_missed(tiers, spec, missed)
    if as_json:
        print_json(_document(table, missed, accepted))
    elif accepted:
        screen.print(f"{PASSED} {table}: on record; the next cycle goes on")


def _explain(table: str, missed: Sequence[Missed]) -> str:
    return "\n".join(_sentence(table, each) for each in missed) or f"{table}: there is nothing to accept."


def _sentence(table: str, missed: Missed) -> str:
    gap = missed.gap
    if gap.kind is GapKind.EXPIRED:
        return (
            f"{table}: rows in {gap.window} may have expired before they were moved; how many, nobody can know. "
            f"{missed.rows_left:,} are still there, and the next cycle moves them."
        )
    return (
        f"{table}: the open window {gap.window} holds {missed.rows_left:,} rows, {gap.rows:,} fewer than were planned. "
        "The next cycle moves those that are there. If a replica lags, wait instead: no row is lost yet."
    )


def _document(table: str, missed: Sequence[Missed], accepted: bool) -> dict[str, object]:
    gaps = [
        {
            "kind": str(each.gap.kind),
            "low": format_time(each.gap.window.low),
            "high": format_time(each.gap.window.high),
            "rows_missed": each.gap.rows,
            "rows_left": each.rows_left,
        }
        for each in missed
    ]
    return {"table": table, "gaps": gaps, "accepted": accepted}
