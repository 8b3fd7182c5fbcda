"""The ClickHouse statements of a view over both tiers, as text; why it is right, see :mod:`combined_view`."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from k2_offload.core.combined_view import ViewState
from k2_offload.core.queries import source_of
from k2_offload.core.sql import RESERVED, instant, is_named, literal, qualified, quote, source_column
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.core.windows import to_micros

_NO_ZONE = re.compile(r"(.*\b)?(DateTime)(?:64\((\d)\))?(\)*)")
_AGGREGATE = re.compile(r"SimpleAggregateFunction\([^,]+, (.*)\)")
_DICTIONARY = re.compile(r"LowCardinality\((.*)\)")
_COLD = f"{RESERVED}cold"
"""What the view's query calls the cold table."""

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
    for column in columns:
        name, source, cold_column = quote(column.name), source_column(column.name), f"{_COLD}.{quote(column.name)}"
        if column.source_type is None:
            cold.append(cold_column)
            warm.append(f"{column.expression} AS {name}")
            continue
        types.append((source, column.source_type))
        kind = view_type(column.source_type, nullable=column.name in may_be_null)
        is_same = kind == column.source_type
        warm.append(f"{source if is_same else _cast(source, kind)} AS {name}")
        cold.append(f"{cold_column if is_same and column.expression == source else _cast(cold_column, kind)} AS {name}")
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


def view_type(source_type: str, *, nullable: bool) -> str:
    """The type of a column of the view: its source's. A time without a zone gets UTC: a view knows no session's zone.

    :param nullable: whether the cold tier may hold NULL
    """
    kind = source_type
    if "'" not in kind and (found := _NO_ZONE.fullmatch(kind)):
        before, name, precision, after = found.groups()
        kind = f"{before or ''}{name}{f'64({precision}, ' if precision else '('}'UTC'){after}"
    if not nullable or kind.startswith(("Nullable(", "LowCardinality(Nullable(")):
        return kind
    if found := _AGGREGATE.fullmatch(kind):
        return view_type(found[1], nullable=True)
    if found := _DICTIONARY.fullmatch(kind):
        return f"LowCardinality(Nullable({found[1]}))"
    return f"Nullable({kind})"


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
