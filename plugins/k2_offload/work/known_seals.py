"""Which seals are known, in the lake and in the ledger."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import date

from k2_offload.adapters.lake_seals import LakeSeals
from k2_offload.adapters.ledger_seals import LedgerSeals, RecordedSeal
from k2_offload.core.errors import DamagedTable
from k2_offload.core.seals import Seal, newest
from k2_offload.core.tables import TableSpec
from k2_offload.work.tiers import Tiers

log = logging.getLogger(__name__)


def by_namespace(tables: Iterable[TableSpec]) -> Mapping[str, list[TableSpec]]:
    """The tables whose seals are in one table of the lake."""
    found: dict[str, list[TableSpec]] = defaultdict(list)
    for table in tables:
        found[table.namespace].append(table)
    return found


def newest_of(
    table: TableSpec, uuid: str, recorded: Iterable[RecordedSeal]
) -> tuple[dict[date, RecordedSeal], dict[date, str]]:
    """The last seal of each day of one incarnation of a table, as the ledger knows it; and why a day has none."""
    by_id = {each.seal.seal_id: each for each in recorded}
    last, broken, _ = newest_seals(table, uuid, (each.seal for each in by_id.values()))
    return {seal.day: by_id[seal.seal_id] for seal in last}, broken


def newest_seals(
    table: TableSpec, uuid: str | None, seals: Iterable[Seal]
) -> tuple[list[Seal], dict[date, str], set[str]]:
    """The last seal of each day of this incarnation of a table; why a day has none; the others that seals speak of."""
    by_day: dict[date, list[Seal]] = defaultdict(list)
    others = set()
    for seal in seals:
        if seal.table_uuid == uuid:
            by_day[seal.day].append(seal)
        else:
            others.add(seal.table_uuid)
    last, broken = [], {}
    for day, each in sorted(by_day.items()):
        try:
            last.append(newest(table.name, day, each))
        except DamagedTable as damage:
            broken[day] = str(damage)
    return last, broken, others


def share_seals(tiers: Tiers, lake: LakeSeals, tables: Sequence[TableSpec]) -> list[str]:
    """Let the ledger know the lake's seals, and the lake those that only the ledger knows: either may be lost.

    The lake gets none of a day whose seals are not one chain: a foreign one would come back after somebody took it out.

    :returns: a sentence for each row of the lake that is no seal
    """
    names = [table.name for table in tables]
    seals, altered = lake.read()
    in_lake = {seal.seal_id: seal for seal in seals if seal.table in names}
    ledger = LedgerSeals(tiers.ledger)
    in_ledger = {each.seal.seal_id: each.seal for each in ledger.read(names)}
    by_day: dict[tuple[str, str, date], dict[str, Seal]] = defaultdict(dict)
    for seal in (*in_ledger.values(), *in_lake.values()):
        by_day[seal.table, seal.table_uuid, seal.day][seal.seal_id] = seal
    lost: list[Seal] = []
    for (name, _, day), each in by_day.items():
        with suppress(DamagedTable):  # which its readers tell
            newest(name, day, list(each.values()))
            lost += (seal for seal_id, seal in each.items() if seal_id not in in_lake)
    if lost:
        log.warning("%d seals were in the ledger alone: they are written into the lake again", len(lost))
        lake.append(lost, again=True)
    if any(in_ledger.get(seal_id) != seal for seal_id, seal in in_lake.items()):
        ledger.record(list(in_lake.values()))
    return altered
