"""The plan of one Spark application: all it needs to know, so that it decides nothing.

It holds no secret: connections are named, their contents reach the application through its environment.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from k2_offload.core import queries
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.replicas import longest_delay_seconds
from k2_offload.core.tables import TableSpec
from k2_offload.core.transports import TRANSPORTS
from k2_offload.core.type_mapping import Column

_VERSION = 7


@dataclass(frozen=True)
class PlannedColumn:
    """A column's name and its Iceberg type.

    :param source_type: ClickHouse's own name of the type that it was planned for; ``None`` if it is not read there
    """

    name: str
    iceberg_type: str
    source_type: str | None = None


@dataclass(frozen=True, kw_only=True)
class PlannedRows:
    """Rows of one table, ready to be written to files of the cold table.

    :param table: its name in the table file
    :param target: ``namespace.table`` in the catalog
    :param rows: how many the source held when that was planned
    :param cut_on: the column whose times the bounds of windows are
    :param partition_field: name of the Iceberg partition field (a day)
    :param max_file_rows: see :func:`k2_offload.core.splits.split_days`
    :param parallel_exports: how many files may be written at once
    :param rows_per_slot_sql: see :func:`k2_offload.core.queries.rows_per_slot`
    :param select_split_sql: see :func:`k2_offload.core.queries.select_split`
    :param column_types_sql: see :func:`k2_offload.core.queries.column_types`
    :param ledger_id: of the ledger that planned it, see :data:`k2_offload.core.exactly_once.LEDGER_PROPERTY`
    :param replicated: the replicated tables that the source is read from, as ``database.table``
    :param longest_delay_seconds: how far behind their replicas may be on a server that the job asks
    """

    table: str
    target: str
    rows: int
    cut_on: str
    transport: str
    partition_field: str
    columns: tuple[PlannedColumn, ...]
    max_file_rows: int
    parallel_exports: int
    rows_per_slot_sql: str
    select_split_sql: str
    column_types_sql: str
    ledger_id: str | None
    replicated: tuple[str, ...]
    longest_delay_seconds: int


@dataclass(frozen=True, kw_only=True)
class PlannedWindow(PlannedRows):
    """The rows of one window, ready to be moved.

    :param window_id: see :class:`k2_offload.core.exactly_once.WindowId`
    """

    window_id: str


@dataclass(frozen=True, kw_only=True)
class PlannedHeal(PlannedRows):
    """The rows of one day, ready to take the place of the cold table's.

    :param heal_id: see :class:`k2_offload.core.heal.HealId`
    :param partition_column: the time that the cold table's partitions are days of
    :param content_hash: of the rows, see :mod:`k2_offload.core.content_hash`; the files must have it
    :param files: paths of the files to remove: all that the compared snapshot holds of the day
    """

    heal_id: str
    partition_column: str
    content_hash: int
    files: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class PlannedBackfill(PlannedRows):
    """The rows of a range that was skipped, ready to be brought.

    :param backfill_id: see :class:`k2_offload.core.backfill.BackfillId`
    """

    backfill_id: str


Kind = TypeVar("Kind", bound=PlannedRows)


def plan_rows(
    kind: type[Kind],
    table: TableSpec,
    columns: Sequence[Column],
    partition_field: str,
    condition: str,
    replicated: Sequence[str],
    **own: Any,
) -> Kind:
    """Plan rows of a table's source.

    :param kind: what is done with them, and ``own`` its own fields
    :param condition: which rows, in ClickHouse's SQL
    :param replicated: the replicated tables that the source is read from
    """
    return kind(
        table=table.name,
        target=table.target,
        cut_on=table.timestamp_column,
        transport=table.transport,
        partition_field=partition_field,
        columns=tuple(PlannedColumn(column.name, column.iceberg_type, column.source_type) for column in columns),
        max_file_rows=TRANSPORTS[table.transport].limit_file_rows(table.max_file_rows),
        parallel_exports=table.parallel_exports,
        rows_per_slot_sql=queries.rows_per_slot(table, condition),
        select_split_sql=queries.select_split(table, columns, condition),
        column_types_sql=queries.column_types(table),
        replicated=tuple(replicated),
        longest_delay_seconds=longest_delay_seconds(table) if replicated else 0,
        **own,
    )


@dataclass(frozen=True)
class RefusedTable:
    """A table that could not be planned, and why."""

    table: str
    reason: str


@dataclass(frozen=True)
class Plan:
    """What one Spark application moves, heals and backfills, and which tables of its job group it cannot."""

    job_group: str
    windows: tuple[PlannedWindow, ...] = ()
    refused: tuple[RefusedTable, ...] = ()
    heals: tuple[PlannedHeal, ...] = ()
    backfills: tuple[PlannedBackfill, ...] = ()

    def to_json(self) -> str:
        """The form in which the plan travels."""
        return json.dumps({"version": _VERSION, **asdict(self)}, separators=(",", ":"))

    @staticmethod
    def from_json(text: str) -> Plan:
        """The inverse of :meth:`to_json`.

        :raises ConfigurationError: if it is not a plan of this version
        """
        try:
            document: dict[str, Any] = json.loads(text)
            if document["version"] != _VERSION:
                raise ConfigurationError(f"the plan is of version {document['version']}, this job reads {_VERSION}")
            windows = [PlannedWindow(**_with_tuples(entry)) for entry in document["windows"]]
            heals = [
                PlannedHeal(**_with_tuples(entry) | {"files": tuple(entry["files"])}) for entry in document["heals"]
            ]
            backfills = [PlannedBackfill(**_with_tuples(entry)) for entry in document["backfills"]]
            refused = [RefusedTable(**entry) for entry in document["refused"]]
            return Plan(document["job_group"], tuple(windows), tuple(refused), tuple(heals), tuple(backfills))
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigurationError(f"not a plan: {error!r}") from None


def _with_tuples(entry: dict[str, Any]) -> dict[str, Any]:
    columns = tuple(PlannedColumn(**column) for column in entry["columns"])
    return entry | {"columns": columns, "replicated": tuple(entry["replicated"])}


Outcome = PlannedWindow | PlannedHeal | PlannedBackfill | RefusedTable


def group_plans(outcomes: Iterable[tuple[str, Outcome]]) -> list[Plan]:
    """One plan per job group, in the order in which the groups first appear.

    :param outcomes: pairs of job group and what became of planning one of its tables
    """
    groups: dict[str, list[Outcome]] = {}
    for job_group, outcome in outcomes:
        groups.setdefault(job_group, []).append(outcome)
    return [
        Plan(
            job_group,
            tuple(each for each in members if isinstance(each, PlannedWindow)),
            tuple(each for each in members if isinstance(each, RefusedTable)),
            tuple(each for each in members if isinstance(each, PlannedHeal)),
            tuple(each for each in members if isinstance(each, PlannedBackfill)),
        )
        for job_group, members in groups.items()
    ]
