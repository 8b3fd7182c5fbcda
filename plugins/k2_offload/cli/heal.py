"""``k2 heal`` compares both tiers day by day, and replaces cold days that differ."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Annotated

import typer

from k2_offload.cli.console import FINDING, command, errors, print_json, screen, show_error
from k2_offload.cli.days import day_document, describe_unsure, show_comparisons
from k2_offload.cli.options import DryRunOption, JsonOption, TablesArgument, YesOption, confirmed, parse_day
from k2_offload.cli.run import explain, run_dag
from k2_offload.core.dag_ids import RECONCILE_DAG_ID
from k2_offload.core.errors import InvalidCondition
from k2_offload.core.tables import TableSpec
from k2_offload.work.compare import describe
from k2_offload.work.reconcile import Found, reconcile
from k2_offload.work.tiers import Tiers, open_tiers

DaysOption = Annotated[
    list[date] | None,
    typer.Option("--day", parser=parse_day, metavar="DAY", help="A partition day (UTC); may be repeated."),
]
ShrinkOption = Annotated[
    bool, typer.Option("--allow-shrink", help="Replace named days even if cold rows go, or cannot be read.")
]


@command
def heal(
    tables: TablesArgument = None,
    day: DaysOption = None,
    allow_shrink: ShrinkOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Compare both tiers day by day, and replace the cold days that differ by what ClickHouse holds of them.

    Without --day, the days that are due: whose counts differ, that were not equal the last time, or that have not been
    compared for a day. A day in which cold rows would go is left alone, unless it is named and --allow-shrink is given.
    The DAG k2_reconcile does the same every half hour, without --allow-shrink. Exit code 0 only if no day differs in
    the end, or none is due. Of days that the TTL has reached in ClickHouse, it says that nobody can know.

    Example: [bold]k2 heal silver_trades --day 2026-03-01 --dry-run[/bold]
    """
    days = day or []
    if allow_shrink and not (tables and days):
        raise typer.BadParameter("--allow-shrink needs the names of tables, and --day")
    found = _compare(tables or [], days, keep=not dry_run)
    going = max((day.going_rows for table in found for day in table.days), default=0) if allow_shrink else 0
    if going:
        found = _compare(tables or [], days, going, keep=not dry_run)
    heals = [each for table in found for each in table.heals]
    before = {(day.table, day.scope.day): str(day.verdict) for table in found for day in table.days}
    if not as_json:
        _show(found)
    healed = bool(heals) and not dry_run and (yes or confirmed(f"Replace {len(heals)} days?", as_json=as_json))
    if healed:
        _run(found, days, going)
        found = _compare(tables or [], [each.scope.day for table in found for each in table.days])
        if not as_json:
            _show(found)
    if as_json:
        compared = [day for table in found for day in table.days]
        print_json([day_document(day) | {"found": before.get((day.table, day.scope.day))} for day in compared])
    problems = [problem for table in found for problem in table.problems]
    problems += [
        describe(day, day.obstacle(going))
        for table in found
        if not table.problems  # they say it
        for day in table.days
        if day.differs
    ]
    if not found and not _has_begun(tables or []):
        problems.append("Nothing was compared: no window of these tables has been published yet.")
    for problem in dict.fromkeys(problems):
        show_error(problem)
    if problems:
        raise typer.Exit(FINDING)
    if not as_json:
        _conclude(found)


def _conclude(found: Sequence[Found]) -> None:
    """Nothing is to be done; that is not to say that all days are equal."""
    days = [day for table in found for day in table.days]
    names = dict.fromkeys(day.table for day in days)
    unsure = [each for name in names for each in describe_unsure(name, (day for day in days if day.table == name))]
    for sentence in unsure:
        screen.print(sentence, markup=False, soft_wrap=True)
    if not unsure:
        none_due = "no day is due: the counts agree, and each day was equal when it was last compared"
        screen.print("[green]all days equal[/green]" if found else none_due)


def _choose(tiers: Tiers, names: list[str]) -> list[TableSpec]:
    """The tables that may be compared: those that are named, or all.

    :raises InvalidCondition: if the table file says of one that is named, or of all, that they are not
    """
    chosen = tiers.tables.select(names)
    left_alone = [table.name for table in chosen if not table.reconcile]
    if left_alone and (names or len(left_alone) == len(chosen)):
        raise InvalidCondition(
            f"{', '.join(left_alone)}: not compared, because the table file says 'reconcile: false'. Nothing was "
            "changed. Choose other tables, or change that."
        )
    return chosen


def _has_begun(names: list[str]) -> bool:
    with open_tiers() as tiers:
        cold = (tiers.load_cold(table) for table in _choose(tiers, names) if table.reconcile)
        return any(each is not None and each.published is not None for each in cold)


def _compare(tables: list[str], days: Sequence[date], going_rows: int = 0, *, keep: bool = True) -> list[Found]:
    with open_tiers() as tiers:
        chosen = _choose(tiers, tables)
        if keep:
            tiers.ledger.migrate()
        found: list[Found] = []
        with errors.status("counting") as status:
            for each in reconcile(tiers, chosen, days, going_rows=going_rows, keep=keep):
                status.update(f"comparing: {len(found) + 1} days so far, the last one of {each.table}")
                found.append(each)
        return sorted(found, key=lambda each: (chosen.index(each.table), [day.scope.day for day in each.days]))


def _run(found: Sequence[Found], days: Sequence[date], going_rows: int) -> None:
    healing = list(dict.fromkeys(table.table.name for table in found if table.heals))
    conf = {"days": [day.isoformat() for day in days], "going_rows": going_rows}
    if failed := run_dag(RECONCILE_DAG_ID, healing, conf):
        explain(failed)


def _show(found: Sequence[Found]) -> None:
    show_comparisons(day for table in found for day in table.days)
