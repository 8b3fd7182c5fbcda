"""The holding table of a storage in ClickHouse: what it holds, and what its comment says."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import partial

from k2_offload.adapters.ledger_retention import LedgerRetention
from k2_offload.core import retention_queries as sql
from k2_offload.core.day_comparison import day_window
from k2_offload.core.errors import DamagedTable, InvalidSource, OffloadError, Unreachable
from k2_offload.core.gaps import Looked, may_have_expired, soon_expired
from k2_offload.core.holding import NO_PARTS, Holding, Kept, Partition, Parts
from k2_offload.core.retention import ENGINES, FAR, StoredColumn
from k2_offload.core.tables import TableSpec
from k2_offload.core.ttl import removals
from k2_offload.core.windows import Window
from k2_offload.work.tiers import Tiers
from k2_offload.work.ttl import read_kept_for_now

log = logging.getLogger(__name__)

_SHORTEST_RETENTION = timedelta(days=1)
"""No source keeps its rows for less."""


class HoldingTable:
    """The partitions of a storage and of its holding table.

    :param storage: ``database.table`` of a MergeTree
    """

    def __init__(self, tiers: Tiers, storage: str) -> None:
        self.clickhouse = tiers.clickhouse
        self.storage = storage
        self.name = sql.holding_of(storage)

    def read(self) -> Holding | None:
        """What is on record; ``None`` if there is no holding table yet.

        :raises DamagedTable: if the table of its name is not this one
        """
        found = self.clickhouse.execute(sql.describe_table(self.name))
        if not found:
            return None
        try:
            holding = Holding.read(found[0][1])
        except ValueError:
            holding = None
        if holding is None or holding.storage != self.storage:
            raise DamagedTable(
                f"{self.name}: a table of that name is there, and its comment does not say that it holds partitions of "
                f"{self.storage}. Nothing was moved or dropped and no row is lost. Rename it, or put its comment back: "
                "docs/retention.md."
            )
        return holding

    def write(self, holding: Holding) -> None:
        """Put on record what is to be done, or was."""
        self.clickhouse.execute(sql.write_comment(self.storage, holding.text))

    def prepare(self, holding: Holding | None, check_alone: Callable[[], None]) -> Holding:
        """Let the holding table be there, without a TTL or merges, and with the storage's columns and keys.

        :param check_alone: fails if another run may have made it, or moved partitions to it
        :raises OffloadError: if it holds partitions with other ones
        """
        if holding is None:
            holding = Holding(self.storage, None)
            check_alone()
            self.clickhouse.execute(sql.create_holding(self.storage, holding.text))
        elif any(self.clickhouse.execute(of(self.name)) != self.clickhouse.execute(of(self.storage)) for of in _ALIKE):
            if holding.records or self.parts(self.name):
                raise InvalidSource(
                    f"{self.storage}: its columns, keys, indices or projections have changed, and {self.name} still "
                    "holds partitions with the old ones. Nothing was moved and no row is lost. More partitions go when "
                    f"those are dropped. One can come back once {self.name} was changed alike."
                )
            check_alone()
            self.clickhouse.execute(sql.create_holding(self.storage, holding.text, replace=True))
        for column in self.clickhouse.column_ttls(self.name):
            raise InvalidSource(
                f"{self.name}: its column '{column}' has a TTL, which removes values of rows that are held. Nothing "
                f"was moved. Take it away: {_remove_ttl(self.name, column)}."
            )
        engine = self.clickhouse.engine(self.name)
        for statement in sql.prepare_holding(self.storage, engine, has_ttl=removals(engine) != []):
            self.clickhouse.execute(statement)
        return holding

    def _columns(self, name: str) -> list[tuple[object, ...]]:
        return self.clickhouse.execute(sql.structure(name))

    def columns_of(self, name: str) -> list[str]:
        """Names of a table's columns."""
        return [str(column) for column, *_ in self._columns(name)]

    @property
    def stored_columns(self) -> list[StoredColumn]:
        """The storage's columns whose values are stored."""
        return [
            StoredColumn(str(name), str(kind), bool(is_in_key))
            for name, kind, default, *_, is_in_key in self._columns(self.storage)
            if default not in ("ALIAS", "EPHEMERAL")
        ]

    def parts(self, name: str) -> dict[str, Parts]:
        """The parts of a table, by partition."""
        return {
            partition_id: Parts(tuple(digests), rows)
            for partition_id, digests, rows in self.clickhouse.execute(sql.parts(name))
        }

    def partitions(self, columns: Iterable[str]) -> list[Partition]:
        """The storage's partitions, those of the oldest days first.

        :param columns: whose days are to be known
        """
        names = sorted(set(columns))
        found = self.clickhouse.execute(sql.partition_days(self.storage, names))
        parts = self.parts(self.storage)
        partitions = [
            Partition(partition_id, parts.get(partition_id, NO_PARTS).digests, rows, _by_column(names, days))
            for partition_id, rows, *days in found
        ]
        return sorted(partitions, key=lambda each: (min(each.days.values()), each.partition_id))


