"""Removes from ClickHouse what is proven to be cold.

Why nothing is forgotten that is not proven is in :mod:`k2_offload.core.retention`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta

from k2_offload.core.errors import InvalidSource, OffloadError, OtherRun, Overloaded, Refused, Unreachable
from k2_offload.core.holding import Holding, Record
from k2_offload.core.retention import Next, find_shared_day
from k2_offload.core.retention_queries import holding_of
from k2_offload.core.tables import TableSpec
from k2_offload.work.holding import (
    check_storage,
    end_whole,
    partitions_of,
    read_held,
    remember_ttl,
    ttl_in_the_way,
)
from k2_offload.work.known_seals import by_namespace, share_seals
from k2_offload.work.problems import collecting
from k2_offload.work.proven_moves import move_proven
from k2_offload.work.proven_storage import SAFE, PartitionState, ProvenStorage, Retention
from k2_offload.work.tiers import Tiers


def remove_proven(
    tiers: Tiers, tables: Sequence[TableSpec], *, dry_run: bool = False, budget: timedelta | None = None
) -> Retention:
    """Go on with every partition of the storages of some tables that is held, and move away those that are proven.

    :param tables: of those with ``retention: ttl``, or whose rows may go by a clock, old days do not count as whole any
        more; what is still held of the former is a problem
    :param dry_run: only look: what would be compared is not, and nothing is changed, in the ledger neither
    :param budget: one partition is compared in any case, of all storages together, and no other one so long after the
        run has begun
    :raises Unreachable: if a service is down; what is wrong with one storage alone becomes a problem
    """
    done = Retention()
    started = tiers.now()
    storages: dict[str, list[TableSpec]] = {}
    for table in tables:
        with collecting(done.problems):
            if not dry_run:
                remember_ttl(tiers, table)
            if not table.is_proven:
                _tell_held(tiers, table, done)
    with collecting(done.problems):
        storages = _storages(tiers, tables, done.problems, dry_run=dry_run)
    all_readers = [table for readers in storages.values() for table in readers]
    for namespace, some in by_namespace(() if dry_run else all_readers).items():
        with collecting(done.problems):
            done.problems += share_seals(tiers, tiers.catalog.seals(namespace), some)
    for storage in in_turn(storages, started):
        with collecting(done.problems):
            try:
                with ProvenStorage.opened(tiers, storage, storages[storage], done, dry_run=dry_run) as opened:
                    opened.go_on()
                    move_proven(opened, lambda: budget is not None and tiers.now() - started > budget)
            except OtherRun as other:
                done.problems.append(str(other))
    return done


def in_turn(storages: Iterable[str], now: datetime) -> list[str]:
    """In an order that begins with another one each day: a run that is ended by its timeout reaches not all of them."""
    ordered = sorted(storages)
    first = now.toordinal() % len(ordered) if ordered else 0
    return [*ordered[first:], *ordered[:first]]


def restore_day(tiers: Tiers, table: TableSpec, day: date) -> Record:
    """Move the partition that holds a day of a table back into ClickHouse's storage.

    :returns: what was on record of it
    :raises OffloadError: if none is held, or it cannot be moved back
    """
    done = Retention()
    storage = _storage_of(tiers, table, day)
    if storage is None:
        raise InvalidSource(f"{table.name}: which table holds the rows of {table.source} is not known. {SAFE}")
    try:
        readers = [each for each, _ in _readers(tiers, [storage])[storage]]
    except InvalidSource:
        readers = [table]
    with ProvenStorage.opened(tiers, storage, readers, done, dry_run=False) as opened:
        for record in opened.holding.records if opened.holding is not None else ():
            if record.covers(table.partition_column, day):
                step, held = opened.next_step(record)
                if held.digests:
                    opened.restore(record, "by a person")
                    return record
                opened.end(record, "gone", "nothing of it is held", gone=step is not Next.FORGET)
        unknown = sorted(opened.held.keys() - {record.partition_id for record in opened.known.records})
    if unknown:
        raise OffloadError(
            f"{table.name} {day}: its rows are not on record as held, and {holding_of(storage)} has rows of "
            f"partition {', '.join(unknown)}, which are not on record. {SAFE} `k2 retention {table.name} --apply` "
            "brings them back, or says why not."
        )
    raise OffloadError(
        f"{table.name} {day}: its rows are not held, so there is nothing to bring back. `k2 retention {table.name}` "
        f"shows what is. {' '.join([SAFE, *done.problems])}"
    )


def _storage_of(tiers: Tiers, table: TableSpec, day: date) -> str | None:
    """Of several that a table reads, or of one whose TTL groups rows: the one of which that day is held."""
    if (storage := tiers.clickhouse.storage(table)) is not None:
        return storage.name
    for holding in read_held(tiers, table):
        if any(record.covers(table.partition_column, day) for record in holding.records):
            return holding.storage
    return None


def check_retention(tiers: Tiers, table: TableSpec) -> str | None:
    """What is wrong with a table's ``retention``; ``None`` if nothing is.

    :raises OffloadError: if its source does not allow it
    """
    if not table.is_proven:
        return next((_still_held(table, holding) for holding in read_held(tiers, table)), None)
    name = check_storage(tiers, table)
    for other, alone in _readers(tiers, [name])[name]:
        if not (alone and other.is_proven):
            return shared_with(other, name)
    in_the_way = ttl_in_the_way(tiers, table)
    return in_the_way or find_shared_day(table, name, partitions_of(tiers, name, [table]))


def _tell_held(tiers: Tiers, table: TableSpec, done: Retention) -> None:
    """Of a table with ``retention: ttl``: no run goes on with what is held of it."""
    told = {state.storage for state in done.states}
    for holding in read_held(tiers, table):
        if holding.storage not in told:
            done.problems.append(_still_held(table, holding))
            done.states += (
                PartitionState(
                    holding.storage, record.partition_id, record.text, record.rows, record.step.value,
                    f"'retention: ttl' is set: {record.how_to_restore(table)} brings it back", record.at,
                )
                for record in holding.records
            )  # fmt: skip


def _still_held(table: TableSpec, holding: Holding) -> str:
    first, count = holding.records[0], len(holding.records)
    return (
        f"{table.name}: 'retention: ttl' is set, and {holding_of(holding.storage)} still holds {count} "
        f"{'partition' if count == 1 else 'partitions'}, which nobody looks after then: {first.text}"
        f"{'' if count == 1 else ' and others'}. No row is lost, and their days are neither compared nor healed. "
        f"{first.how_to_restore(table)} brings {'it' if count == 1 else 'the first'} back."
    )


def _storages(
    tiers: Tiers, tables: Sequence[TableSpec], problems: list[str], *, dry_run: bool
) -> dict[str, list[TableSpec]]:
    """The storages of the chosen tables, with all tables of the file that read each."""
    wanted = []
    for table in tables:
        if table.is_proven:
            with collecting(problems):
                try:
                    wanted.append(check_storage(tiers, table))
                except InvalidSource:
                    if not dry_run:
                        end_whole(tiers, table)
                    raise
    if not wanted:
        return {}
    found = {}
    for name, readers in _readers(tiers, wanted).items():
        stopping = [shared_with(table, name) for table, alone in readers if not (alone and table.is_proven)]
        problems += [f"{problem} {SAFE}" for problem in stopping]
        if not stopping:
            found[name] = [table for table, _ in readers]
        elif not dry_run:
            end_whole(tiers, next(table for table, alone in readers if alone))
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
                f"{SAFE} Correct the table file; then run `k2 validate`."
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
