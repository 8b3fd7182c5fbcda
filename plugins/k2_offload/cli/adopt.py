"""``k2 adopt`` takes over a cold table that another system has filled."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
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
from k2_offload.cli.days import day_document, show_comparisons
from k2_offload.cli.options import DryRunOption, JsonOption, TableArgument, YesOption, confirmed
from k2_offload.core.adoption import ADOPTED_PROPERTY, DayRows, Repeated
from k2_offload.core.text import show_number, show_time
from k2_offload.core.windows import format_time
from k2_offload.work import adoption
from k2_offload.work.adoption import Look, look
from k2_offload.work.tiers import open_tiers

_SHOWN_DAYS = 20

KeepOption = Annotated[
    bool,
    typer.Option("--keep-duplicates", help="Take it over with rows that are there twice; puts them on record."),
]


@command
def adopt(
    table: TableArgument,
    keep_duplicates: KeepOption = False,
    yes: YesOption = False,
    dry_run: DryRunOption = False,
    as_json: JsonOption = False,
) -> None:
    """Take over a cold table that another system has filled, so that the next cycle goes on where it ends.

    Stop the other system first. Reads all rows of the table, names those that are there more than once, compares it
    with what ClickHouse still has, and asks. No row is touched, in neither tier: a snapshot without rows says where the
    table ends. Exit code 1 if it cannot be taken over as it is.

    Example: [bold]k2 adopt silver_trades --dry-run[/bold]
    """
    with open_tiers() as tiers:
        spec = tiers.tables[table]
        if not dry_run:
            tiers.ledger.migrate()
        found = look(tiers, spec, partial(with_progress, table))
        refusals = [*found.problems, *([found.refusal] if found.refusal and not keep_duplicates else [])]
        if not as_json:
            _print(found)
        possible = found.window_id is not None and not refusals
        adopted = possible and not dry_run and (yes or confirmed("Take it over?", as_json=as_json))
        if adopted:
            adoption.adopt(tiers, found, keep_duplicates=keep_duplicates)
    if as_json:
        print_json(_document(found, adopted=adopted) | {"problems": refusals})
    elif adopted and found.watermark is not None:
        screen.print(f"{PASSED} {table}: taken over; the watermark is {format_time(found.watermark)}")
    show_found((), refusals)
    if refusals:
        raise typer.Exit(FINDING)


def _print(found: Look) -> None:
    cold = found.cold
    shown = number_table(["", "cold table"], [])
    shown.add_row("rows", show_number(found.rows if found.days else cold.total_rows))
    if found.days:
        shown.add_row("days", f"{found.days[0].day} to {found.days[-1].day}")
    shown.add_row("last commit", show_time(cold.foreign.last_commit))
    shown.add_row("location", escape(cold.location))
    shown.add_row("table UUID", cold.uuid)
    show_table(shown)
    for sentence in _sentences(found):
        screen.print(escape(sentence), soft_wrap=True)
    _print_repeated([day for day in found.days if day.surplus])
    for day in found.surplus[:_SHOWN_DAYS]:
        screen.print(escape(f"{day.day}, with Spark: {found.deduplication(day.day)}"), soft_wrap=True)
    if found.compared:
        show_comparisons(found.compared)
    for note in (*_follow_up(found), *found.notes):
        screen.print(escape(note), soft_wrap=True)


def _sentences(found: Look) -> list[str]:
    name = found.table.name
    if found.problems or found.watermark is None:
        return []
    if found.window_id is None and found.cold.foreign.has_windows:
        record = found.cold.foreign.property_of(ADOPTED_PROPERTY)
        taken_over = f" It was taken over: {record}" if record else ""
        return [
            f"{name}: the cold table is this project's, and goes on at {format_time(found.watermark)}. There is "
            f"nothing to change.{taken_over}"
        ]
    if found.window_id is None:
        return [f"{name}: the cold table holds no rows. The first cycle uses it as it is; there is nothing to change."]
    early, differing = sum(day.early for day in found.days), sum(day.differing for day in found.days)
    duplicates = sum(day.duplicates for day in found.days)
    equal = f" ({duplicates - differing:,} of them in all columns of the cold table)" if differing else ""
    return [
        f"{name}: the next cycle will go on at {format_time(found.watermark)}, right after the newest row.",
        *([f"{early:,} rows are from before 2000, and in no window; their days are not healed."] if early else []),
        f"{duplicates:,} rows are there more than once, equal in all columns of the source{equal}"
        + (
            f"; {sum(day.equal_keys for day in found.days):,} other rows have a key that another row has."
            if found.table.key_columns
            else "."
        ),
    ]


def _print_repeated(days: Sequence[DayRows]) -> None:
    if not days:
        return
    shown = number_table(["day"], ["rows", "there twice", "equal keys"], ["among them"])
    for day in days[:_SHOWN_DAYS]:
        for position, each in enumerate(day.repeated or (None,)):
            counts = [str(day.day), *map(show_number, (day.rows, day.duplicates, day.equal_keys))]
            shown.add_row(*(counts if position == 0 else [""] * len(counts)), escape(_name(each)) if each else "")
    show_table(shown)
    if len(days) > _SHOWN_DAYS:
        screen.print(f"and {len(days) - _SHOWN_DAYS} more days: --json has all")


def _name(repeated: Repeated) -> str:
    values = ", ".join(f"{column}={value}" for column, value in repeated.values.items())
    return f"{repeated.times} \N{MULTIPLICATION SIGN} {values}"


def _follow_up(found: Look) -> list[str]:
    """What to do about days that differ, once the table is taken over."""
    name, notes = found.table.name, []
    for day in (day for day in found.compared if day.differs):
        about = f"{day.scope.day}: {day.late_rows:,} rows only in ClickHouse, {day.gone_rows:,} only in the cold table."
        obstacle = day.obstacle(day.going_rows)
        if day.problem is not None:
            notes.append(f"{day.scope.day} could not be read: {day.problem}")
        elif obstacle is None and day.scope.day < found.healed_from:
            notes.append(f"{about} They stay so: the cold table has a column that the source lacks.")
        elif obstacle is not None:
            notes.append(f"{about} They stay so, on record: {obstacle}.")
        elif day.obstacle() is None:
            notes.append(f"{about} Afterwards, k2_reconcile heals that day; `k2 heal {name}` does it at once.")
        else:
            command = f"k2 heal {name} --day {day.scope.day} --allow-shrink"
            notes.append(f"{about} Afterwards, `{command}` makes that day what ClickHouse holds of it.")
    return notes


def _document(found: Look, *, adopted: bool) -> dict[str, object]:
    surplus = found.surplus
    return {
        "table": found.table.name,
        "adopted": adopted,
        "watermark": format_time(found.watermark) if found.watermark else None,
        "rows": found.rows if found.days else found.cold.total_rows,
        "duplicates": sum(day.duplicates for day in found.days),
        "equal_in_all_columns": sum(day.duplicates - day.differing for day in found.days),
        "equal_keys": sum(day.equal_keys for day in found.days),
        "notes": [*_follow_up(found), *found.notes],
        "repeated": [
            {
                "day": day.day.isoformat(),
                "rows": day.rows,
                "duplicates": day.duplicates,
                "equal_in_all_columns": day.duplicates - day.differing,
                "equal_keys": day.equal_keys,
                "as_in_clickhouse": day not in surplus,
                "among_them": [{"times": each.times, "row": dict(each.values)} for each in day.repeated],
                "statement": found.deduplication(day.day) if day in surplus else None,
            }
            for day in found.days
            if day.surplus
        ],
        "days": [day_document(day) for day in found.compared],
    }
