"""Accepting that rows are gone: the one way past a table that stopped because it may have missed some."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from k2_offload.adapters.replicas import check_replicas
from k2_offload.core.errors import StaleWindow
from k2_offload.core.exactly_once import FIRST_WATERMARK, LedgerEntry, WindowId, watermark_of
from k2_offload.core.gaps import Gap, GapKind, Looked
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import format_time
from k2_offload.work.cycle import commit
from k2_offload.work.holding import find_expired
from k2_offload.work.tiers import Tiers


@dataclass(frozen=True)
class Missed:
    """What a table has missed and nobody has accepted yet.

    :param rows_left: how many rows the source still holds in the gap's range
    """

    gap: Gap
    rows_left: int


def find_missed(tiers: Tiers, table: TableSpec) -> list[Missed]:
    """Why the table stops, if it does so for rows that are gone.

    :raises OffloadError: if one of the tiers cannot be read, or the server that was asked lacks rows itself
    """
    entry = tiers.ledger.read_entry(table.name)
    cold = tiers.catalog.load(table)
    watermark = watermark_of(cold.published if cold else None)
    check_replicas(tiers.clickhouse, table)
    now = max(tiers.now(), tiers.clickhouse.now())  # as the cycle that has stopped
    missed = []
    if entry.open_window is not None and entry.open_window.window.low == watermark:  # otherwise it was moved
        window, rows = entry.open_window.window, tiers.clickhouse.count_within(table, entry.open_window.window)
        if rows < entry.planned_rows:
            missed.append(Missed(Gap(window, GapKind.FEWER_ROWS, entry.planned_rows - rows, now), rows))
    if watermark != FIRST_WATERMARK:
        expired = find_expired(tiers, table, watermark, entry.looked, now, soon=True)
        if expired is not None:
            rows = tiers.clickhouse.count_within(table, expired)
            missed.append(Missed(Gap(expired, GapKind.EXPIRED, None, now), rows))
    return missed


def accept_missed(tiers: Tiers, table: TableSpec, missed: Sequence[Missed]) -> None:
    """Put it on record, and let the next cycle go on with what is there, and no less.

    :raises StaleWindow: if the source holds more or fewer of an open window's rows than when that was looked at, or
        what may have expired begins elsewhere by now
    :raises OffloadError: if the cold table cannot be read, or is not the one that the ledger has followed
    """
    commit(tiers, table)  # a ledger that knows no watermark, or an old one, would forget what is accepted here
    with tiers.ledger.locked(table.name) as locked:
        for each in missed:
            entry = locked.entry()
            opened = _opened_for(each.gap, entry)
            if each.gap.kind is GapKind.EXPIRED:
                _check_expired(tiers, table, entry, each.gap)
                locked.set_looked(Looked(cleared_until=each.gap.window.high))
            elif opened is None:
                continue  # it was published meanwhile, with all its rows
            else:
                rows = tiers.clickhouse.count_within(table, opened.window)
                if (rows, entry.planned_rows - rows) != (each.rows_left, each.gap.rows):
                    raise StaleWindow(
                        f"{table.name} {opened.window}: ClickHouse holds {rows:,} rows of it by now, and "
                        f"{each.rows_left:,} were shown. Nothing was put on record. Look again: "
                        f"`k2 accept {table.name}`."
                    )
                locked.accept_rows(opened, rows)
            locked.record_gap(each.gap)


def _check_expired(tiers: Tiers, table: TableSpec, entry: LedgerEntry, gap: Gap) -> None:
    """Meanwhile rows may have been moved, or somebody else may have accepted the same."""
    now = max(tiers.now(), tiers.clickhouse.now())
    expired = entry.watermark and find_expired(tiers, table, entry.watermark, entry.looked, now, soon=True)
    if not expired or expired.low != gap.window.low:
        raise StaleWindow(
            f"{table.name}: what may have expired does not begin at {format_time(gap.window.low)} any more: rows were "
            f"moved, or that was accepted already. Nothing was put on record. Look again: `k2 accept {table.name}`."
        )


def _opened_for(gap: Gap, entry: LedgerEntry) -> WindowId | None:
    opened = entry.open_window
    return opened if opened is not None and opened.window == gap.window else None
