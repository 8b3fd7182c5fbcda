"""Compares the partitions of one storage that may go, and moves those that are proven into its holding table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import date, timedelta

from k2_offload.core import day_queries
from k2_offload.core import retention_queries as sql
from k2_offload.core.day_comparison import first_whole_day
from k2_offload.core.errors import InvalidSource, OffloadError, StaleWindow
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.holding import Holding, Partition, Record, Step
from k2_offload.core.retention import LONGEST_COMMENT, Reader, find_shared_day, obstacle
from k2_offload.core.tables import TableSpec
from k2_offload.work import held_tags
from k2_offload.work.holding import partitions_of, ttl_in_the_way
from k2_offload.work.problems import collecting
from k2_offload.work.proven_storage import SAFE, PartitionState, ProvenStorage
from k2_offload.work.removal_proof import seals_of
from k2_offload.work.ttl import read_kept_for_now


def move_proven(storage: ProvenStorage, is_late: Callable[[], bool]) -> None:
    """Compare partitions that may go, and move those that are proven."""
    in_the_way = [problem for table in storage.tables if (problem := ttl_in_the_way(storage.tiers, table))]
    if in_the_way:
        storage.done.problems += [f"{problem}. {SAFE}" for problem in in_the_way]
        storage.end_whole()
        return
    partitions = partitions_of(storage.tiers, storage.name, storage.tables)
    by_column = {table.partition_column: table for table in storage.tables}
    shared = [find_shared_day(table, storage.name, partitions) for table in by_column.values()]
    storage.done.problems += [f"{problem}. {SAFE}" for problem in shared if problem is not None]
    if not storage.dry_run:
        _begin(storage)
    not_whole = {record.partition_id for record in storage.known.records} | storage.held.keys()
    readers = storage.proof.readers([partition.days for partition in partitions])
    for partition in partitions:
        if partition.partition_id in not_whole:
            continue
        with collecting(storage.done.problems):
            reason = obstacle(partition, partitions, readers, storage.known)
            if reason is None and storage.done.compared and is_late():
                reason = "there was no time to compare it; the next run does"
            if reason is None and len(storage.known.text) > LONGEST_COMMENT:
                reason = f"{storage.table.name} has too much on record: what is held has to be dropped first"
            if reason is not None and any(reason in reader.broken.values() for reader in readers):
                storage.done.problems.append(reason)
            if reason is None and not storage.dry_run:
                storage.check_alone()
                storage.done.compared += 1
                reason = _move(storage, partition, readers)
                if reason is None:
                    continue
            _wait(storage, partition, reason or "")


def _begin(storage: ProvenStorage) -> None:
    """Let there be a holding table that says which days are whole."""
    before = storage.holding
    holding = storage.table.prepare(before, storage.check_alone)
    if holding.whole_since is None:
        holding = replace(holding, whole_since=max(_whole_since(storage, table) for table in storage.tables))
    storage.holding = _with_whole(storage, holding)
    if storage.holding != holding or holding != before:
        storage.write(storage.holding)


def _whole_since(storage: ProvenStorage, table: TableSpec) -> date:
    """The first day of which no row is gone yet: by the clock, and as far as the cold tier knows of other rows.

    The TTL of before may have kept less than the table file says, and may have taken rows that nobody has moved.
    """
    since, first = first_whole_day(storage.now, table.warm_retention), FIRST_WATERMARK.date()
    cold = storage.tiers.load_cold(table)
    in_cold = cold.rows_per_day(table.partition_column, first) if cold is not None else {}
    if in_cold is None:
        return max(since, storage.now.date())
    warm = storage.tiers.clickhouse.rows_per_day(day_queries.rows_per_day_since(table, first))
    shrunk = [day for day, rows in in_cold.items() if rows > warm.get(day, 0)]
    if not shrunk:
        return since
    left = min((day + timedelta(days=1) for day in warm if day > max(shrunk)), default=storage.now.date())
    return max(since, left)


def _with_whole(storage: ProvenStorage, holding: Holding) -> Holding:
    later = max(storage.tiers.now(), storage.tiers.clickhouse.now())
    found = [read_kept_for_now(storage.tiers, table) for table in storage.tables]
    if any(storage is None for storage, _ in found):
        raise InvalidSource(f"{storage.name}: its TTL cannot be known now. {SAFE}")
    shortest = min((time for _, time in found if time is not None), default=None)
    return replace(holding.with_whole(later, shortest), kept_for=shortest)


def _move(storage: ProvenStorage, partition: Partition, readers: Sequence[Reader]) -> str | None:
    """Compare one partition, and move it if it is proven; why it was not."""
    seen = storage.proof.mutations()
    verified, reason = storage.proof.prove(partition, readers)
    if reason is not None:
        return reason
    reached(FaultPoint.REMOVAL_PROVEN, storage.name)
    seals = {each.table.name: seals_of(each, partition) for each in readers}
    record = Record(
        partition.partition_id,
        Step.MOVING,
        partition.parts,
        partition.rows,
        partition.days,
        {name: {seal.day: seal.seal_id for seal in some} for name, some in seals.items()},
        storage.now,
        {name: sum(seal.rows for seal in some) for name, some in seals.items()},
    )
    storage.write(storage.known.with_record(record))
    reached(FaultPoint.REMOVAL_RECORDED, storage.name)
    try:
        for reader in readers:
            if some := seals[reader.table.name]:
                snapshot_id = verified[reader.table.name].snapshot_id
                held_tags.hold(storage.tiers, reader.table, [seal.day for seal in some], snapshot_id)
        reached(FaultPoint.REMOVAL_TAGGED, storage.name)
        if partition.partition_id in storage.held:
            reason = f"{storage.table.name} has parts of it that are not on record"
        elif (mutation := storage.proof.find_mutation(seen)) is not None:
            reason = f"a mutation has just been given: {mutation}"
    except StaleWindow as stale:
        reason = str(stale)
    except OffloadError:
        _take_back(storage, record)
        raise
    if reason is not None:
        _take_back(storage, record)
        return reason
    storage.check_alone()
    storage.tiers.clickhouse.execute(sql.move(storage.name, partition.partition_id))
    reached(FaultPoint.REMOVAL_MOVED, storage.name)
    storage.go_on_with(record, seen)
    return None


def _take_back(storage: ProvenStorage, record: Record) -> None:
    """Nothing of it was moved yet: as if it had never been on record."""
    with suppress(OffloadError):  # tags that stay are set anew when it goes
        storage.done.problems += held_tags.release(storage.tiers, record)
    storage.write(storage.known.without(record.partition_id))


def _wait(storage: ProvenStorage, partition: Partition, reason: str) -> None:
    storage.done.states.append(
        PartitionState(storage.name, partition.partition_id, partition.text, partition.rows, "waits", reason)
    )