_ALIKE = (sql.structure, sql.layout)


def _by_column(names: list[str], days: list[date]) -> dict[str, tuple[date, date]]:
    return {name: (days[2 * place], days[2 * place + 1]) for place, name in enumerate(names)}


def check_storage(tiers: Tiers, table: TableSpec) -> str:
    """The storage of a table with ``retention: proven``.

    :raises InvalidSource: if what it is does not allow that, and why
    """
    if tiers.clickhouse.servers > 1:
        raise InvalidSource(
            f"{table.name}: 'retention: proven' needs a ClickHouse connection with one server: what another one holds "
            "is not proven. Nothing is removed. Name one host there, or set 'retention: ttl'."
        )
    storage = tiers.clickhouse.storage(table)
    if storage is None:
        raise InvalidSource(
            f"{table.name}: 'retention: proven' needs a source that is a MergeTree table or a view on one such table, "
            f"and {table.source} is not, or its TTL groups rows. Nothing is removed. Set 'retention: ttl'."
        )
    engine = tiers.clickhouse.engine(storage.name).partition(" ")[0].partition("(")[0]
    if engine not in ENGINES:
        raise InvalidSource(
            f"{table.name}: 'retention: proven' is not possible for {storage.name}: its engine is {engine}, and only "
            f"{' and '.join(ENGINES)} are known to lose nothing. Nothing is removed. Set 'retention: ttl'."
        )
    return storage.name


def ttl_in_the_way(tiers: Tiers, table: TableSpec) -> str | None:
    """Why the source's real TTL does not go with ``retention: proven``; ``None`` if it does.

    :raises Overloaded, Refused, Unreachable: if ClickHouse does not answer now
    """
    return _in_the_way(tiers, table, *read_kept_for_now(tiers, table))


def _in_the_way(tiers: Tiers, table: TableSpec, storage: str | None, kept_for: timedelta | None) -> str | None:
    if storage is None:
        return (
            f"{table.name}: the TTL of {table.source} cannot be known, so rows may go before they are proven to be cold"
        )
    for column in tiers.clickhouse.column_ttls(storage):
        return (
            f"{table.name}: column '{column}' of {storage} has a TTL of its own: ClickHouse would remove its values "
            "from rows that are not moved, or that are held, and no count of rows shows that. With 'retention: proven' "
            f"there may be none: {_remove_ttl(storage, column)}"
        )
    if kept_for is not None and kept_for < FAR * table.warm_retention:
        return (
            f"{table.name}: the TTL of {storage} keeps some rows for {kept_for} only: an outage may lose them. With "
            f"'retention: proven' it has to keep them for {FAR} times warm_retention_days, or there is none: "
            f"`ALTER TABLE {storage} REMOVE TTL`"
        )
    return None


def _remove_ttl(name: str, column: str) -> str:
    named = column if column.isidentifier() else json.dumps(column, ensure_ascii=False)  # escapes as ClickHouse does
    return f"`ALTER TABLE {name} MODIFY COLUMN {named} REMOVE TTL`"


def partitions_of(tiers: Tiers, storage: str, tables: Iterable[TableSpec]) -> list[Partition]:
    """The partitions of a storage, with the days that they have by the partition columns of some tables that read it.

    :raises InvalidSource: if a partition column is none of the storage's
    """
    table, columns = HoldingTable(tiers, storage), {each.partition_column for each in tables}
    if missing := columns - set(table.columns_of(storage)):
        raise InvalidSource(
            f"{storage}: partition_column {min(missing)} of a view on it is no column of it, so which days a partition "
            "holds is not known. Nothing was dropped and no row is lost. Set 'retention: ttl' for the tables that read "
            "it."
        )
    return table.partitions(columns)


def is_any_holding(tiers: Tiers) -> bool:
    """Whether a table of any storage may be there that holds, or has held, its partitions."""
    return tiers.clickhouse.execute(sql.any_holding()) != [(0,)]


def read_kept(tiers: Tiers, table: TableSpec) -> Kept:
    """Which days ClickHouse holds as a whole although they are old, and which not although they are young.

    :raises OffloadError: if what was removed of it cannot be known
    """
    if not (table.is_proven or is_any_holding(tiers)):
        return Kept()
    storage = tiers.clickhouse.storage(table)
    if storage is None and table.is_proven:
        raise InvalidSource(
            f"{table.name}: which table holds the rows of {table.source} is not known, or its TTL groups rows, so what "
            "was removed of it is not known. Nothing was changed and no row is lost. Run `k2 validate`."
        )
    holding = HoldingTable(tiers, storage.name).read() if storage is not None else None
    return Kept() if holding is None else _as_seen(tiers, table, holding).kept(table.partition_column)


