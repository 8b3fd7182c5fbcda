"""The ClickHouse statements of a view over both tiers, as text; why it is right, see :mod:`combined_view`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from k2_offload.core.combined_view import ViewState
from k2_offload.core.queries import source_of
from k2_offload.core.sql import RESERVED, instant, is_named, literal, qualified, quote, source_column
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import MAX_TIME_PRECISION, Column, is_time, narrowed
from k2_offload.core.windows import to_micros

_TIME = re.compile(r"\bDateTime(?:64)?(?:\((\d)?(?:, )?('[^']*')?\))?")
_AGGREGATE = re.compile(r"SimpleAggregateFunction\([^,]+, (.*)\)")
_DICTIONARY = re.compile(r"LowCardinality\((.*)\)")
_COLD = f"{RESERVED}cold"
"""What the view's query calls the cold table."""

_LONG_TYPE = 60
"""So many characters of a type's name are told: an Enum's may be thousands."""

_PRUNES_IN_UTC = 2609
"""The first ClickHouse, 26.9, that finds the partitions of a time whatever the session's time zone is."""


def create_view(
    table: TableSpec, columns: Sequence[Column], may_be_null: Collection[str], state: ViewState, cold_table: str
) -> str:
    """The statement that makes the view, or puts it in the place of the one before, at once.

    :param columns: of both tiers
    :param may_be_null: those that may be NULL in the cold table
    :param cold_table: a table function that reads it
    """
    cold, warm, types = [], [], []
    times = {table.timestamp_column, table.partition_column}  # no guard: it would hide from ClickHouse what to prune
    for column in columns:
        name, source, value = quote(column.name), source_column(column.name), f"{_COLD}.{quote(column.name)}"
        if column.source_type is None:
            cold.append(value)
            warm.append(f"{column.expression} AS {name}")
            continue
        types.append((source, column.source_type))
        nullable, finest = column.name in may_be_null, column.name in times
        kind = view_type(column.source_type, nullable=nullable, finest=finest)
        is_same = kind == column.source_type
        warm.append(f"{source if is_same else _cast(source, kind)} AS {name}")
        if not finest and (narrow := narrowed(column.source_type, value)) is not None:
            text = _misfit_text(table, column.name, column.source_type)
            fitting, is_other = narrow
            cold.append(f"{_cast(f'if(throwIf({is_other}, {literal(text)}), {fitting}, {fitting})', kind)} AS {name}")
        else:
            cold.append(f"{value if is_same and column.expression == source else _cast(value, kind)} AS {name}")
    boundary, time = instant(to_micros(state.boundary)), table.partition_column
    guard = _guard(table, state)
    as_made = f"[{', '.join(f'toTypeName({source})' for source, _ in types)}]"
    wanted = f"[{', '.join(literal(kind) for _, kind in types)}]"
    changed = (
        f"k2: columns of {table.source} have changed since this view was made; no row is lost. "
        f"Run: k2 view {table.name} --apply"
    )
    return (
        f"CREATE OR REPLACE VIEW {qualified(table.view or '')} DEFINER = CURRENT_USER SQL SECURITY DEFINER AS "
        f"SELECT {', '.join(cold)} FROM {cold_table} AS {_COLD} WHERE {_COLD}.{quote(time)} < {boundary} AND {guard} "
        f"UNION ALL SELECT {', '.join(warm)} FROM {source_of(table)} WHERE {source_column(time)} >= {boundary} "
        f"AND {guard} AND throwIf({as_made} != {wanted}, {literal(changed)}) = 0 COMMENT {literal(state.comment)}"
    )


def read_view(table: TableSpec) -> str:
    """One row ``(engine, comment)`` of what has the view's name; none if nothing has."""
    return f"SELECT engine, comment FROM system.tables WHERE {is_named(table.view or '')}"


def read_all_views() -> str:
    """Rows ``(comment)`` of all views that may be of both tiers, whatever their names are."""
    return "SELECT comment FROM system.tables WHERE engine = 'View' AND startsWith(comment, '{\"table\": ')"


def view_type(source_type: str, *, nullable: bool, finest: bool = False) -> str:
    """The type of a column of the view: its source's. A time without a zone gets UTC: a view knows no session's zone.

    :param nullable: whether the cold tier may hold NULL
    :param finest: of a time, whether it has Iceberg's precision, whatever its source has
    """
    kind = source_type
    if is_time(kind):
        kind = _TIME.sub(lambda found: _time_type(found[1], found[2] or "'UTC'", finest=finest), kind)
    if not nullable or kind.startswith(("Nullable(", "LowCardinality(Nullable(")):
        return kind
    if found := _AGGREGATE.fullmatch(kind):
        return view_type(found[1], nullable=True)
    if found := _DICTIONARY.fullmatch(kind):
        return f"LowCardinality(Nullable({found[1]}))"
    return f"Nullable({kind})"


def _time_type(precision: str | None, zone: str, *, finest: bool) -> str:
    if finest or precision is not None:
        return f"DateTime64({MAX_TIME_PRECISION if finest else precision}, {zone})"
    return f"DateTime({zone})"


def _misfit_text(table: TableSpec, name: str, source_type: str) -> str:
    kind = source_type if len(source_type) <= _LONG_TYPE else f"{source_type[:_LONG_TYPE]}…"
    return (
        f"k2: column {name} of {table.target} has values that its type in {table.source}, {kind}, does not have; no "
        f"row is lost, and none is shown with another value. Read {table.target} itself; or let source be a view that "
        f"gives the column a wider type, and run: k2 view {table.name} --apply"
    )


def _cast(expression: str, kind: str) -> str:
    return f"CAST({expression}, {literal(kind)})"


def _guard(table: TableSpec, state: ViewState) -> str:
    """A condition that is always true, or fails before a row is read: a query for no rows fails, too."""
    late = (
        f"k2: this view has not been renewed, and the TTL of {table.source} may take rows that are not read from the "
        f"cold table; no row is lost there. Run: k2 view {table.name} --apply"
    )
    travel = "k2: iceberg_snapshot_id and iceberg_timestamp_ms would take rows out of this view; read the cold table"
    zone = (
        "k2: ClickHouse before 26.9 leaves out Iceberg files where the time zone is not UTC; "
        "set use_iceberg_partition_pruning = 0 or session_timezone = UTC"
    )
    version = "splitByChar('.', version())"
    number = f"toUInt32OrZero({version}[1]) * 100 + toUInt32OrZero({version}[2])"
    checks = [
        (f"now() >= toDateTime({to_micros(state.valid_until) // 1_000_000}, 'UTC')", late),
        ("getSetting('iceberg_snapshot_id') != 0 OR getSetting('iceberg_timestamp_ms') != 0", travel),
        (
            f"{number} < {_PRUNES_IN_UTC} AND getSetting('use_iceberg_partition_pruning') "
            "AND timezone() NOT IN ('UTC', 'Etc/UTC')",
            zone,
        ),
    ]
    return f"(SELECT {' + '.join(f'throwIf({check}, {literal(text)})' for check, text in checks)}) = 0"
