"""Removes from ClickHouse what is proven to be cold.

Why nothing is forgotten that is not proven is in :mod:`k2_offload.core.retention`; this module does the I/O around it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta

from k2_offload.adapters.ledger_retention import LedgerRetention
from k2_offload.core import retention_queries as sql
from k2_offload.core.day_comparison import first_whole_day
from k2_offload.core.errors import DamagedTable, InvalidSource, OffloadError, Overloaded, Refused, Unreachable
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.retention import (
    LONGEST_COMMENT,
    NO_PARTS,
    TAG_PREFIX,
    Holding,
    Next,
    Partition,
    Parts,
    Reader,
    Record,
    Step,
    is_due,
    next_step,
    obstacle,
    seals_obstacle,
)
from k2_offload.core.tables import TableSpec
from k2_offload.work.holding import HoldingTable, check_storage, ttl_in_the_way
from k2_offload.work.known_seals import by_namespace, kept, share_seals
from k2_offload.work.removal_proof import Proof, seals_of
from k2_offload.work.tiers import Tiers
from k2_offload.work.ttl import read_kept_for_now

log = logging.getLogger(__name__)

_SAFE = "Nothing was dropped and no row is lost."


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
    """

    states: list[PartitionState] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


def remove_proven(
    tiers: Tiers, tables: Sequence[TableSpec], *, dry_run: bool = False, budget: timedelta | None = None
) -> Retention:
    """Go on with every partition of the storages of some tables that is held, and move away those that are proven.

    :param tables: those with ``retention: ttl`` are passed over
    :param dry_run: only look: what would be compared is not, and nothing is changed, in the ledger neither
    :param budget: no other partition is compared so long after the first
    :raises Unreachable: if a service is down; what is wrong with one storage alone becomes a problem
    """
    done = Retention()
    started = tiers.now()
    storages: dict[str, list[TableSpec]] = {}
    with kept(done.problems):
        storages = _storages(tiers, tables, done.problems)
    for storage, readers in storages.items():
        for namespace, some in by_namespace(() if dry_run else readers).items():
            with kept(done.problems):
                done.problems += share_seals(tiers, tiers.catalog.seals(namespace), some)
        with kept(done.problems), _Storage.opened(tiers, storage, readers, done, dry_run=dry_run) as opened:
            opened.go_on()
            opened.move_proven(lambda: budget is not None and tiers.now() - started > budget)
    return done


def restore_day(tiers: Tiers, table: TableSpec, day: date) -> Record:
    """Move the partition that holds a day of a table back into ClickHouse's storage.

    :returns: what was on record of it
    :raises OffloadError: if none is held, or it cannot be moved back
    """
    done = Retention()
    storage = tiers.clickhouse.storage(table)
    if storage is None:
        raise InvalidSource(f"{table.name}: which table holds the rows of {table.source} is not known. {_SAFE}")
    try:
        readers = [each for each, _ in _readers(tiers, [storage.name])[storage.name]]
    except InvalidSource:
        readers = [table]
    with _Storage.opened(tiers, storage.name, readers, done, dry_run=False) as opened:
        for record in opened.holding.records if opened.holding is not None else ():
            if record.covers(table.partition_column, day):
                step, held = opened.next_step(record)
                if held.digests:
                    opened.restore(record, "by a person")
                    return record
                opened.end(record, "gone", "nothing of it is held", gone=step is not Next.FORGET)
    raise OffloadError(
        f"{table.name} {day}: its rows are not held, so there is nothing to bring back. `k2 retention {table.name}` "
        f"shows what is. {_SAFE}"
    )


def check_retention(tiers: Tiers, table: TableSpec) -> str | None:
    """What is wrong with a table's ``retention``; ``None`` if nothing is.

    :raises OffloadError: if its source does not allow it
    """
    if not table.is_proven:
        storage = tiers.clickhouse.storage(table)
        holding = HoldingTable(tiers, storage.name) if storage is not None else None
        if holding is None or (held := holding.read()) is None or not held.records:
            return None
        return (
            f"{table.name}: 'retention: ttl' is set, and {holding.name} still holds {held.records[0].text}, which "
            f"nobody looks after then. No row is lost. `k2 retention {table.name} --restore DAY` brings a day back."
        )
    name = check_storage(tiers, table)
    for other, alone in _readers(tiers, [name])[name]:
        if not (alone and other.is_proven):
            return shared_with(other, name)
    return ttl_in_the_way(tiers, table)


