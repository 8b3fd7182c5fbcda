"""Seals the days that are over.

Why a seal is never wrong is in :mod:`k2_offload.core.seals`; this module does the I/O around it.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from k2_offload.adapters.lake_seals import LakeSeals
from k2_offload.adapters.ledger_seals import LedgerSeals, RecordedSeal
from k2_offload.core.day_comparison import Verdict
from k2_offload.core.errors import DamagedTable, OffloadError, Overloaded, Refused, Unreachable
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.seals import (
    Seal,
    check_sealing,
    is_heal,
    is_over,
    may_be_sealed,
)
from k2_offload.core.tables import TableSpec
from k2_offload.work.compare import TableDays, compare_day, count_days
from k2_offload.work.known_seals import by_namespace, newest_of, share_seals
from k2_offload.work.problems import collecting
from k2_offload.work.tiers import Tiers
from k2_offload.work.verify_seals import read_content, verify_seal

log = logging.getLogger(__name__)


@dataclass
class Sealing:
    """What was sealed of some tables.

    :param problems: why a day or a table could not be
    """

    seals: list[Seal] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def seal_days(tiers: Tiers, tables: Sequence[TableSpec], budget: timedelta | None = None) -> Sealing:
    """Seal the days of some tables that are due: those that are over and not sealed, and sealed ones that were healed.

    :param budget: no comparison begins so long after all days have been counted, but the first one does
    :raises Unreachable: if a service is down; what is wrong with one table alone becomes a problem
    """
    done = Sealing()
    for namespace, chosen in by_namespace(table for table in tables if table.reconcile).items():
        with collecting(done.problems):
            counted = []
            for table in chosen:
                with collecting(done.problems):
                    days = count_days(tiers, table)
                    if days is None:
                        continue
                    recorded, broken = _newest_recorded(tiers, days)
                    if broken or _due(tiers, days, recorded):
                        counted.append(days)
            if not counted:
                continue
            lake = tiers.catalog.seals(namespace)
            done.problems += share_seals(tiers, lake, chosen)
            started = tiers.now()
            for days in counted:
                with collecting(done.problems):
                    _seal_table(tiers, lake, days, started + budget if budget is not None else None, done)
    return done


def _seal_table(tiers: Tiers, lake: LakeSeals, days: TableDays, until: datetime | None, done: Sealing) -> None:
    recorded, broken = _newest_recorded(tiers, days)
    done.problems += broken.values()
    found: list[Seal] = []
    for day in _due(tiers, days, recorded):
        if day in broken:
            continue
        if (found or done.seals) and until is not None and tiers.now() > until:
            log.info("%s: no time to seal more days; the next run goes on", days.table.name)
            break
        with collecting(done.problems):
            if (seal := _compare(tiers, days, day, recorded.get(day))) is not None:
                found.append(seal)
                reached(FaultPoint.SEAL_COMPARED, seal.table)
    done.seals += _write(tiers, lake, days.table, found, done)


def _newest_recorded(tiers: Tiers, days: TableDays) -> tuple[dict[date, RecordedSeal], dict[date, str]]:
    """The last seal of each day of this incarnation of a table, as the ledger knows it; and why a day has none."""
    return newest_of(days.table, days.cold_table.uuid, LedgerSeals(tiers.ledger).read([days.table.name]))


def _due(tiers: Tiers, days: TableDays, recorded: Mapping[date, RecordedSeal]) -> list[date]:
    known = tiers.ledger.read_days(days.table.name)
    due = []
    for day in sorted(days.cold or ()):
        if not days.is_whole(day) or day in days.unmoved or not is_over(days.table, day, days.below):
            continue
        found = recorded.get(day)
        if found is None:
            if day in known and known[day].verdict is Verdict.EQUAL:
                due.append(day)
        elif found.problem is None and _is_healed_since(days, found):
            due.append(day)
    return due


def _is_healed_since(days: TableDays, recorded: RecordedSeal) -> bool:
    known = {recorded.seal.snapshot_id, recorded.verified_snapshot}
    for snapshot in days.cold_table.chain.ancestors():
        if snapshot.snapshot_id in known:
            return False
        if is_heal(snapshot, recorded.seal):
            return True
    return False


def _compare(tiers: Tiers, days: TableDays, day: date, before: RecordedSeal | None) -> Seal | None:
    """The seal that a day is due.

    :returns: ``None`` if it is not equal, or still what was sealed
    :raises DamagedTable: if the seal before is broken
    """
    if before is not None:
        verified = verify_seal(tiers, days.cold_table, before.seal)
        if verified.problem is not None:
            LedgerSeals(tiers.ledger).record_verification(
                before.seal, verified.snapshot_id, verified.problem, tiers.now()
            )
            raise DamagedTable(verified.problem)
        if not verified.healed:
            LedgerSeals(tiers.ledger).record_verification(before.seal, verified.snapshot_id, None, tiers.now())
            return None
    found = compare_day(tiers, days, day)
    if not may_be_sealed(found):
        return None
    columns = tuple(PlannedColumn(column.name, column.iceberg_type) for column in days.columns)
    try:
        rows, content = read_content(
            tiers, days.cold_table, day, days.table.partition_column, columns, found.snapshot_id
        )
    except (Unreachable, Refused, Overloaded):
        raise
    except OffloadError as error:  # the snapshot lacks a column that the table has by now
        log.info("%s %s: it is sealed after the next window: %s", days.table.name, day, error)
        return None
    if rows != found.cold_rows:
        return None
    return Seal(
        days.table.name,
        days.cold_table.uuid,
        day,
        days.table.partition_column,
        rows,
        content,
        columns,
        before.seal.seal_id if before is not None else None,
        found.snapshot_id,
        tiers.now(),
    )


def _write(tiers: Tiers, lake: LakeSeals, table: TableSpec, seals: Sequence[Seal], done: Sealing) -> list[Seal]:
    if not seals:
        return []
    checked = []
    cold = tiers.catalog.load(table)
    ancestors = {snapshot.snapshot_id for snapshot in cold.chain.ancestors()} if cold is not None else ()
    for seal in seals:
        with collecting(done.problems):
            check_sealing(seal, cold.uuid if cold else None, ancestors, lake.known)
            checked.append(seal)
    if checked:
        lake.append(checked)
        for seal in checked:
            reached(FaultPoint.SEALED_IN_LAKE, seal.table)
        LedgerSeals(tiers.ledger).record(checked)
        for seal in checked:
            reached(FaultPoint.SEALED, seal.table)
    return checked
