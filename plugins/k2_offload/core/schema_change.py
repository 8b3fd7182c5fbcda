"""What becomes of a cold table's columns when those of its source change: pure rules, no I/O.

Followed is what loses nothing and what every reader of the old files bears: a column that is new, a type that Iceberg
widens, a column that may be NULL from now on. Everything else is refused, with the choice that a person has. Nothing is
ever dropped, renamed or narrowed here.

A column that is new in the source is new in the cold table from the next window on. Rows below that have NULL there,
whatever ClickHouse says of them (a DEFAULT, or 0); so the cold table remembers from when on a column is to be compared
(:class:`Mark`). A column that is not filled any more has NULL from such a time on; below it only where a person has let
history be brought without it (:func:`find_nulls`). A heal replaces a day by what
ClickHouse says of it, old rows' defaults included, and never takes values of a column that is not filled any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum

from k2_offload.core.errors import InvalidSource
from k2_offload.core.skips import merge, subtract
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column, no_value
from k2_offload.core.windows import Window, format_time

MARKS_PROPERTY = "k2.columns"
"""Of the cold table: what :func:`write_marks` returns."""

_DECIMAL = re.compile(r"decimal\((\d+), (\d+)\)")


class ChangeKind(StrEnum):
    """What is done to one column of a cold table."""

    ADD = "add"
    WIDEN = "widen"
    LOOSEN = "allow NULL"


@dataclass(frozen=True)
class Mark:
    """What a cold table remembers of a column.

    :param since: rows below it hold what no source says any more, and are not compared in this column
    :param stopped: whether it is not filled any more: NULL in every row from then on
    :param nulls: where rows below it have NULL, too, because a person has let them be brought without it
    """

    since: datetime
    stopped: bool = False
    nulls: tuple[Window, ...] = ()


@dataclass(frozen=True)
class ColdColumn:
    """A column of a cold table.

    :param iceberg_type: in the Iceberg spec's spelling
    :param nullable: whether it may be NULL
    """

    name: str
    iceberg_type: str
    nullable: bool
    mark: Mark | None = None

    @property
    def stopped(self) -> bool:
        """Whether it is not filled any more."""
        return self.mark is not None and self.mark.stopped


@dataclass(frozen=True)
class ColumnChange:
    """One change to one column of a cold table.

    :param iceberg_type: afterwards
    """

    kind: ChangeKind
    name: str
    iceberg_type: str

    def __str__(self) -> str:
        if self.kind is ChangeKind.ADD:
            return f"add {self.name} ({self.iceberg_type})"
        return f"allow NULL in {self.name}" if self.kind is ChangeKind.LOOSEN else f"{self.name} to {self.iceberg_type}"

    @property
    def waits(self) -> bool:
        """Whether it waits until no window is open: rows of one window have the same columns.

        The others do not wait: the open window's rows may be those that need them, and readers see no difference.
        """
        return self.kind is ChangeKind.ADD


@dataclass(frozen=True)
class ColumnPair:
    """A column as both sides have it; ``None`` where one lacks it.

    :param changes: that let the cold side follow
    :param refusal: why it cannot, and what a person may do
    """

    name: str
    source: Column | None
    cold: ColdColumn | None
    changes: tuple[ColumnChange, ...] = ()
    refusal: str | None = None


def pair_columns(table: TableSpec, source: Sequence[Column], cold: Sequence[ColdColumn]) -> tuple[ColumnPair, ...]:
    """Both sides of each column, in the source's order; those that only the cold table has come last."""
    warm, there = {column.name: column for column in source}, {column.name: column for column in cold}
    new = [name for name in warm if name not in there]
    return tuple(_pair(table, name, warm.get(name), there.get(name), new) for name in {**warm, **there})


def plan_changes(table: TableSpec, source: Sequence[Column], cold: Sequence[ColdColumn]) -> tuple[ColumnChange, ...]:
    """How the cold table follows its source; nothing if it need not.

    :raises InvalidSource: if it cannot, naming the first column and the choice that a person has
    """
    pairs = pair_columns(table, source, cold)
    for pair in pairs:
        if pair.refusal is not None:
            raise InvalidSource(pair.refusal)
    return tuple(change for pair in pairs for change in pair.changes)


def changed(cold: Sequence[ColdColumn], changes: Iterable[ColumnChange], since: datetime) -> tuple[ColdColumn, ...]:
    """The cold table's columns after some changes.

    :param since: the watermark: the next window begins there
    """
    columns = {column.name: column for column in cold}
    for change in changes:
        if change.kind is ChangeKind.ADD:
            columns[change.name] = ColdColumn(change.name, change.iceberg_type, True, Mark(since))
        elif change.kind is ChangeKind.WIDEN:
            columns[change.name] = replace(columns[change.name], iceberg_type=change.iceberg_type)
        else:
            columns[change.name] = replace(columns[change.name], nullable=True)
    return tuple(columns.values())


