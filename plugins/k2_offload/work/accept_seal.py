"""Accepting what a sealed day holds now in place of what was sealed: a person decides, and that is kept for ever.

What may be accepted is in :mod:`k2_offload.core.seals`; this module does the I/O around it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import date

from k2_offload.adapters.lake_seals import LakeSeals
from k2_offload.adapters.ledger_seals import LedgerSeals
from k2_offload.core.errors import DamagedTable, OffloadError, StaleWindow
from k2_offload.core.seals import Seal, check_acceptance, check_sealing
from k2_offload.core.tables import TableSpec
from k2_offload.work.compare import compare_day, count_days
from k2_offload.work.known_seals import newest_of, share_seals
from k2_offload.work.tiers import Tiers
from k2_offload.work.verify_seals import read_content, verify_seal


@dataclass(frozen=True)
class ChangedDay:
    """A sealed day that is not what it was.

    :param seal: the broken one
    :param successor: what the day holds now
    :param problem: since when, as far as that can be told
    """

    seal: Seal
    successor: Seal
    problem: str


def find_changed_day(tiers: Tiers, table: TableSpec, day: date) -> ChangedDay:
    """What a broken seal says of a day, and what the day holds now. The cold table is left as it is.

    :raises OffloadError: if there is nothing to accept, or it may not be accepted
    """
    seal = _newest(tiers, tiers.catalog.seals(table.namespace), table, day)
    days = count_days(tiers, table)
    if days is None or days.cold_table.uuid != seal.table_uuid:
        raise OffloadError(
            f"{table.name} {day}: the cold table was dropped or recreated meanwhile. Nothing was accepted."
        )
    cold = days.cold_table
    verified = verify_seal(tiers, cold, seal)
    if verified.healed:
        raise OffloadError(
            f"{table.name} {day}: it was healed since it was sealed: the next k2_reconcile that finds it equal seals "
            "it anew. Nothing was accepted."
        )
    if verified.problem is None:
        raise OffloadError(f"{table.name} {day}: it holds the rows that were sealed. There is nothing to accept.")
    if days.is_whole(day):
        check_acceptance(compare_day(tiers, days, day))
    rows, content = read_content(tiers, cold, day, seal.partition_column, seal.columns, cold.snapshot_id)
    successor = replace(
        seal,
        rows=rows,
        content_hash=content,
        before=seal.seal_id,
        snapshot_id=cold.snapshot_id,
        sealed_at=tiers.now(),
        accepted=True,
    )
    return ChangedDay(seal, successor, verified.problem)


def accept_changed_day(tiers: Tiers, table: TableSpec, changed: ChangedDay) -> None:
    """Seal what a person has seen. If the day has changed since, the new seal is broken, too.

    :raises StaleWindow: if the table was rolled back, or somebody else has sealed the day meanwhile
    """
    seal, successor = changed.seal, changed.successor
    lake = tiers.catalog.seals(table.namespace)
    if _newest(tiers, lake, table, seal.day) != seal:
        raise StaleWindow(f"{table.name} {seal.day}: it was sealed anew meanwhile. Nothing was accepted.")
    cold = tiers.catalog.load(table)
    ancestors = {snapshot.snapshot_id for snapshot in cold.chain.ancestors()} if cold is not None else ()
    check_sealing(successor, cold.uuid if cold else None, ancestors, lake.known)
    lake.append([successor])
    LedgerSeals(tiers.ledger).record([successor])


def _newest(tiers: Tiers, lake: LakeSeals, table: TableSpec, day: date) -> Seal:
    if altered := share_seals(tiers, lake, [table]):
        raise DamagedTable(altered[0])
    cold = tiers.load_cold(table)
    last, broken = newest_of(table, cold.uuid if cold else "", LedgerSeals(tiers.ledger).read([table.name]))
    if day in broken:
        raise DamagedTable(broken[day])
    if day not in last:
        raise OffloadError(
            f"{table.name} {day}: the day is not sealed, so there is nothing to accept. "
            f"`k2 verify --sealed {table.name}` shows up to which day it is."
        )
    return last[day].seal
