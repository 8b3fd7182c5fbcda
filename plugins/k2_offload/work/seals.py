"""Seals the days that are over, and verifies those that are sealed.

Why a seal is never wrong is in :mod:`k2_offload.core.seals`; this module does the I/O around it.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.lake_seals import LakeSeals
from k2_offload.adapters.ledger_seals import LedgerSeals, RecordedSeal
from k2_offload.core.day_comparison import Verdict
from k2_offload.core.day_queries import sealed_day
from k2_offload.core.errors import DamagedTable, OffloadError, Overloaded, Refused, StaleWindow, Unreachable
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.lake import iceberg_table
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.seals import (
    VERIFIED_DAYS,
    Break,
    Content,
    Seal,
    check_sealing,
    describe_break,
    find_break,
    is_over,
    may_be_sealed,
    may_change,
    newest,
)
from k2_offload.core.tables import TableSpec
from k2_offload.work.compare import TableDays, compare_day, count_days
from k2_offload.work.tiers import WORKER, Tiers

log = logging.getLogger(__name__)

SealsProgress = Callable[[Sequence[Seal]], Iterable[Seal]]
"""Passes seals on one by one, and shows how far it is."""


@dataclass
class Sealing:
    """What was sealed of some tables.

    :param problems: why a day or a table could not be
    """

    seals: list[Seal] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass
class SealCheck:
    """What was found of the sealed days of one table.

    :param days: sealed days that were looked at
    :param newest: the last sealed day, of all
    :param findings: a sentence for each seal that is broken, or cannot be read
    :param notes: what is no fault
    """

    table: str
    days: int = 0
    rows: int = 0
    newest: date | None = None
    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Verified:
    """One sealed day.

    :param problem: why its seal is broken; ``None`` if it is whole
    :param healed: whether the day was healed or backfilled since, so that a successor is to come
    """

    snapshot_id: int
    problem: str | None = None
    healed: bool = False


def seal_days(tiers: Tiers, tables: Sequence[TableSpec], budget: timedelta | None = None) -> Sealing:
    """Seal the days of some tables that are due: those that are over and not sealed, and sealed ones that were healed.

    :param budget: no comparison begins so long after all days have been counted, but the first one does
    :raises Unreachable: if a service is down; what is wrong with one table alone becomes a problem
    """
    done = Sealing()
    for namespace, chosen in _by_namespace(table for table in tables if table.reconcile).items():
        with _kept(done.problems):
            counted = []
            for table in chosen:
                with _kept(done.problems):
                    days = count_days(tiers, table)
                    if days is None:
                        continue
                    recorded, broken = _newest_recorded(tiers, days)
                    if broken or _due(tiers, days, recorded):
                        counted.append(days)
            if not counted:
                continue
            lake = tiers.catalog.seals(namespace)
            done.problems += _share(tiers, lake, chosen)
            started = tiers.now()
            for days in counted:
                with _kept(done.problems):
                    _seal_table(tiers, lake, days, started + budget if budget is not None else None, done)
    return done


def _seal_table(tiers: Tiers, lake: LakeSeals, days: TableDays, until: datetime | None, done: Sealing) -> None:
    recorded, broken = _newest_recorded(tiers, days)
    done.problems += broken.values()
    found: list[Seal] = []
    for day in _due(tiers, days, recorded):
        if day in broken:
            continue
        if found and until is not None and tiers.now() > until:
            log.info("%s: no time to seal more days; the next run goes on", days.table.name)
            break
        with _kept(done.problems):
            if (seal := _compare(tiers, days, day, recorded.get(day))) is not None:
                found.append(seal)
                reached(FaultPoint.SEAL_COMPARED, seal.table)
    done.seals += _write(tiers, lake, days.table, found, done)


@contextmanager
def _kept(problems: list[str]) -> Iterator[None]:
    """What is wrong with one table, or day, must not stop the others."""
    try:
        yield
    except Unreachable:
        raise
    except StaleWindow as stale:  # the next run looks anew
        log.info("%s", stale)
    except OffloadError as error:
        problems.append(str(error))


def _by_namespace(tables: Iterable[TableSpec]) -> Mapping[str, list[TableSpec]]:
    found: dict[str, list[TableSpec]] = defaultdict(list)
    for table in tables:
        found[table.target.partition(".")[0]].append(table)
    return found


def _newest_recorded(tiers: Tiers, days: TableDays) -> tuple[dict[date, RecordedSeal], dict[date, str]]:
    """The last seal of each day of this incarnation of a table, as the ledger knows it; and why a day has none."""
    return _newest_of(days.table, days.cold_table.uuid, LedgerSeals(tiers.ledger).read([days.table.name]))


def _newest_of(
    table: TableSpec, uuid: str, recorded: Iterable[RecordedSeal]
) -> tuple[dict[date, RecordedSeal], dict[date, str]]:
    by_id = {each.seal.seal_id: each for each in recorded}
    last, broken, _ = _newest_seals(table, uuid, (each.seal for each in by_id.values()))
    return {seal.day: by_id[seal.seal_id] for seal in last}, broken


def _due(tiers: Tiers, days: TableDays, recorded: Mapping[date, RecordedSeal]) -> list[date]:
    known = tiers.ledger.read_days(days.table.name)
    due = []
    for day in sorted(days.cold or ()):
        if day < days.whole_from or not is_over(days.table, day, days.below):
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
    for snapshot in days.cold_table.day_history(days.table.partition_column, recorded.seal.day).ancestors():
        if snapshot.snapshot_id in known:
            return False
        if may_change(snapshot, recorded.seal):
            return True
    return False


def _share(tiers: Tiers, lake: LakeSeals, tables: Sequence[TableSpec]) -> list[str]:
    """Let the ledger know the lake's seals, and the lake those that only the ledger knows: either may be lost.

    :returns: a sentence for each row of the lake that is no seal
    """
    names = [table.name for table in tables]
    seals, altered = lake.read()
    in_lake = {seal.seal_id: seal for seal in seals if seal.table in names}
    ledger = LedgerSeals(tiers.ledger)
    in_ledger = {each.seal.seal_id: each.seal for each in ledger.read(names)}
    if lost := [seal for seal_id, seal in in_ledger.items() if seal_id not in in_lake]:
        log.warning("%d seals were in the ledger alone: they are written into the lake again", len(lost))
        lake.append(lost)
    if any(in_ledger.get(seal_id) != seal for seal_id, seal in in_lake.items()):
        ledger.record(list(in_lake.values()))
    return altered


def _compare(tiers: Tiers, days: TableDays, day: date, before: RecordedSeal | None) -> Seal | None:
    """The seal that a day is due.

    :returns: ``None`` if it is not equal, or still what was sealed
    :raises DamagedTable: if the seal before is broken
    """
    if before is not None:
        verified = _verify(tiers, days.cold_table, before.seal)
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
        rows, content = _read(tiers, days.cold_table, day, days.table.partition_column, columns, found.snapshot_id)
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
    for seal in seals:
        chain = cold.day_history(table.partition_column, seal.day).ancestors() if cold is not None else ()
        with _kept(done.problems):
            check_sealing(seal, cold.uuid if cold else None, {snapshot.snapshot_id for snapshot in chain})
            checked.append(seal)
    if checked:
        lake.append(checked)
        for seal in checked:
            reached(FaultPoint.SEALED_IN_LAKE, seal.table)
        LedgerSeals(tiers.ledger).record(checked)
        for seal in checked:
            reached(FaultPoint.SEALED, seal.table)
    return checked


def verify_sealed(
    tiers: Tiers,
    table: TableSpec,
    first: date | None = None,
    last: date | None = None,
    progress: SealsProgress = lambda seals: seals,
) -> SealCheck:
    """Prove that each sealed day of a table holds what was sealed. ClickHouse reads the lake, and none of its own rows.

    Nothing is changed, in the ledger neither.

    :param first: the first day
    :param last: the last one, inclusive
    :raises Unreachable: if a service is down
    """
    found = SealCheck(table.name)
    try:
        recorded = LedgerSeals(tiers.ledger).read([table.name])
        in_lake, altered = tiers.catalog.seals(table.target.partition(".")[0]).read()
        found.findings += altered
        in_lake = [seal for seal in in_lake if seal.table == table.name]
        seals = [*in_lake, *(each.seal for each in recorded)]
        lost = {each.seal.seal_id for each in recorded} - {seal.seal_id for seal in in_lake}
        if lost:
            found.findings.append(
                f"{table.name}: {len(lost)} seals are in the ledger alone: somebody has dropped the lake's table of "
                "seals, or rolled it back. They are known all the same; `k2 maintain` writes them into it again."
            )
        cold = tiers.load_cold(table)
        current, broken, others = _newest_seals(table, cold.uuid if cold else None, seals)
        found.findings += broken.values()
        if others:
            _tell_others(tiers, table, cold, others, found)
        found.newest = max((seal.day for seal in current), default=None)
        chosen = [seal for seal in current if (first or date.min) <= seal.day <= (last or date.max)]
        for seal in progress(chosen):
            if cold is None:  # then nothing is sealed of it
                break
            verified = _verify(tiers, cold, seal)
            found.days, found.rows = found.days + 1, found.rows + seal.rows
            if verified.problem is not None:
                found.findings.append(verified.problem)
            elif verified.healed:
                found.notes.append(
                    f"{table.name} {seal.day}: it was healed or backfilled since it was sealed; the next k2_reconcile "
                    "that finds it equal seals it anew."
                )
    except Unreachable:
        raise
    except OffloadError as error:
        found.findings.append(str(error))
    return found


def _newest_seals(
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


def _tell_others(tiers: Tiers, table: TableSpec, cold: ColdTable | None, others: set[str], found: SealCheck) -> None:
    record = tiers.ledger.read_tables().get(table.name)
    named = ", ".join(sorted(others))
    if cold is not None and record is not None and record.table_uuid == cold.uuid:
        found.notes.append(f"{table.name}: seals of {named} say nothing of this table: it was recreated since.")
    else:
        found.findings.append(
            f"{table.name}: days are sealed of the cold table {named}, and the catalog has "
            f"{f'another, {cold.uuid}' if cold else 'none'}. Nothing was changed. See docs/disaster.md."
        )


def verify_due(tiers: Tiers, tables: Sequence[TableSpec], budget: timedelta | None = None) -> list[str]:
    """Verify the sealed days that were not looked at for the longest, and keep what was found.

    :param budget: no verification begins so long after the first
    :returns: a sentence for each seal that is broken, whether it was looked at or not
    :raises Unreachable: if a service is down
    """
    findings: list[str] = []
    for namespace, chosen in _by_namespace(tables).items():
        with _kept(findings):
            findings += _share(tiers, tiers.catalog.seals(namespace), chosen)
    due: list[tuple[RecordedSeal, ColdTable]] = []
    for table in tables:
        with _kept(findings):
            if (cold := tiers.load_cold(table)) is not None:
                recorded = LedgerSeals(tiers.ledger).read([table.name])
                last, broken = _newest_of(table, cold.uuid, recorded)
                findings += broken.values()
                due += [(each, cold) for each in last.values()]
    due.sort(key=lambda each: (each[0].verified_at is not None, each[0].checked_at))
    started = tiers.now()
    for position, (each, cold) in enumerate(due):
        if position >= VERIFIED_DAYS or (budget is not None and tiers.now() - started > budget):
            findings += [rest.problem for rest, *_ in due[position:] if rest.problem is not None]
            break
        with _kept(findings):
            verified = _verify(tiers, cold, each.seal)
            if not verified.healed:
                LedgerSeals(tiers.ledger).record_verification(
                    each.seal, verified.snapshot_id, verified.problem, tiers.now()
                )
            findings += [verified.problem] if verified.problem is not None else []
    return findings


def _read(
    tiers: Tiers, cold: ColdTable, day: date, partition_column: str, columns: Sequence[PlannedColumn], snapshot_id: int
) -> Content:
    if tiers.cold_reader == WORKER:
        from k2_offload.adapters.row_hashes import row_hashes  # noqa: PLC0415 - imports numpy

        rows = content = 0
        names = [column.name for column in columns]
        for batch in cold.read_day(partition_column, day, names, snapshot_id):
            rows, content = rows + batch.num_rows, content + sum(row_hashes(batch, columns).tolist())
        return rows, content % 2**64
    reader = iceberg_table(cold.location, cold.metadata_location, tiers.lake_collection)
    sql = sealed_day(columns, partition_column, day, reader, snapshot_id)
    [(rows, content)] = tiers.clickhouse.execute(sql)
    return rows, content


def _verify(tiers: Tiers, cold: ColdTable, seal: Seal) -> Verified:
    problems: dict[int, str] = {}

    def content_of(snapshot_id: int) -> Content | None:
        try:
            return _read(tiers, cold, seal.day, seal.partition_column, seal.columns, snapshot_id)
        except (Unreachable, Refused, Overloaded):
            raise
        except OffloadError as error:
            problems[snapshot_id] = str(error)
            return None

    head = cold.snapshot_id
    if content_of(head) == seal.content:
        return Verified(head)
    history = cold.day_history(seal.partition_column, seal.day)
    chain = history.ancestors()
    below_sealed = {snapshot.snapshot_id for snapshot in history.ancestors(seal.snapshot_id)}
    since = []
    for snapshot in chain:  # from the newest on, down to the newest one that the sealed one is made on
        since.append(snapshot)
        if snapshot.snapshot_id in below_sealed:
            break
    steps = [history.step(snapshot) for snapshot in reversed(since)]
    broken = find_break(seal, steps, content_of) if steps else Break(head, None)
    if broken is None and head in problems:
        return Verified(
            head,
            f"{seal.table} {seal.day}: it was healed since it was sealed, and it cannot be read: {problems[head]}. "
            f"Nothing was changed. `k2 verify {seal.table} --cold-only` names the files.",
        )
    if broken is None:
        return Verified(head, healed=True)
    base = steps[0].snapshot.snapshot_id if steps else None
    is_rolled_back = broken.held is None and base in below_sealed and base != seal.snapshot_id
    text = describe_break(seal, broken, rolled_back_to=base if is_rolled_back else None, problem=problems.get(head))
    return Verified(head, text)