def stopped(cold: Sequence[ColdColumn], name: str, since: datetime) -> tuple[ColdColumn, ...]:
    """The cold table's columns when one of them is not filled any more; what was accepted below stays so."""
    return tuple(
        replace(column, nullable=True, mark=replace(column.mark or Mark(since), since=since, stopped=True))
        if column.name == name
        else column
        for column in cold
    )


def check_filled(table: TableSpec, cold: Iterable[ColdColumn], watermark: datetime) -> None:
    """Whether no window would bring NULL below where a column is not filled any more: main was rolled back there.

    :raises InvalidSource: if one would; until a person lets the column be unfilled from the watermark on
    """
    for column in cold:
        if column.mark is not None and column.mark.stopped and watermark < column.mark.since:
            raise InvalidSource(
                f"{table.name}: its cold table was rolled back to {format_time(watermark)}, and column '{column.name}' "
                f"was filled up to {format_time(column.mark.since)}. Windows would bring these rows again with NULL in "
                "it. Nothing was moved and no row is lost. If the snapshots that were rolled back are good, roll "
                "forward to them; to go on without these values, run "
                f"`k2 schema {table.name} --stop-filling {column.name}` again."
            )


def find_nulls(cold: Iterable[ColdColumn], ranges: Sequence[Window]) -> Mapping[str, tuple[Window, ...]]:
    """Where history would come with NULL in a column that was filled then, and nobody has accepted that, by column.

    :param ranges: what is to be brought
    """
    found = {}
    for column in cold:
        if column.mark is not None and column.mark.stopped:
            below = (part for each in ranges if (part := _below(each, column.mark.since)) is not None)
            found[column.name] = subtract(below, column.mark.nulls)
    return {name: nulls for name, nulls in found.items() if nulls}


def accept_nulls(cold: Sequence[ColdColumn], ranges: Sequence[Window]) -> tuple[ColdColumn, ...]:
    """The cold table's columns when a person lets ranges be brought without what is not filled any more."""
    found = find_nulls(cold, ranges)
    return tuple(
        replace(column, mark=replace(column.mark, nulls=merge([*column.mark.nulls, *found[column.name]])))
        if column.mark is not None and column.name in found
        else column
        for column in cold
    )


def _below(window: Window, time: datetime) -> Window | None:
    return Window(window.low, min(window.high, time)) if window.low < time else None


def check_stop(table: TableSpec, name: str, cold: Sequence[ColdColumn]) -> None:
    """Whether a column may be left unfilled from now on.

    :raises InvalidSource: if the cold table has none of that name, or the table file needs it
    """
    columns = {column.name: column for column in cold}
    if name not in columns:
        raise InvalidSource(
            f"{table.name}: the cold table has no column '{name}'; it has: {', '.join(columns)}. Nothing was changed."
        )
    keys = {
        "timestamp_column": (table.timestamp_column,),
        "partition_column": (table.partition_column,),
        "sequence_column": (table.sequence_column,),
        "version_column": (table.version_column,),
        "sort_columns": table.sort_columns,
        "key_columns": table.key_columns,
        "binary": table.binary,
    }
    for key, names in keys.items():
        if name in names:
            raise InvalidSource(
                f"{table.name}: the table file names column '{name}' as {key}, so it cannot be left unfilled. Nothing "
                f"was changed. Point 'source' at a view that has it; or, if it may go, take it out of {key} first."
            )


def settle(source: Sequence[Column], cold: Sequence[ColdColumn]) -> tuple[Column, ...]:
    """The columns that are moved and compared with the cold table as it is: all of its own, and no other.

    :param source: not refused by :func:`plan_changes`
    """
    there = {column.name: column for column in cold}
    filled = tuple(
        replace(column, compared_from=mark.since if (mark := there[column.name].mark) else None)
        for column in source
        if column.name in there and not there[column.name].stopped
    )
    unfilled = tuple(
        replace(no_value(column.name, column.iceberg_type), compared_from=column.mark.since)
        for column in cold
        if column.mark is not None and column.mark.stopped
    )
    return filled + unfilled


def widens(before: str, after: str) -> bool:
    """Whether Iceberg reads files of one type as another that holds all its values."""
    if (before, after) in (("int", "long"), ("float", "double")):
        return True
    old, new = _DECIMAL.fullmatch(before), _DECIMAL.fullmatch(after)
    return old is not None and new is not None and old[2] == new[2] and int(old[1]) < int(new[1])