def _as_seen(tiers: Tiers, table: TableSpec, holding: Holding) -> Holding:
    """What is on record, as far as the TTL of now leaves it so."""
    ttl_of, kept_for = read_kept_for_now(tiers, table)
    seen = holding.with_whole(max(tiers.now(), tiers.clickhouse.now()), kept_for)
    is_by_clock = not table.is_proven or _in_the_way(tiers, table, ttl_of, kept_for) is not None
    return replace(seen, whole_since=None) if is_by_clock else seen


def remember_ttl(tiers: Tiers, table: TableSpec) -> None:
    """Put on record that a clock may have removed rows of a table: its TTL may be taken away before the next look."""
    if is_any_holding(tiers):
        for name in _read_by(tiers, table):
            _put_on_record(tiers, name, partial(_as_seen, tiers, table))


def read_held(tiers: Tiers, table: TableSpec) -> list[Holding]:
    """What is on record of storages that a table reads and of which something is held, whatever its retention is.

    :raises DamagedTable: if a table that has the name of a holding table is none
    """
    if not is_any_holding(tiers):
        return []
    read = (HoldingTable(tiers, name).read() for name in _read_by(tiers, table))
    return [holding for holding in read if holding is not None and holding.records]


def what_is_held(tiers: Tiers, table: TableSpec) -> str:
    """A sentence on what can be brought back of what a table reads; empty if nothing is held."""
    for holding in read_held(tiers, table):
        first, count = holding.records[0], len(holding.records)
        also = "" if count == 1 else f", the first of {count} partitions"
        return f"{first.text} is still held{also}: first, {first.how_to_restore(table)} brings it back. "
    return ""


def end_whole(tiers: Tiers, table: TableSpec) -> None:
    """Put on record that nothing is proven of what a table reads any more: its old days are not whole."""
    for name in _read_by(tiers, table):
        _put_on_record(tiers, name, lambda holding: replace(holding, whole_since=None))


def _read_by(tiers: Tiers, table: TableSpec) -> list[str]:
    storage = tiers.clickhouse.storage(table)
    return [storage.name] if storage is not None else sorted(tiers.clickhouse.reads(table)[0])


def _put_on_record(tiers: Tiers, storage: str, seen: Callable[[Holding], Holding]) -> None:
    """If a run moves partitions now, the record is its own: it looks at the TTL, too."""
    table = HoldingTable(tiers, storage)
    before = table.read()
    if before is None or seen(before) == before:
        return
    try:
        with LedgerRetention(tiers.ledger).alone(storage) as check_alone:
            if (before := table.read()) is not None:
                after = seen(before)
                check_alone()
                table.write(after)
    except Unreachable:
        raise
    except OffloadError as error:  # another run has the lock, a right is missing, a disk is full
        # This look itself goes by what it sees.
        log.warning("%s: what its TTL may have removed was not put on record: %s", storage, error)


def find_expired(
    tiers: Tiers, table: TableSpec, watermark: datetime, looked: Looked, now: datetime, *, soon: bool = False
) -> Window | None:
    """The range that a TTL may have taken before it was moved; with ``retention: proven``, none since that began.

    A day that was removed or is held, and that the cold table has not (it was rolled back, or its catalog was restored
    from a backup), is in that range, too. What is seen of a TTL is put on record.

    :param soon: with what it may take while the rest is moved
    :returns: ``None`` if nothing may have gone
    """
    remember_ttl(tiers, table)
    kept = read_kept(tiers, table)
    longest = table.longest_interval
    low = watermark if looked.cleared_until is None else max(watermark, looked.cleared_until)
    ends = [day_window(last).high + longest for _, last in kept.gone]
    gap = may_have_expired(watermark, looked, now, table.warm_retention)
    if gap is not None:
        high = soon_expired(now, table.warm_retention) if soon else gap.high
        ends.append(high if kept.whole_since is None else min(high, day_window(kept.whole_since).low + longest))
    if kept.whole_since is not None:  # before it, a clock has removed rows, perhaps a faster one than the table file's
        since = min(day_window(kept.whole_since).low, now - _SHORTEST_RETENTION)
        if low < since and (looked.looked_at is None or looked.looked_at < since):
            ends.append(day_window(kept.whole_since).low + longest)
    high = max(ends, default=low)
    return Window(low, high) if low < high else None
