"""Goes on with the partitions of one storage that are on record or held: back into it, or away.

Why nothing is forgotten that is not proven is in :mod:`k2_offload.core.retention`; this module does the I/O around it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from k2_offload.adapters.ledger_retention import LedgerRetention
from k2_offload.core import retention_queries as sql
from k2_offload.core.errors import DamagedTable
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.holding import NO_PARTS, Holding, Parts, Record, Step
from k2_offload.core.retention import (
    TAG_PREFIX,
    Next,
    is_all,
    is_back,
    is_doubled,
    is_due,
    next_step,
    seals_obstacle,
    shows_all,
)
from k2_offload.core.tables import TableSpec
from k2_offload.work import held_tags
from k2_offload.work.holding import HoldingTable
from k2_offload.work.problems import collecting
from k2_offload.work.removal_proof import Proof
from k2_offload.work.tiers import Tiers

log = logging.getLogger(__name__)

LOCK_SECONDS = 10
"""How long the lock of a storage is waited for: who moves no partitions has it for less."""

SAFE = "Nothing was dropped and no row is lost."


@dataclass(frozen=True)
class PartitionState:
    """Where one partition of a storage stands.

    :param days: for a person
    :param state: ``waits``, or as the last step says
    :param reason: why it does not go on by itself now; empty if nothing is in the way
    """

    storage: str
    partition_id: str
    days: str
    rows: int
    state: str
    reason: str = ""
    at: datetime | None = None


@dataclass
class Retention:
    """What became of the partitions of some storages.

    :param problems: what a person has to look at
    :param compared: how many partitions were compared
    """

    states: list[PartitionState] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    compared: int = 0


@dataclass
class ProvenStorage:
    """One storage, while no other run moves its partitions."""

    tiers: Tiers
    name: str
    tables: Sequence[TableSpec]
    done: Retention
    check_alone: Callable[[], None]
    dry_run: bool
    holding: Holding | None
    now: datetime

    @staticmethod
    @contextmanager
    def opened(
        tiers: Tiers, name: str, tables: Sequence[TableSpec], done: Retention, *, dry_run: bool
    ) -> Iterator[ProvenStorage]:
        """With the lock of a storage, if not only to look.

        :raises OtherRun: if another run has it
        """
        lock = LedgerRetention(tiers.ledger).alone
        with nullcontext(lambda: None) if dry_run else lock(name, LOCK_SECONDS) as check_alone:
            now = min(tiers.now(), tiers.clickhouse.now())  # one that is ahead would end the time of holding
            holding = HoldingTable(tiers, name).read()
            yield ProvenStorage(tiers, name, tables, done, check_alone, dry_run, holding, now)

    @property
    def proof(self) -> Proof:
        """Of what its tables show, as of now."""
        return Proof(self.tiers, self.name, self.tables, self.now, self.check_alone)

    @property
    def table(self) -> HoldingTable:
        """Where its partitions are held."""
        return HoldingTable(self.tiers, self.name)

    def write(self, holding: Holding) -> None:
        """Put on record what is done, or about to be done."""
        self.check_alone()
        self.table.write(holding)
        self.holding = holding

    @property
    def held(self) -> dict[str, Parts]:
        """What the holding table has, by partition, whether that is on record or not."""
        return self.table.parts(self.table.name)

    def go_on(self) -> None:
        """With all that is on record or held.

        :raises DamagedTable: if the holding table is gone, and days are held as far as cold tables know
        """
        if self.holding is None:
            self._check_not_gone()
            return
        held = self.held
        in_source = self.table.parts(self.name)
        records = self.holding.records
        for record in records:
            with collecting(self.done.problems):
                if self.dry_run:
                    self._look_at(record)
                else:
                    self.go_on_with(record)
        for partition_id in sorted(held.keys() - {record.partition_id for record in records}):
            with collecting(self.done.problems):
                self._take_in(partition_id, held[partition_id].digests, in_source=partition_id in in_source)

    def _check_not_gone(self) -> None:
        for table in self.tables:
            if days := held_tags.days_held(self.tiers, table):
                raise DamagedTable(
                    f"{self.name}: there is no {self.table.name}, and the cold table of {table.name} has tags of "
                    f"{len(days)} days that are held there, from {days[0]} to {days[-1]}: somebody has dropped or "
                    f"renamed it, or {self.name}, or 'source' was another table then. Nothing was moved. Give it its "
                    "name back (or `k2 retention --restore` these days with the old source). If it is gone, the cold "
                    f"tier has these days: `k2 verify --sealed {table.name}` verifies them; then remove the tags "
                    f"{TAG_PREFIX}… of each cold table that reads {self.name}, and run "
                    f"`k2 retention {table.name} --apply`."
                )

    def _look_at(self, record: Record) -> None:
        step, _ = self.next_step(record)
        if step not in (Next.LOST, Next.DECIDE):
            self._tell(record, record.step.value)
            return
        self._tell(record, "missing")
        raise DamagedTable(
            f"{self.name}: partition {record.partition_id} ({record.text}) is on record as {record.step.value}, and "
            f"its rows are neither in {self.table.name} nor in {self.name} as they should be. Nothing was changed. "
            f"`k2 retention {self.tables[0].name} --apply` verifies its seals, and says what to do."
        )

    def _take_in(self, partition_id: str, held: tuple[str, ...], *, in_source: bool) -> None:
        """A partition that is held and not on record: nobody knows what it was compared with."""
        record = Record(partition_id, Step.RESTORING, held, 0, {}, {}, self.now)
        if self.dry_run:
            self._tell(record, "not on record")
            return
        if in_source:
            raise DamagedTable(
                f"{self.table.name}: partition {partition_id} is not on record, and {self.name} has rows of it. "
                f"{SAFE} docs/retention.md says how to find out whether they are the same."
            )
        self.restore(record, "it was not on record")

    def next_step(self, record: Record) -> tuple[Next, Parts]:
        """By what is there now; and what is held."""
        held = self.held.get(record.partition_id, NO_PARTS)
        in_source = self.table.parts(self.name).get(record.partition_id, NO_PARTS)
        return next_step(record, held, in_source, self._shown(record)), held

    def go_on_with(self, record: Record, seen: Collection[str] | None = None) -> None:
        """With one partition, by what is there now.

        :param seen: mutations that are known not to have missed its rows; those from before its record when left out
        """
        step, held = self.next_step(record)
        if step is Next.DECIDE and not held.digests:
            raise DamagedTable(
                f"{self.name}: partition {record.partition_id} ({record.text}) is held no more, and {self.name} has "
                f"rows of it that are not all of the {record.rows:,} that were to be moved. Nothing was dropped now. "
                "If rows were moved back and then merged, or the rest was dropped: "
                f"{self._how_to_restore(record)} takes it for gone: what is there stays, and is not compared any more."
            )
        if step is Next.DECIDE:
            raise DamagedTable(
                f"{self.table.name}: partition {record.partition_id} ({record.text}) is not what was moved there. "
                f"{SAFE} {self._how_to_restore(record)} brings it back; if it is less than was moved, as days that are "
                "gone."
            )
        if step is Next.FORGET:
            self.end(record, "is where it was", gone=False)
        elif step is Next.GONE:
            self.end(record, "gone", gone=True, verified=True)
        elif step is Next.LOST:
            self._end_lost(record)
        elif step is Next.RESTORE:
            self.restore(record, "rows of these days came in, or parts were merged, before it was dropped")
        elif step is Next.COMPARE:
            self._check_mutations(record, seen if seen is not None else self.proof.mutations(record.at))
            held_since = replace(record, step=Step.HELD, at=self.now)
            self.write(self.known.with_record(held_since))
            self._keep_on_record(held_since, "held")
            reached(FaultPoint.REMOVAL_HELD, self.name)
            self._tell(held_since, "held")
        else:
            self._drop_if_due(record)

    def _check_mutations(self, record: Record, seen: Collection[str]) -> None:
        mutation = self.proof.find_mutation(seen)
        if mutation is None:
            return
        self.restore(record, "a mutation was given while it was moved")
        raise DamagedTable(
            f"{self.name} {record.text}: it was moved back, as a mutation was given while it was moved, which may not "
            f"have changed its rows, and does not any more: {mutation}. No row is lost. If it is for these rows, give "
            "it again."
        )

    @property
    def known(self) -> Holding:
        """What is on record; there is a holding table."""
        return self.holding if self.holding is not None else Holding(self.name, None)

    def _drop_if_due(self, record: Record) -> None:
        if (reason := self._find_broken(record)) is not None:
            raise DamagedTable(
                f"{self.name} {record.text}: it is held in {self.table.name} and was not dropped: {reason} No row is "
                f"lost. {self._how_to_restore(record)} brings it back; k2_reconcile then heals the day."
            )
        days = max(table.holding_days for table in self.tables)
        if not is_due(record, self.now, days):
            self._tell(record, "held", f"until {record.at + timedelta(days=days):%Y-%m-%d %H:%M} UTC")
            return
        if record.step is not Step.DROPPING:
            record = replace(record, step=Step.DROPPING)
            self.write(self.known.with_record(record))
            reached(FaultPoint.DROP_RECORDED, self.name)
        if self.next_step(record)[0] is not Next.DROP:  # verifying takes minutes
            self._tell(record, "held", "rows came in, or what is held was changed, while it was verified")
            return
        self.check_alone()
        self.tiers.clickhouse.execute(sql.drop(self.name, record.partition_id))
        reached(FaultPoint.REMOVAL_DROPPED, self.name)
        self.end(record, "dropped", gone=True, verified=True)

    def _find_broken(self, record: Record) -> str | None:
        """Why the cold tier may not hold what was moved."""
        readers = self.proof.readers([record.days])
        table = self.table
        later = set(table.columns_of(self.name)) - set(table.columns_of(table.name))
        return seals_obstacle(record, readers, later) or self.proof.find_broken(record, readers)

    def _end_lost(self, record: Record) -> None:
        """A partition of which nothing is there, and which no run has dropped."""
        lost = (
            f"{self.name}: partition {record.partition_id} ({record.text}) is neither in {self.table.name} nor in "
            f"{self.name}, and no run has dropped it"
        )
        if not record.days:
            self.end(record, "gone", "somebody has dropped it", gone=True)
            raise DamagedTable(
                f"{lost}. Which days it held was never on record: `k2 verify {self.tables[0].name}` compares what is "
                "there."
            )
        if (reason := self._find_broken(record)) is not None:
            raise DamagedTable(
                f"{lost}. The cold tier may not hold all of its rows: {reason} Its snapshots keep their tags. Bring "
                f"the rows back from a backup of ClickHouse. {self._how_to_restore(record)} takes it for gone."
            )
        self.end(record, "gone", "somebody has dropped it", gone=True, verified=True)
        raise DamagedTable(f"{lost}. Its seals were verified: the cold tier holds its rows. Its days count as gone.")

    def _how_to_restore(self, record: Record) -> str:
        return record.how_to_restore(self.tables[0])

    def end(self, record: Record, state: str, reason: str = "", *, gone: bool, verified: bool = False) -> None:
        """Take out the tags that were set for a partition, and then its record.

        :param verified: whether its seals were, or all of it is back: otherwise they are, before the tags go
        """
        if (broken := None if verified else self._why_tags_stay(record)) is None:
            self.done.problems += held_tags.release(self.tiers, record)
        else:
            log.warning("%s %s: %s", self.name, record.text, broken)
            self.done.problems.append(
                f"{self.name} {record.text}: {state}. The cold tier may not hold all of its rows, so the verified "
                f"snapshots keep their tags k2_held_…: {broken} Remove them there when that is decided."
            )
        self._keep_on_record(record, state, reason)
        self.write(self.known.with_gone(record) if gone else self.known.without(record.partition_id))
        reached(FaultPoint.REMOVAL_ENDED, self.name)
        self._tell(record, state, reason)

    def _why_tags_stay(self, record: Record) -> str | None:
        in_source = self.table.parts(self.name).get(record.partition_id, NO_PARTS)
        if not record.seals or is_back(record, in_source):
            return None
        try:
            return self._find_broken(record)
        except DamagedTable as damage:
            return str(damage)

    def restore(self, record: Record, reason: str) -> None:
        """Move a partition back into the storage."""
        partition_id = record.partition_id
        held = self.held.get(partition_id, NO_PARTS)
        in_source = self.table.parts(self.name).get(partition_id, NO_PARTS)
        if is_doubled(record, held.digests):
            raise DamagedTable(
                f"{self.name} {record.text}: {self.table.name} has parts of partition {partition_id} more often than "
                f"they were moved there: it was not moved back, which could double their rows. {SAFE} "
                "docs/retention.md says how to decide."
            )
        if in_source.digests:
            [(both,)] = self.tiers.clickhouse.execute(sql.count_in_both(self.name, partition_id))
            if both:
                raise DamagedTable(
                    f"{self.name} {record.text}: {both:,} rows of partition {partition_id} are in {self.table.name} "
                    f"and in {self.name}: it was not moved back, which could double them. {SAFE} docs/retention.md "
                    "says how to decide."
                )
        all_there = is_back(record, Parts((*held.digests, *in_source.digests)))
        is_whole = is_all(record, held, in_source)
        known = self.known.with_gone(record) if is_whole is False else self.known
        back = replace(record, step=Step.RESTORING, at=self.now)
        self.write(known.with_record(back))
        reached(FaultPoint.RETURN_RECORDED, self.name)
        self.check_alone()
        self.tiers.clickhouse.execute(sql.move_back(self.name, partition_id))
        reached(FaultPoint.RETURNED, self.name)
        log.warning("%s %s: moved back: %s", self.name, record.text, reason)
        if is_whole is None:  # killed before this, the next run decides alike: see next_step
            in_source = self.table.parts(self.name).get(partition_id, NO_PARTS)
            is_whole = shows_all(back, in_source, self._shown(back))
        self.end(back, "moved back", reason, gone=not is_whole, verified=all_there)
        if not is_whole:
            raise DamagedTable(
                f"{self.name} {record.text}: it was moved back, but not all of the {record.rows:,} rows that were "
                "moved were still held. So its days count as gone: they are not compared, and no heal shrinks them. "
                f"`k2 verify --sealed {self.tables[0].name}` shows whether the cold tier has all."
            )

    def end_whole(self) -> None:
        """Old days are not whole any more: a TTL may remove rows of them."""
        if self.holding is not None and self.holding.whole_since is not None and not self.dry_run:
            self.write(replace(self.holding, whole_since=None))

    def _shown(self, record: Record) -> dict[str, int]:
        """Rows of its days that each table shows."""
        return {
            table.name: self.tiers.clickhouse.execute(sql.count_source(table, days))[0][0]
            for table in self.tables
            if (days := record.days.get(table.partition_column)) is not None
        }

    def _keep_on_record(self, record: Record, step: str, reason: str = "") -> None:
        LedgerRetention(self.tiers.ledger).record(self.name, record, step, reason, self.now)

    def _tell(self, record: Record, state: str, reason: str = "") -> None:
        self.done.states.append(
            PartitionState(self.name, record.partition_id, record.text, record.rows, state, reason, record.at)
        )
