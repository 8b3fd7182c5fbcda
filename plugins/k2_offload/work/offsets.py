"""Compares the offsets of messages: broker against ClickHouse against Iceberg."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from k2_offload.adapters.broker import Broker
from k2_offload.core import offset_queries
from k2_offload.core.day_comparison import HEALED_WITHIN
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.lake import iceberg_table
from k2_offload.core.offsets import (
    BrokerPartition,
    Delivered,
    OffsetFinding,
    OffsetKind,
    OffsetRange,
    Partition,
    due,
    interior_gaps,
    judge_gap,
    ranges,
    unread,
)
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import from_micros
from k2_offload.work.tiers import Tiers

_TTL_MARGIN = timedelta(days=1)
_ON_ITS_WAY = timedelta(minutes=5)
"""How long a message may take from the broker into bronze."""
_VIEW_STARTS_WITHIN = timedelta(minutes=1)
"""A queue that reads already takes up a new view when its current block has ended."""


@dataclass(frozen=True)
class OffsetReport:
    """What was found of one bronze table.

    :param kept: whether ClickHouse keeps the offsets of its messages
    :param partitions: that were looked at
    """

    table: str
    kept: bool
    partitions: int = 0
    findings: tuple[OffsetFinding, ...] = ()

    @property
    def losses(self) -> list[OffsetFinding]:
        """Those of which rows may be missing."""
        return [finding for finding in self.findings if finding.kind.lost]


def compare_offsets(tiers: Tiers, table: TableSpec, broker: Broker | None) -> OffsetReport:
    """Compare the offsets of one bronze table's messages.

    :param broker: ``None`` compares ClickHouse with Iceberg alone
    :raises OffloadError: if something cannot be asked
    """
    began = _offsets_kept_since(tiers, table)
    if began is None:
        return OffsetReport(table.name, kept=False)
    last = {
        Partition(topic, number): offset for topic, number, offset in _ask(tiers, offset_queries.last_offsets(table))
    }
    known: dict[Partition, BrokerPartition] = {}
    for topic in sorted({partition.topic for partition in last} | _topics(tiers, table)) if broker else ():
        known |= broker.partitions(topic) if broker else {}
    now = min(tiers.now(), tiers.clickhouse.now())
    since = now - table.warm_retention + _TTL_MARGIN
    findings = [
        *_gaps(tiers, table, broker, known),
        *(_unread(broker, last, known, max(since, began + _VIEW_STARTS_WITHIN), now - _ON_ITS_WAY) if broker else ()),
        *_found(OffsetKind.REPEATED, _ask(tiers, offset_queries.repeated(table))),
        *_without_rows(tiers, table, since, now),
    ]
    return OffsetReport(table.name, True, len(last.keys() | known.keys()), tuple(findings))


def _offsets_kept_since(tiers: Tiers, table: TableSpec) -> datetime | None:
    found = tiers.clickhouse.execute(
        "SELECT toUnixTimestamp(metadata_modification_time) FROM system.tables "
        "WHERE database = %(database)s AND name = %(name)s",
        {"database": table.source.partition(".")[0], "name": offset_queries.OFFSETS_TABLE},
    )
    return from_micros(found[0][0] * 1_000_000) if found else None


def _topics(tiers: Tiers, table: TableSpec) -> set[str]:
    """Those that the queue of the table reads, also if nothing has come from them."""
    database, _, name = table.source.partition(".")
    found = tiers.clickhouse.execute(
        "SELECT extract(engine_full, 'kafka_topic_list = \\'([^\\']*)') FROM system.tables "
        "WHERE database = %(database)s AND name = %(name)s AND engine = 'Kafka'",
        {"database": database, "name": f"{name}_queue"},
    )
    return {topic.strip() for (topics,) in found for topic in topics.split(",") if topic.strip()}


def _gaps(
    tiers: Tiers, table: TableSpec, broker: Broker | None, known: dict[Partition, BrokerPartition]
) -> Iterator[OffsetFinding]:
    for topic, number, before, before_at, after, after_at in _ask(tiers, offset_queries.neighbours(table)):
        partition = Partition(topic, number)
        pair = (Delivered(before, from_micros(before_at)), Delivered(after, from_micros(after_at)))
        for gap in interior_gaps([pair]):
            held = broker.messages(partition, gap) if broker and partition in known else {}
            for offsets, kind in judge_gap(gap, known.get(partition), held):
                yield OffsetFinding(partition, offsets, kind)


def _unread(
    broker: Broker,
    last: dict[Partition, int],
    known: dict[Partition, BrokerPartition],
    since: datetime,
    before: datetime,
) -> Iterator[OffsetFinding]:
    for partition, held in known.items():
        rest = unread(last.get(partition), held)
        if rest is not None:
            for offsets in ranges(due(broker.messages(partition, rest), since, before)):
                yield OffsetFinding(partition, offsets, OffsetKind.MISSING)


def _without_rows(tiers: Tiers, table: TableSpec, since: datetime, now: datetime) -> Iterator[OffsetFinding]:
    warm = offset_queries.without_rows(table, table.source, since, now - _ON_ITS_WAY)
    yield from _found(OffsetKind.NOT_IN_BRONZE, _ask(tiers, warm))
    cold = tiers.load_cold(table)
    if cold is None or cold.published is None:
        return
    reader = iceberg_table(cold.location, cold.metadata_location, tiers.lake_collection)
    left_out = [gap.window for gap in tiers.ledger.read_gaps().get(table.name, ())]
    missing = offset_queries.without_rows(
        table, reader, since, now - HEALED_WITHIN, watermark_of(cold.published), left_out
    )
    yield from _found(OffsetKind.NOT_COLD, _ask(tiers, missing))


def _ask(tiers: Tiers, sql: str) -> list[tuple[Any, ...]]:
    rows: list[tuple[Any, ...]] = tiers.clickhouse.execute(sql)
    return rows


def _found(kind: OffsetKind, rows: Iterable[tuple[Any, ...]]) -> Iterator[OffsetFinding]:
    for topic, number, first, last in rows:
        yield OffsetFinding(Partition(topic, int(number)), OffsetRange(int(first), int(last)), kind)
