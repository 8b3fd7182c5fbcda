"""Why nothing is forgotten that is not proven. The argument, and every rule that it needs.

With ``retention: proven`` no clock removes a row from ClickHouse. A partition of the *storage* (the MergeTree table
that holds a source's rows, also behind views) goes like this:

1. *It is chosen* (:func:`obstacle`): all of its days are older than ``warm_retention_days``, lie in no other partition,
   are read from ClickHouse by no view over both tiers, and are sealed in every table of the table file that reads this
   storage. The holding table has nothing of it.
2. *It is compared.* Every seal is verified in the snapshot that readers see now; every source shows of each day exactly
   what was sealed; and together the sources show all rows of the partition (:func:`hides_rows`), none of them as of
   other days. The parts were the same before and after, and a part never changes: so this is a statement about these
   parts.
3. *It is moved* into the holding table, where nobody inserts. What was moved must be these very parts, by the digests
   of their files, and no source may show a row of these days any more. Otherwise (a row came in between, or parts were
   merged) the partition is moved back at once; if less is shown of it then than was compared, its days count as gone.
4. *It is held* for ``holding_days``. A late row that comes meanwhile brings the partition back, so that the day is
   whole and can be healed. Each run verifies the seals again; while one is broken, nothing is dropped.
5. *It is dropped*, after the seals were verified once more: the same seals that it was compared with, of every table
   that reads the storage by then.

What a run is about to do stands in the holding table's comment before it does it (:class:`.holding.Record`); what the
next one finds then says how to go on (:func:`next_step`). So a run may be killed anywhere, and repeated. The comment
lives with the data that it speaks of: a ClickHouse that is restored from a backup brings the right one with it.

A rule of step 1 that is too lax loses no row: step 2 compares rows, and step 3 shows that they are those which moved.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from enum import StrEnum
from itertools import pairwise

from k2_offload.core.holding import Holding, Partition, Parts, Record, Step, days_of
from k2_offload.core.seals import Seal
from k2_offload.core.tables import TableSpec

HOLDING_SUFFIX = "_k2_holding"
"""After the storage's name: the table that its proven partitions are moved to."""

TAG_PREFIX = "k2_held_"
"""Before a day: the tag of the snapshot in which that day was verified, while its partition is held."""

ENGINES = ("MergeTree", "AggregatingMergeTree")
"""Storages that can be ``proven``. A replica that lags might drop what it has not fetched, so none is replicated."""

LONGEST_COMMENT = 150_000
"""Of a holding table, in characters: nothing else is moved while it is longer. A statement may have 256 KiB."""

FAR = 4
"""A TTL is far if it keeps rows so many times as long as ``warm_retention_days``."""


class Next(StrEnum):
    """How to go on with a partition that is on record."""

    COMPARE = "compare"
    KEEP = "keep"
    RESTORE = "restore"
    DROP = "drop"
    FORGET = "forget"
    """It is where it was: the record goes."""

    GONE = "gone"
    """It was dropped: the record goes, and its days are gone."""

    LOST = "lost"
    """Nothing of it is there any more, and no run has dropped it: the record stays until its seals are verified."""

    DECIDE = "decide"
    """A person has to: nothing is done."""


@dataclass(frozen=True)
class Reader:
    """One table of the table file that reads a storage, as far as it is known before rows are compared.

    :param whole_from: the first day that is not older than ``warm_retention_days``
    :param seals: the last seal of each day of the present incarnation of its cold table
    :param broken: why a day has none, or a broken one
    :param rows: rows that the source shows, by day
    :param columns: of the source, by name
    :param warm_from: the first day that a view over both tiers reads from ClickHouse; ``None`` if none does now
    """

    table: TableSpec
    whole_from: date
    seals: Mapping[date, Seal]
    broken: Mapping[date, str]
    rows: Mapping[date, int]
    columns: frozenset[str]
    warm_from: date | None = None


