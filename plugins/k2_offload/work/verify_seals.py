"""Verifies that sealed days still hold the rows that were sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from itertools import zip_longest

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.ledger_seals import LedgerSeals, RecordedSeal
from k2_offload.core.day_queries import sealed_day
from k2_offload.core.errors import OffloadError, Overloaded, Refused, Unreachable
from k2_offload.core.lake import iceberg_table
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.seals import VERIFIED_DAYS, Break, Content, Seal, describe_break, find_break
from k2_offload.core.tables import TableSpec
from k2_offload.work.known_seals import by_namespace, newest_of, newest_seals, share_seals
from k2_offload.work.problems import collecting
from k2_offload.work.tiers import WORKER, Tiers

SealsProgress = Callable[[Sequence[Seal]], Iterable[Seal]]
"""Passes seals on one by one, and shows how far it is."""


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
    :param healed: whether the day was healed since, so that a successor is to come
    """

    snapshot_id: int
    problem: str | None = None
    healed: bool = False


def read_content(
    tiers: Tiers, cold: ColdTable, day: date, partition_column: str, columns: Sequence[PlannedColumn], snapshot_id: int
) -> Content:
    """What a snapshot holds of a day, in some columns, whatever a comparison passes over.

    :raises OffloadError: if it cannot be read
    """
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


def verify_seal(tiers: Tiers, cold: ColdTable, seal: Seal) -> Verified:
    """Whether a day holds what was sealed, in the snapshot that readers see; and if not, since when.

    :raises Unreachable: if a service is down
    """
    problems: dict[int, str] = {}

    def content_of(snapshot_id: int) -> Content | None:
        try:
            return read_content(tiers, cold, seal.day, seal.partition_column, seal.columns, snapshot_id)
        except (Unreachable, Refused, Overloaded):
            raise
        except OffloadError as error:
            problems[snapshot_id] = str(error)
            return None

    head = cold.snapshot_id
    if content_of(head) == seal.content:
        return Verified(head)
    below_sealed = {snapshot.snapshot_id for snapshot in cold.chain.ancestors(seal.snapshot_id)}
    since = []
    for snapshot in cold.chain.ancestors():  # from the newest on, down to the newest one that the sealed one is made on
        since.append(snapshot)
        if snapshot.snapshot_id in below_sealed:
            break
    steps = [cold.chain.step(snapshot, seal.partition_column, seal.day) for snapshot in reversed(since)]
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
        in_lake, altered = tiers.catalog.seals(table.namespace).read()
        found.findings += altered
        in_lake = [seal for seal in in_lake if seal.table == table.name]
        seals = [*in_lake, *(each.seal for each in recorded)]
        lost = {each.seal.seal_id for each in recorded} - {seal.seal_id for seal in in_lake}
        if lost:
            found.findings.append(
                f"{table.name}: {len(lost)} seals are in the ledger alone: somebody has dropped the lake's table of "
                "seals, or rolled it back. They are known all the same; `k2 maintain` writes them into it again, or "
                "names `k2 register k2_seals`."
            )
        cold = tiers.load_cold(table)
        current, broken, others = newest_seals(table, cold.uuid if cold else None, seals)
        found.findings += broken.values()
        if others:
            _tell_others(tiers, table, cold, others, found)
        found.newest = max((seal.day for seal in current), default=None)
        chosen = [seal for seal in current if (first or date.min) <= seal.day <= (last or date.max)]
        for seal in progress(chosen):
            if cold is None:  # then nothing is sealed of it
                break
            verified = verify_seal(tiers, cold, seal)
            found.days, found.rows = found.days + 1, found.rows + seal.rows
            if verified.problem is not None:
                found.findings.append(verified.problem)
            elif seal.accepted:
                found.notes.append(
                    f"{table.name} {seal.day}: its rows were accepted at {seal.sealed_at:%Y-%m-%d %H:%M} UTC in place "
                    "of those sealed before."
                )
            if verified.healed:
                found.notes.append(
                    f"{table.name} {seal.day}: it was healed since it was sealed; the next k2_reconcile that finds it "
                    "equal seals it anew."
                )
    except Unreachable:
        raise
    except OffloadError as error:
        found.findings.append(str(error))
    return found


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

    Every other one is a day that was found broken, as long as there are any: it may have been repaired since.

    :param budget: no verification begins so long after the first
    :returns: a sentence for each seal that is broken, whether it was looked at or not
    :raises Unreachable: if a service is down
    """
    findings: list[str] = []
    for namespace, chosen in by_namespace(tables).items():
        with collecting(findings):
            findings += share_seals(tiers, tiers.catalog.seals(namespace), chosen)
    due: list[tuple[RecordedSeal, ColdTable]] = []
    for table in tables:
        with collecting(findings):
            if (cold := tiers.load_cold(table)) is not None:
                recorded = LedgerSeals(tiers.ledger).read([table.name])
                last, broken = newest_of(table, cold.uuid, recorded)
                findings += broken.values()
                due += [(each, cold) for each in last.values()]
    due.sort(key=lambda each: (each[0].verified_at is not None, each[0].checked_at))
    broken_or_not = ([each for each in due if (each[0].problem is None) is whole] for whole in (True, False))
    due = [each for pair in zip_longest(*broken_or_not) for each in pair if each is not None]
    started = tiers.now()
    for position, (each, cold) in enumerate(due):
        if position >= VERIFIED_DAYS or (budget is not None and tiers.now() - started > budget):
            findings += [rest.problem for rest, *_ in due[position:] if rest.problem is not None]
            break
        with collecting(findings):
            verified = verify_seal(tiers, cold, each.seal)
            if not verified.healed:
                LedgerSeals(tiers.ledger).record_verification(
                    each.seal, verified.snapshot_id, verified.problem, tiers.now()
                )
            elif each.problem is not None:  # the day was brought back before it was healed: its successor may come
                LedgerSeals(tiers.ledger).record_verification(each.seal, each.verified_snapshot, None, tiers.now())
            findings += [verified.problem] if verified.problem is not None else []
    return findings
