"""Lets a cold table's columns follow those of its source. The rules are in :mod:`k2_offload.core.schema_change`."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.core.errors import OffloadError
from k2_offload.core.exactly_once import check_cut, follow_chain, watermark_of
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.schema_change import (
    ChangeKind,
    ColumnChange,
    ColumnPair,
    changed,
    check_filled,
    check_stop,
    pair_columns,
    refused_by_choice,
    stopped,
)
from k2_offload.core.tables import TableSpec
from k2_offload.core.type_mapping import Column
from k2_offload.work.problems import collecting
from k2_offload.work.tiers import Tiers

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableSchema:
    """Both sides of one table's columns.

    :param exists: whether there is a cold table
    :param window_open: whether new columns wait for the end of an open window
    :param unfilled: why windows would bring NULL over values; empty if they would not
    """

    table: TableSpec
    columns: tuple[ColumnPair, ...]
    exists: bool
    window_open: bool
    unfilled: tuple[str, ...] = ()

    @property
    def refusals(self) -> list[str]:
        """Why the table stops."""
        found = [pair.refusal for pair in self.columns if pair.refusal is not None]
        found += self.unfilled
        if not found and self.exists and self.changes and self.table.schema_changes == "refuse":
            found.append(str(refused_by_choice(self.table, self.changes)))
        return found

    @property
    def changes(self) -> list[ColumnChange]:
        """How the cold table is to follow."""
        return [change for pair in self.columns for change in pair.changes]


def read_schema(tiers: Tiers, table: TableSpec) -> TableSchema:
    """Look at both sides of a table's columns.

    :raises OffloadError: if one of them cannot be read
    """
    source, cold = tiers.clickhouse.columns(table), tiers.load_cold(table)
    if cold is None:
        return TableSchema(table, pair_columns(table, source, ()), False, False)
    entry = tiers.ledger.read_entry(table.name)
    window_open = follow_chain(table.name, entry, cold.uuid, cold.published).resume is not None
    unfilled: list[str] = []
    with collecting(unfilled):
        check_filled(table, cold.columns, watermark_of(cold.published))
    return TableSchema(table, pair_columns(table, source, cold.columns), True, window_open, tuple(unfilled))


def check_fits(table: TableSpec, cold: ColdTable, columns: Sequence[Column]) -> Sequence[ColumnChange]:
    """Whether windows may be cut of the table as it is: what ``plan`` refuses, and whoever says what it will do.

    :param columns: of the source
    :returns: how the cold table is to follow them
    :raises OffloadError: if the table stops
    """
    published = cold.published  # first: a table that was replaced may have other columns and partitions as well
    changes = cold.check_source(table, columns)
    if changes and table.schema_changes == "refuse":
        raise refused_by_choice(table, changes)
    check_cut(table.name, published, table.timestamp_column)
    check_filled(table, cold.columns, watermark_of(published))
    return changes


def follow_source(
    table: TableSpec, cold: ColdTable, changes: Sequence[ColumnChange], watermark: datetime, *, window_open: bool
) -> None:
    """Change the cold table's columns as far as that can be done now; done twice, it does nothing the second time.

    Whoever has the table's row in the ledger may call it: a window must not be opened meanwhile.

    :param changes: of :meth:`~k2_offload.adapters.cold_table.ColdTable.check_source`
    :param watermark: of the cold table
    :raises StaleWindow: if another writer changed them meanwhile
    """
    due = [change for change in changes if not (window_open and change.waits)]
    if not due:
        return
    cold.change_columns(due, changed(cold.columns, due, watermark))
    reached(FaultPoint.COLUMNS_CHANGED, table.name)
    log.info("%s: columns of the cold table changed: %s", table.name, ", ".join(map(str, due)))


def apply(tiers: Tiers, table: TableSpec) -> list[ColumnChange]:
    """Do now what the next cycle would do.

    :returns: what was done
    :raises OffloadError: if the table is refused, or new columns wait for an open window
    """
    with _held(tiers, table) as held:
        changes = held.cold.check_source(table, held.source)
        waiting = [change for change in changes if change.waits]
        if held.window_open and waiting:
            raise _wait(table, f"{', '.join(map(str, waiting))} waits")
        follow_source(table, held.cold, changes, watermark_of(held.cold.published), window_open=held.window_open)
        return list(changes)


def stop_filling(tiers: Tiers, table: TableSpec, name: str) -> bool:
    """Leave a column of the cold table NULL from now on, whatever the source has.

    :returns: whether it was filled until now, or was where a rollback has put the table
    :raises OffloadError: if that is not possible, or a window is open that can still be moved with the column
    """
    with _held(tiers, table) as held:
        columns = held.cold.columns
        check_stop(table, name, columns)
        [column] = [each for each in columns if each.name == name]
        watermark = watermark_of(held.cold.published)
        if column.mark is not None and column.stopped and column.mark.since <= watermark:
            return False
        pairs = pair_columns(table, held.source, columns)
        if held.window_open and all(pair.refusal is None for pair in pairs):
            raise _wait(table, f"leaving column '{name}' unfilled waits")
        loosen = () if column.nullable else (ColumnChange(ChangeKind.LOOSEN, name, column.iceberg_type),)
        held.cold.change_columns(loosen, stopped(columns, name, watermark))
        return True


@dataclass(frozen=True)
class _Held:
    source: tuple[Column, ...]
    cold: ColdTable
    window_open: bool


@contextmanager
def _held(tiers: Tiers, table: TableSpec) -> Iterator[_Held]:
    """A table's both sides, while nobody plans it."""
    with tiers.ledger.locked(table.name) as locked:
        cold = tiers.load_cold(table)
        if cold is None:
            raise OffloadError(
                f"{table.name}: there is no cold table yet. Nothing was changed; the first cycle makes it with the "
                "source's columns."
            )
        state = follow_chain(table.name, locked.entry(), cold.uuid, cold.published)
        yield _Held(tiers.clickhouse.columns(table), cold, state.resume is not None)


def _wait(table: TableSpec, what: str) -> OffloadError:
    return OffloadError(
        f"{table.name}: a window is open, and rows of one window have the same columns: {what} for its end. Nothing "
        f"was changed. `k2 run {table.name}` moves the window; then run the command again."
    )