def obstacle(
    partition: Partition, all_partitions: Iterable[Partition], readers: Sequence[Reader], holding: Holding
) -> str | None:
    """Why a partition may not go, as far as days and seals tell; ``None`` if it may be compared.

    A day without a row in a source needs no seal there.

    :param readers: all tables that read the storage
    """
    if not readers:
        return "no table of the table file reads it"
    others = [each for each in all_partitions if each.partition_id != partition.partition_id]
    for reader in readers:
        table, column = reader.table, reader.table.partition_column
        first, last = partition.days[column]
        if last >= reader.whole_from:
            return f"{last} is not older than warm_retention_days of {table.name} ({table.warm_retention_days})"
        if reader.warm_from is not None and last >= reader.warm_from:
            return (
                f"a view of {table.name} over both tiers reads days from {reader.warm_from} on from ClickHouse: "
                f"`k2 view {table.name} --apply` renews it, or says why not"
            )
        for other in others:
            low, high = other.days[column]
            if low <= last and first <= high:
                return (
                    f"rows of {max(low, first)} are in partition {other.partition_id}, too: a day that lies in several "
                    "partitions cannot go"
                )
        kept = holding.kept(column)
        for day in days_of((first, last)):
            if kept.is_gone(day):
                return f"rows of {day} came after that day was removed: they stay, and k2_reconcile has them on record"
            reason = _obstacle_of_day(reader, day)
            if reason is not None:
                return reason
    return None


def find_shared_day(table: TableSpec, storage: str, partitions: Iterable[Partition]) -> str | None:
    """A sentence on a day that never goes because it lies in several partitions; ``None`` if there is none.

    :param table: one that reads the storage
    """
    column = table.partition_column
    for before, after in pairwise(sorted(partitions, key=lambda each: each.days[column])):
        first = after.days[column][0]
        if first <= before.days[column][1]:
            return (
                f"{table.name}: rows of {first} lie in partitions {before.partition_id} and {after.partition_id} of "
                f"{storage}: a day that lies in several partitions never goes, and days are those of UTC. With "
                f"'retention: proven' a partition has to hold whole days: PARTITION BY toDate({column}, 'UTC'), which "
                "needs another table"
            )
    return None


def _obstacle_of_day(reader: Reader, day: date) -> str | None:
    name, seal = reader.table.name, reader.seals.get(day)
    if day in reader.broken:
        return reader.broken[day]
    if seal is None:
        if not reader.rows.get(day, 0):
            return None
        return f"{day} is not sealed in {name}"
    if seal.partition_column != reader.table.partition_column:
        return f"{day} of {name} is sealed by another partition column, {seal.partition_column}"
    if unsealed := reader.columns - {column.name for column in seal.columns}:
        return f"the seal of {day} of {name} says nothing of column {min(unsealed)}"
    return None


@dataclass(frozen=True)
class StoredColumn:
    """One column of a storage whose values are stored."""

    name: str
    type: str
    is_in_sorting_key: bool


@dataclass(frozen=True)
class Coverage:
    """How it is shown that views show each row of a storage once.

    :param columns: that each view shows: rows that are alike in them are one row, or shown alike
    :param version_column: a sum without a sign over the rows that are alike; ``None`` where each row counts by itself
    """

    columns: tuple[str, ...]
    version_column: str | None = None


def coverage(columns: Sequence[StoredColumn], views: Sequence[Reader]) -> Coverage | str:
    """How that can be shown; why it cannot.

    :param columns: of the storage
    :param views: all that read it; none reads it itself
    """
    sources = [view.table.source for view in views]
    for source in sources:
        if sources.count(source) > 1:
            return f"two tables read {source}: whether all of its storage is shown cannot be known"
    shown = frozenset.intersection(*(view.columns for view in views))
    versions = {view.table.version_column for view in views}
    if versions != {None}:
        version = versions.pop() if len(versions) == 1 else None
        summed = [each.name for each in columns if each.type.startswith("SimpleAggregateFunction(sum, UInt")]
        keys = tuple(each.name for each in columns if each.is_in_sorting_key and each.name in shown)
        if version not in summed or not keys:
            return (
                "whether its views show all of its rows cannot be known: that needs one version_column for all, which "
                "the storage has as SimpleAggregateFunction(sum, UInt…), and columns of its sorting key"
            )
        return Coverage(keys, version)
    for column in columns:
        if column.name not in shown:
            return f"whether its views show all of its rows cannot be known: not all of them show column {column.name}"
    return Coverage(tuple(column.name for column in columns))


def hides_rows(of_storage: Sequence[int], of_views: Sequence[Sequence[int | None]]) -> str | None:
    """Why the views do not show each row once; ``None`` if they do.

    :param of_storage: number of rows, sum of their hashes modulo 2**64, the most sorting keys that are alike in what
        is shown, rows whose version is not above zero
    :param of_views: number of rows and sum of their hashes, of each
    """
    rows, total, alike, empty = of_storage
    if alike > 1:
        return "rows with different sorting keys look alike in its views: whether all are shown cannot be known"
    if empty:
        return f"its version column is zero in {empty:,} rows: whether they are shown cannot be known"
    if (rows, total) != (sum(view[0] or 0 for view in of_views), sum(view[1] or 0 for view in of_views) % 2**64):
        return "the tables that read it do not show all of its rows"
    return None


