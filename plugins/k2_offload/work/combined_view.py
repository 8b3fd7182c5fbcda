"""Makes and renews the views over both tiers.

Why such a view is right is in :mod:`k2_offload.core.combined_view`; this module does the I/O around it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, time

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.ledger_retention import LedgerRetention
from k2_offload.adapters.ledger_seals import LedgerSeals
from k2_offload.core.adoption import ADOPTED_PROPERTY, read_kept_duplicates
from k2_offload.core.combined_view import (
    Boundary,
    KnownDays,
    ViewState,
    find_boundary,
    valid_until,
)
from k2_offload.core.errors import ChangedTable, DamagedTable, OffloadError, StaleWindow
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.gaps import GapKind, on_record
from k2_offload.core.lake import iceberg_table
from k2_offload.core.tables import TableSpec
from k2_offload.core.ttl import is_kept_too_short
from k2_offload.core.view_queries import create_view, read_all_views, read_view
from k2_offload.work.compare import TableDays, count_days
from k2_offload.work.holding import read_kept
from k2_offload.work.known_seals import newest_of
from k2_offload.work.problems import collecting
from k2_offload.work.tiers import WORKER, Tiers
from k2_offload.work.ttl import read_kept_for

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PlannedView:
    """What a view shows, and what it would show if it were renewed.

    :param before: ``None`` if there is no such view
    :param held_by: why the boundary is not a later one, and what to do
    :param statement: what renews it
    """

    before: ViewState | None
    state: ViewState
    held_by: str
    statement: str


def plan_view(tiers: Tiers, table: TableSpec, *, by_person: bool = False, accept_unsealed: bool = False) -> PlannedView:
    """What the view of a table is to show now. Nothing is changed.

    :param by_person: somebody looks at it: the cold table may be another one than the view's
    :param accept_unsealed: days without a seal that ClickHouse no longer holds count as complete
    :raises OffloadError: if no boundary is right, and why
    """
    _check_possible(tiers, table)
    before = read_state(tiers, table)
    days = count_days(tiers, table)
    if days is None:
        raise OffloadError(f"{table.name}: nothing of it is in the cold table yet; see `k2 status {table.name}`.")
    cold = days.cold_table
    if before is not None and before.table_uuid != cold.uuid and not by_person:
        raise ChangedTable(
            f"{table.name}: its view {table.view} shows the cold table {before.table_uuid}, and the catalog has "
            f"another one, {cold.uuid}. The view was not changed, and shows the old one as long as its files are "
            f"there. If that was meant, run `k2 view {table.name} --apply`."
        )
    remembered = before if before is not None and before.table_uuid == cold.uuid else None
    found = _find_boundary(tiers, days, remembered, accept=accept_unsealed)
    state = ViewState(
        table.name,
        cold.uuid,
        table.partition_column,
        datetime.combine(found.first_warm, time(), UTC),
        cold.snapshot_id,
        cold.metadata_location,
        valid_until(table, found.first_warm, days.kept, days.now),
        {day.isoformat(): rows for day, rows in found.unsealed.items()},
        tuple(map(str, found.missed)),
        tuple(map(str, found.skipped)),
    )
    reader = iceberg_table(cold.location, cold.metadata_location, tiers.lake_collection)
    may_be_null = {column.name for column in cold.columns if column.nullable}
    return PlannedView(before, state, found.held_by, create_view(table, days.columns, may_be_null, state, reader))


def renew_views(tiers: Tiers, tables: Sequence[TableSpec]) -> list[str]:
    """Let the views of some tables show both tiers as they are now.

    :returns: a sentence for each view that was not renewed; it shows what it showed before
    :raises Unreachable: if a service is down
    """
    problems: list[str] = []
    for table in tables:
        if table.view is not None and table.reconcile:
            with collecting(problems):
                planned = plan_view(tiers, table)
                apply_view(tiers, table, planned)
                log.info("%s: %s is cold below %s", table.name, table.view, planned.state.boundary)
    return problems


def apply_view(tiers: Tiers, table: TableSpec, planned: PlannedView) -> None:
    """Put the view as it was planned in the place of the one before.

    With ``retention: proven``, it may read old days from ClickHouse: none of them may be moved away meanwhile.

    :raises StaleWindow: if another run moves partitions now, or has moved some since it was planned
    :raises OffloadError: if ClickHouse refuses it
    """
    storage = tiers.clickhouse.storage(table) if table.is_proven else None
    with LedgerRetention(tiers.ledger).alone(storage.name) if storage is not None else nullcontext():
        if storage is not None and read_kept(tiers, table).all_from(date.min) > planned.state.boundary.date():
            raise StaleWindow(f"{table.name}: days were moved away since its view was planned. It was not changed.")
        tiers.clickhouse.execute(planned.statement)


def _check_possible(tiers: Tiers, table: TableSpec) -> None:
    if table.view is None:
        raise OffloadError(
            f"{table.name}: the table file names no view for it. Set 'view: database.name'; see docs/reading.md."
        )
    if tiers.cold_reader == WORKER:
        raise OffloadError(
            f"{table.name}: [k2_offload] cold_reader = worker says that ClickHouse does not read the lake, and a view "
            "over both tiers has to. Nothing was changed."
        )
    storage, really_kept = read_kept_for(tiers, table)
    if is_kept_too_short(table.warm_retention, really_kept):
        raise OffloadError(
            f"{table.name}: {storage} keeps rows for {really_kept}, and the table file says "
            f"{table.warm_retention_text}: the view would miss what the TTL takes. The view was not changed. Correct "
            "warm_retention_days; then run `k2 validate`."
        )


def read_state(tiers: Tiers, table: TableSpec) -> ViewState | None:
    """What the view of a table shows; ``None`` if there is none.

    :raises OffloadError: if something else has its name
    """
    found = tiers.clickhouse.execute(read_view(table))
    if not found:
        return None
    [(engine, comment)] = found
    try:
        state = ViewState.read(comment)
    except ValueError:
        state = None
    if engine != "View" or state is None or state.table != table.name:
        raise OffloadError(
            f"{table.name}: {table.view} in ClickHouse is no view of this table over both tiers ({engine}), and was "
            "not replaced. Drop it, or name another in the table file: 'view'."
        )
    return state


def read_all_states(tiers: Tiers) -> list[ViewState]:
    """What all views over both tiers show, also those that the table file does not name any more."""
    states = []
    for (comment,) in tiers.clickhouse.execute(read_all_views()):
        with suppress(ValueError):
            states.append(ViewState.read(comment))
    return states


def _find_boundary(tiers: Tiers, days: TableDays, before: ViewState | None, *, accept: bool) -> Boundary:
    table, cold = days.table, days.cold_table
    in_cold = cold.rows_per_day(table.partition_column, FIRST_WATERMARK.date())
    if in_cold is None or cold.delete_files:
        raise DamagedTable(
            f"{table.name}: the cold table has files of other partitions than days, or delete files of another writer, "
            "so nothing says how many rows a day has. The view was not changed and no row is lost."
        )
    newest, broken = newest_of(table, cold.uuid, LedgerSeals(tiers.ledger).read([table.name]))
    verdicts = {day: each.verdict for day, each in tiers.ledger.read_days(table.name).items()}
    gaps = on_record(tiers.ledger.read_gaps().get(table.name, ()), cold.skips)
    known = KnownDays(
        days.warm,
        in_cold,
        {day: each.seal.rows for day, each in newest.items()},
        broken | {day: each.problem for day, each in newest.items() if each.problem is not None},
        verdicts,
        days.left_out,
        [*days.left_out, *(gap.window for gap in gaps if gap.kind is not GapKind.SKIPPED and gap.rows != 0)],
        days.kept.all_from(days.whole_from),
        days.below,
        days.unmoved,
        _read_doubled(table, cold),
    )
    return find_boundary(table, known, before, accept=accept)


def _read_doubled(table: TableSpec, cold: ColdTable) -> dict[date, int]:
    try:
        return read_kept_duplicates(cold.foreign.property_of(ADOPTED_PROPERTY))
    except ValueError:
        raise DamagedTable(
            f"{table.name}: the cold table's property {ADOPTED_PROPERTY} is not as `k2 adopt` wrote it, so nothing "
            "says which days hold rows twice. The view was not changed and no row is lost. Set it to what the "
            "table's earlier metadata files say."
        ) from None