def _storages(tiers: Tiers, tables: Sequence[TableSpec], problems: list[str]) -> dict[str, list[TableSpec]]:
    """The storages of the chosen tables, with all tables of the file that read each."""
    wanted = []
    for table in tables:
        if table.is_proven:
            with kept(problems):
                wanted.append(check_storage(tiers, table))
    if not wanted:
        return {}
    found = {}
    for name, readers in _readers(tiers, wanted).items():
        stopping = [shared_with(table, name) for table, alone in readers if not (alone and table.is_proven)]
        problems += [f"{problem} {_SAFE}" for problem in stopping]
        if not stopping:
            found[name] = [table for table, _ in readers]
    return found


def _readers(tiers: Tiers, storages: Sequence[str]) -> dict[str, list[tuple[TableSpec, bool]]]:
    """The tables of the file that read each storage, and whether they read nothing else.

    :raises InvalidSource: if what a table reads cannot be known: it might be one of these
    """
    readers: dict[str, list[tuple[TableSpec, bool]]] = {name: [] for name in storages}
    for table in tiers.tables.by_name.values():
        try:
            storage = tiers.clickhouse.storage(table)
            read = {storage.name} if storage is not None else tiers.clickhouse.read_by(table)
        except (Unreachable, Refused, Overloaded):
            raise
        except OffloadError as error:
            raise InvalidSource(
                f"{table.name}: what its source reads cannot be known, and it might be what others remove: {error} "
                f"{_SAFE} Correct the table file; then run `k2 validate`."
            ) from None
        for name in read & readers.keys():
            readers[name].append((table, storage is not None))
    return readers


def shared_with(table: TableSpec, storage: str) -> str:
    """A sentence on a table that keeps others from removing what it reads, too."""
    return (
        f"{table.name}: it reads {storage}, too, and 'retention: proven' is not set for it, or it reads other tables "
        f"besides: its rows would go without a proof. So nothing of {storage} is removed. Set 'retention: proven' for "
        "all tables that read it, or for none."
    )