def next_step(record: Record, held: Parts, in_source: Parts, shown: Mapping[str, int]) -> Next:
    """How to go on with a partition that is on record.

    What was never moved, or has come back, may have been merged since: then it is known by what is shown of it. Of what
    was held, other rows may have taken the place.

    :param held: its parts in the holding table
    :param in_source: those in the storage
    :param shown: rows that each table shows of its days
    """
    is_dropping, source_rows = record.step is Step.DROPPING, sum(shown.values())
    if not held.digests:
        if not in_source.digests:
            return Next.GONE if is_dropping else Next.LOST
        may_be_merged = record.step in (Step.MOVING, Step.RESTORING)
        is_there = is_back(record, in_source) or (may_be_merged and shows_all(record, in_source, shown))
        return Next.FORGET if is_there else Next.DECIDE
    if record.step is Step.RESTORING:
        return Next.RESTORE
    if held.digests != record.parts:
        if is_dropping and not (source_rows or in_source.digests) and _lacks_none(held.digests, record.parts):
            return Next.DROP  # of several parts, some were dropped
        return Next.RESTORE if record.step is Step.MOVING else Next.DECIDE
    if source_rows or in_source.digests:
        return Next.RESTORE
    return {Step.MOVING: Next.COMPARE, Step.HELD: Next.KEEP, Step.DROPPING: Next.DROP}[record.step]


def is_back(record: Record, in_source: Parts) -> bool:
    """Whether the very parts that were to be moved are there."""
    return bool(record.parts) and _lacks_none(record.parts, in_source.digests)


def shows_all(record: Record, in_source: Parts, shown: Mapping[str, int]) -> bool:
    """Whether as much is shown of a partition that is in the storage as when it was compared.

    Its parts may have been merged meanwhile; those of an ``AggregatingMergeTree`` have fewer rows then.

    :param shown: rows that each table shows of its days
    """
    if not record.shown:  # it was never compared
        return in_source.rows >= record.rows
    return all(shown.get(name, 0) >= rows for name, rows in record.shown.items())


def _lacks_none(digests: Iterable[str], of: Iterable[str]) -> bool:
    return not Counter(digests) - Counter(of)


def is_all(record: Record, held: Parts, in_source: Parts) -> bool | None:
    """Whether what is held and what the storage has are all rows that were to be moved.

    :returns: ``None`` if only what is shown of it can tell, once it is back: see :func:`shows_all`
    """
    if _lacks_none(record.parts, [*held.digests, *in_source.digests]):
        return True
    if record.step in (Step.MOVING, Step.RESTORING) and record.shown:
        return None
    if record.step is Step.HELD:  # what the source has came later
        return held.rows >= record.rows
    return record.step is not Step.DROPPING and held.rows + in_source.rows >= record.rows


def is_doubled(record: Record, held: Sequence[str]) -> bool:
    """Whether a part is held more often than it was moved: to move it back would double its rows.

    :param held: digests of its parts in the holding table
    """
    return any(digest in record.parts for digest in Counter(held) - Counter(record.parts))


def is_due(record: Record, now: datetime, holding_days: int) -> bool:
    """Whether a partition has been held for long enough."""
    return now >= record.at + timedelta(days=holding_days)


def seals_obstacle(record: Record, readers: Sequence[Reader], later_columns: Collection[str] = ()) -> str | None:
    """Why a held partition may not be dropped, as far as seals tell; ``None`` if they may be verified.

    They must be the very seals that it was compared with, of every table that reads the storage now.

    :param later_columns: of the storage, which what is held has not got
    """
    present = {reader.table.name: reader for reader in readers}
    for name in record.seals:
        if name not in present:
            return f"{name} read it when it was moved, and is not in the table file with 'retention: proven' any more"
    for name, reader in present.items():
        if name not in record.seals:
            return f"{name} reads it now, and did not when it was compared"
        for day, seal_id in record.seals[name].items():
            if day in reader.broken:
                return reader.broken[day]
            if day not in reader.seals:
                return f"{day} of {name} is not sealed any more: its cold table was dropped, rolled back or made anew"
            if reader.seals[day].seal_id != seal_id:
                return f"{day} of {name} has another seal than when it was compared"
            sealed = {column.name for column in reader.seals[day].columns}
            if unsealed := reader.columns - sealed - set(later_columns):
                return f"the seal of {day} of {name} says nothing of column {min(unsealed)}, which is shown since then"
    return None