def refused_by_choice(table: TableSpec, changes: Sequence[ColumnChange]) -> InvalidSource:
    """Why a table whose file says ``schema_changes: refuse`` stops."""
    return InvalidSource(
        f"{table.name}: the source's columns have changed, and the table file says schema_changes: refuse. To follow: "
        f"{', '.join(map(str, changes))}. Nothing was moved and no row is lost. `k2 schema {table.name}` shows both "
        f"sides; `k2 schema {table.name} --apply` changes the cold table."
    )


def write_marks(cold: Iterable[ColdColumn]) -> str:
    """The table property that says what is remembered of columns."""
    marks = {
        column.name: {
            "since": column.mark.since.isoformat(),
            "stopped": column.mark.stopped,
            "nulls": [[each.low.isoformat(), each.high.isoformat()] for each in column.mark.nulls],
        }
        for column in cold
        if column.mark is not None
    }
    return json.dumps(marks)


def read_marks(text: str | None) -> Mapping[str, Mark]:
    """The inverse of :func:`write_marks`, by column.

    :raises ValueError: if it is something else
    """
    try:
        return {
            name: Mark(
                datetime.fromisoformat(mark["since"]),
                bool(mark["stopped"]),
                tuple(Window(*map(datetime.fromisoformat, bounds)) for bounds in mark.get("nulls", ())),
            )
            for name, mark in json.loads(text or "{}").items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the table's property '{MARKS_PROPERTY}' is damaged: {text}") from error


def _pair(
    table: TableSpec, name: str, source: Column | None, cold: ColdColumn | None, new: Sequence[str]
) -> ColumnPair:
    if cold is None:
        added = (ColumnChange(ChangeKind.ADD, name, source.iceberg_type),) if source else ()
        return ColumnPair(name, source, cold, added)
    if cold.stopped:
        return ColumnPair(name, source, cold)
    if source is None:
        return ColumnPair(name, source, cold, refusal=_refusal(table, name, "missing", cold.iceberg_type, new))
    changes = []
    if source.iceberg_type != cold.iceberg_type:
        if not widens(cold.iceberg_type, source.iceberg_type):
            refusal = _refusal(table, name, source.iceberg_type, cold.iceberg_type, ())
            return ColumnPair(name, source, cold, refusal=refusal)
        changes.append(ColumnChange(ChangeKind.WIDEN, name, source.iceberg_type))
    if source.nullable and not cold.nullable:
        changes.append(ColumnChange(ChangeKind.LOOSEN, name, source.iceberg_type))
    return ColumnPair(name, source, cold, tuple(changes))


def _refusal(table: TableSpec, name: str, warm: str, cold: str, new: Sequence[str]) -> str:
    return (
        f"{table.name}: column '{name}' is {warm} in the source and {cold} in the cold table. Nothing was moved and "
        f"no row is lost. {_cure(table.name, name, warm, cold, new)}; then run `k2 validate`."
    )


def _cure(table: str, name: str, warm: str, cold: str, new: Sequence[str]) -> str:
    if (warm, cold) == ("string", "binary"):
        return f"Put '{name}' back into the table file's list 'binary'"
    if (warm, cold) == ("binary", "string"):
        return f"Take '{name}' out of the table file's list 'binary'"
    if warm.startswith("fixed") and cold == "string":
        return (
            "Version 0.1.0 cut a FixedString at its first zero byte. To go on so, point 'source' at a view that "
            f"selects toStringCutToZero({name}) AS {name}; to keep every byte, start a new cold table"
        )
    stop = f"or leave it NULL in the cold table from here on: `k2 schema {table} --stop-filling {name}`"
    if warm != "missing":
        return f"Point 'source' at a view that casts the column to what the cold table has; {stop}"
    if new:
        return (
            f"New in the source: {', '.join(new)}. If the column was renamed, point 'source' at a view that selects "
            f"{new[0]} AS {name}; {stop}"
        )
    return f"Put the column back, or point 'source' at a view that has it; {stop}"


def describe(pair: ColumnPair) -> str:
    """What is done about a column, in a few words; empty if nothing is."""
    if pair.refusal is not None:
        return "refused"
    if pair.cold is not None and pair.cold.mark is not None and pair.cold.mark.stopped:
        mark = pair.cold.mark
        below = f"; NULL in {', '.join(map(str, mark.nulls))}, too, which a backfill brings" if mark.nulls else ""
        return f"not filled since {format_time(mark.since)}{below}"
    if pair.changes:
        kinds = {ChangeKind.ADD: "to be added", ChangeKind.WIDEN: "to be widened", ChangeKind.LOOSEN: "to allow NULL"}
        return ", ".join(kinds[change.kind] for change in pair.changes)
    if pair.cold is not None and pair.cold.mark is not None:
        return f"filled since {format_time(pair.cold.mark.since)}"
    return ""