@dataclass
class _Storage:
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
    ) -> Iterator[_Storage]:
        with LedgerRetention(tiers.ledger).alone(name) as check_alone:
            now = min(tiers.now(), tiers.clickhouse.now())  # one that is ahead would end the time of holding
            holding = HoldingTable(tiers, name).read()
            yield _Storage(tiers, name, tables, done, check_alone, dry_run, holding, now)

    @property
    def proof(self) -> Proof:
        return Proof(self.tiers, self.name, self.tables, self.now, self.check_alone)

    @property
    def table(self) -> HoldingTable:
        return HoldingTable(self.tiers, self.name)

    def write(self, holding: Holding) -> None:
        self.check_alone()
        self.table.write(holding)
        self.holding = holding

    def go_on(self) -> None:
        """With all that is on record or held."""
        if self.holding is None:
            return
        held = self.table.parts(self.table.name)
        in_source = self.table.parts(self.name)
        records = self.holding.records
        for record in records:
            with kept(self.done.problems):
                if self.dry_run:
                    self.tell(record, record.step.value)
                else:
                    self.go_on_with(record)
        for partition_id in sorted(held.keys() - {record.partition_id for record in records}):
            with kept(self.done.problems):
                self.take_in(partition_id, held[partition_id].digests, in_source=partition_id in in_source)

    def take_in(self, partition_id: str, held: tuple[str, ...], *, in_source: bool) -> None:
        """A partition that is held and not on record: nobody knows what it was compared with."""
        record = Record(partition_id, Step.RESTORING, held, 0, {}, {}, self.now)
        if self.dry_run:
            self.tell(record, "not on record")
            return
        if in_source:
            raise DamagedTable(
                f"{self.table.name}: partition {partition_id} is not on record, and {self.name} has rows of it. "
                f"{_SAFE} docs/retention.md says how to find out whether they are the same."
            )
        self.restore(record, "it was not on record")

    def next_step(self, record: Record) -> tuple[Next, Parts]:
        """By what is there now; and what is held."""
        held = self.table.parts(self.table.name).get(record.partition_id, NO_PARTS)
        in_source = self.table.parts(self.name).get(record.partition_id, NO_PARTS)
        return next_step(record, held.digests, in_source, self.shown_rows(record)), held

    def go_on_with(self, record: Record) -> None:
        step, held = self.next_step(record)
        if step is Next.DECIDE and not held.digests:
            raise DamagedTable(
                f"{self.name}: partition {record.partition_id} ({record.text}) is held no more, and {self.name} has "
                f"some rows of it, fewer than the {record.rows:,} that were to be moved. Nothing was dropped now. If "
                "rows were moved back and then merged, or the rest was dropped: "
                f"`k2 retention {self.tables[0].name} --restore {min(record.days.values())[0]}` takes it for gone: "
                "what is there stays, and is not compared any more."
            )
        if step is Next.DECIDE:
            raise DamagedTable(
                f"{self.table.name}: partition {record.partition_id} ({record.text}) is not what was moved there. "
                f"{_SAFE} `k2 retention {self.tables[0].name} --restore {min(record.days.values())[0]}` brings it back."
            )
        if step is Next.FORGET:
            self.end(record, "is where it was", gone=False)
        elif step is Next.GONE:
            self.end(record, "gone", gone=True)
        elif step is Next.RESTORE:
            self.restore(record, "rows of these days came in, or parts were merged, before it was dropped")
        elif step is Next.COMPARE:
            held_since = replace(record, step=Step.HELD, at=self.now)
            self.write(self.known.with_record(held_since))
            self.keep_on_record(held_since, "held")
            reached(FaultPoint.REMOVAL_HELD, self.name)
            self.tell(held_since, "held")
        else:
            self.drop_if_due(record)

    @property
    def known(self) -> Holding:
        """What is on record; there is a holding table."""
        return self.holding if self.holding is not None else Holding(self.name, None)

    def drop_if_due(self, record: Record) -> None:
        readers = self.proof.readers([record.days])
        reason = seals_obstacle(record, readers)
        if reason is None:
            reason = self.proof.find_broken(record, readers)
        if reason is not None:
            raise DamagedTable(
                f"{self.name} {record.text}: it is held in {self.table.name} and was not dropped: {reason} No row is "
                f"lost. `k2 retention {self.tables[0].name} --restore {min(record.days.values())[0]}` brings it back; "
                "k2_reconcile then heals the day."
            )
        days = max(table.holding_days for table in self.tables)
        if not is_due(record, self.now, days):
            self.tell(record, "held", f"until {record.at + timedelta(days=days):%Y-%m-%d %H:%M} UTC")
            return
        if record.step is not Step.DROPPING:
            record = replace(record, step=Step.DROPPING)
            self.write(self.known.with_record(record))
            reached(FaultPoint.DROP_RECORDED, self.name)
        if self.next_step(record)[0] is not Next.DROP:  # verifying takes minutes
            self.tell(record, "held", "rows came in, or what is held was changed, while it was verified")
            return
        self.check_alone()
        self.tiers.clickhouse.execute(sql.drop(self.name, record.partition_id))
        reached(FaultPoint.REMOVAL_DROPPED, self.name)
        self.end(record, "dropped", gone=True)

    def end(self, record: Record, state: str, reason: str = "", *, gone: bool) -> None:
        """Take out the tags that were set for a partition, and then its record."""
        for table in self.tables:
            if days := record.seals.get(table.name):
                self.tiers.catalog.tags(table).release([tag_of(day) for day in days])
        self.keep_on_record(record, state, reason)
        self.write(self.known.with_gone(record) if gone else self.known.without(record.partition_id))
        reached(FaultPoint.REMOVAL_ENDED, self.name)
        self.tell(record, state, reason)

    def restore(self, record: Record, reason: str) -> None:
        """Move a partition back into the storage."""
        partition_id = record.partition_id
        if self.table.parts(self.name).get(partition_id):
            [(both,)] = self.tiers.clickhouse.execute(sql.count_in_both(self.name, partition_id))
            if both:
                raise DamagedTable(
                    f"{self.name} {record.text}: {both:,} rows of partition {partition_id} are in {self.table.name} "
                    f"and in {self.name}: it was not moved back, which could double them. {_SAFE} docs/retention.md "
                    "says how to decide."
                )
        back = replace(record, step=Step.RESTORING, at=self.now)
        self.write(self.known.with_record(back))
        reached(FaultPoint.RETURN_RECORDED, self.name)
        self.check_alone()
        self.tiers.clickhouse.execute(sql.move_back(self.name, partition_id))
        reached(FaultPoint.RETURNED, self.name)
        log.warning("%s %s: moved back: %s", self.name, record.text, reason)
        self.end(back, "moved back", reason, gone=False)

    def move_proven(self, is_late: Callable[[], bool]) -> None:
        """Compare partitions that may go, and move those that are proven."""
        in_the_way = [problem for table in self.tables if (problem := ttl_in_the_way(self.tiers, table))]
        if in_the_way:
            self.done.problems += [f"{problem}. {_SAFE}" for problem in in_the_way]
            if self.holding is not None and self.holding.whole_since is not None and not self.dry_run:
                self.write(replace(self.holding, whole_since=None))
            return
        columns = [table.partition_column for table in self.tables]
        if missing := set(columns) - set(self.table.columns):
            raise InvalidSource(
                f"{self.name}: partition_column {min(missing)} of a view on it is no column of it, so which days a "
                f"partition holds is not known. {_SAFE} Set 'retention: ttl' for the tables that read it."
            )
        if not self.dry_run:
            self.begin()
        on_record = {record.partition_id for record in self.known.records}
        partitions = self.table.partitions(columns)
        readers = self.proof.readers([partition.days for partition in partitions])
        compared = 0
        for partition in partitions:
            if partition.partition_id in on_record:
                continue
            with kept(self.done.problems):
                reason = obstacle(partition, partitions, readers, self.known)
                if reason is None and compared and is_late():
                    reason = "there was no time to compare it; the next run does"
                if reason is None and len(self.known.text) > LONGEST_COMMENT:
                    reason = f"{self.table.name} has too much on record: what is held has to be dropped first"
                if reason is not None and any(reason in reader.broken.values() for reader in readers):
                    self.done.problems.append(reason)
                if reason is None and not self.dry_run:
                    self.check_alone()
                    compared += 1
                    reason = self.move(partition, readers)
                    if reason is None:
                        continue
                self.wait(partition, reason or "")

    def begin(self) -> None:
        """Let there be a holding table that says which days are whole."""
        before = self.holding
        holding = self.table.prepare(before)
        if holding.whole_since is None:
            since = max(first_whole_day(self.now, table.warm_retention) for table in self.tables)
            holding = replace(holding, whole_since=since)
        self.holding = self.with_whole(holding)
        if self.holding != holding or holding != before:
            self.write(self.holding)

    def with_whole(self, holding: Holding) -> Holding:
        later = max(self.tiers.now(), self.tiers.clickhouse.now())
        found = [read_kept_for_now(self.tiers, table) for table in self.tables]
        if any(storage is None for storage, _ in found):
            raise InvalidSource(f"{self.name}: its TTL cannot be known now. {_SAFE}")
        return holding.with_whole(later, min((time for _, time in found if time is not None), default=None))

    def move(self, partition: Partition, readers: Sequence[Reader]) -> str | None:
        """Compare one partition, and move it if it is proven; why it was not."""
        verified, reason = self.proof.prove(partition, readers)
        if reason is not None:
            return reason
        reached(FaultPoint.REMOVAL_PROVEN, self.name)
        named = {each.table.name: {seal.day: seal.seal_id for seal in seals_of(each, partition)} for each in readers}
        record = Record(
            partition.partition_id, Step.MOVING, partition.parts, partition.rows, partition.days, named, self.now
        )
        self.write(self.known.with_record(record))
        reached(FaultPoint.REMOVAL_RECORDED, self.name)
        for reader in readers:
            if seals := seals_of(reader, partition):
                snapshot_id = verified[reader.table.name].snapshot_id
                self.tiers.catalog.tags(reader.table).hold({tag_of(seal.day): snapshot_id for seal in seals})
        reached(FaultPoint.REMOVAL_TAGGED, self.name)
        self.check_alone()
        self.tiers.clickhouse.execute(sql.move(self.name, partition.partition_id))
        reached(FaultPoint.REMOVAL_MOVED, self.name)
        self.go_on_with(record)
        return None

    def shown_rows(self, record: Record) -> int:
        """Rows of its days that sources show."""
        shown = 0
        for table in self.tables:
            if table.partition_column in record.days:
                statement = sql.count_source(table, record.days[table.partition_column])
                shown += self.tiers.clickhouse.execute(statement)[0][0]
        return shown

    def keep_on_record(self, record: Record, step: str, reason: str = "") -> None:
        LedgerRetention(self.tiers.ledger).record(self.name, record, step, reason, self.now)

    def tell(self, record: Record, state: str, reason: str = "") -> None:
        self.done.states.append(
            PartitionState(self.name, record.partition_id, record.text, record.rows, state, reason, record.at)
        )

    def wait(self, partition: Partition, reason: str) -> None:
        ranges = sorted(set(partition.days.values()))
        days = ", ".join(str(first) if first == last else f"{first} to {last}" for first, last in ranges)
        self.done.states.append(
            PartitionState(self.name, partition.partition_id, days, partition.rows, "waits", reason)
        )


def tag_of(day: date) -> str:
    """Name of the tag that keeps a day's verified snapshot while its rows are held."""
    return f"{TAG_PREFIX}{day.isoformat()}"
