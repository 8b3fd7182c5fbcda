"""Compares the offsets of messages: broker against ClickHouse against Iceberg."""

from __future__ import annotations

import logging
import time
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

from k2_offload.adapters.broker import BROKER_CONNECTION, Broker
from k2_offload.adapters.ledger_offsets import LedgerOffsets
from k2_offload.core import offset_queries
from k2_offload.core.day_comparison import HEALED_WITHIN, day_window
from k2_offload.core.errors import OffloadError, Unreachable
from k2_offload.core.exactly_once import FIRST_WATERMARK, watermark_of
from k2_offload.core.gaps import not_looked_for
from k2_offload.core.lake import iceberg_table
from k2_offload.core.observation import OffsetComparison
from k2_offload.core.offsets import (
    OFFSETS_TTL,
    BrokerPartition,
    Delivered,
    OffsetFinding,
    OffsetKind,
    OffsetRange,
    Partition,
    SeenEnd,
    due,
    interior_gaps,
    judge_gap,
    looked_at_since,
    overdue,
    ranges,
    see,
    strangers,
    unread,
    within,
)
from k2_offload.core.skips import intersect
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import Window, from_micros
from k2_offload.work.holding import read_kept
from k2_offload.work.tiers import WORKER, Tiers

log = logging.getLogger(__name__)

_ON_ITS_WAY = timedelta(minutes=5)
"""How long a message may take from the broker into bronze."""
_COMPARED_EVERY = timedelta(minutes=55)
"""Offsets of a week are read each time; what was not whole is looked at in every run."""
_VIEW_STARTS_WITHIN = timedelta(minutes=1)
"""A queue that reads already takes up a new view when its current block has ended."""


@dataclass(frozen=True)
class OffsetReport:
    """What was found of one bronze table.

    :param kept: whether ClickHouse keeps the offsets of its messages
    :param broker_asked: otherwise messages after the last one that ClickHouse has were not looked for
    :param partitions: that were looked at
    :param problems: sentences on what could not be compared
    :param ends: what is to be kept of partitions in the broker
    :param left_out: messages whose first trade lies there were not looked for in Iceberg
    :param removed: nor were these in bronze
    """

    table: str
    kept: bool
    broker_asked: bool = False
    partitions: int = 0
    findings: tuple[OffsetFinding, ...] = ()
    problems: tuple[str, ...] = ()
    ends: Mapping[Partition, SeenEnd] = field(default_factory=dict)
    left_out: tuple[Window, ...] = ()
    removed: tuple[Window, ...] = ()

    @property
    def notes(self) -> list[str]:
        """Sentences on what was not looked for, and is no finding."""
        return [
            f"messages of trades in {each} were not looked for in Iceberg: that is left out there, or on record as "
            f"missing (`k2 status {self.table}`)"
            for each in self.left_out
        ] + [
            f"messages of trades in {each} were not looked for in bronze: `retention: proven` has moved them away "
            f"(`k2 retention {self.table}`)"
            for each in self.removed
        ]

    @property
    def losses(self) -> list[OffsetFinding]:
        """Those of which rows may be missing."""
        return [finding for finding in self.findings if finding.kind.lost]

    @property
    def passed(self) -> bool:
        """Whether all was compared and nothing is missing."""
        return self.kept and not self.losses and not self.problems

    @property
    def missing(self) -> int:
        """Messages that ClickHouse, bronze or Iceberg lacks."""
        return sum(len(each.offsets) for each in self.losses if not each.kind.there)

    @property
    def repeated(self) -> int:
        """Messages that were delivered more than once."""
        return sum(len(each.offsets) for each in self.findings if each.kind is OffsetKind.REPEATED)

    def comparison(self, at: datetime) -> OffsetComparison | None:
        """For the ledger; ``None`` if ClickHouse keeps no offsets of the table."""
        if not self.kept:
            return None
        unclear = sum(each.kind.there for each in self.losses) + len(self.problems)
        return OffsetComparison(at, self.missing, self.repeated, unclear)


def compare_due(
    tiers: Tiers, tables: Sequence[TableSpec], open_broker: Callable[[], Broker | None]
) -> Iterator[OffsetReport]:
    """Compare the offsets of the bronze tables among some whose turn it is, and keep in the ledger what was found.

    Those come first that were compared longest ago. When the time is up, the others are left to the next run, with what
    is on record of them.

    :raises Unreachable: if a service is down, or a broker that was asked before is not to be found
    :raises OffloadError: after all other tables, if some cannot be compared, or ClickHouse shows no offsets of one that
        was compared before
    """
    ledger = LedgerOffsets(tiers.ledger)
    known, now = ledger.read(), tiers.now()
    problems: list[str] = []
    broker: Broker | None = None
    asked = False
    until = time.monotonic() + tiers.task_timeout.total_seconds() / 2
    for table in _oldest_first(tables, known, now):
        last = known.get(table.name)
        if last is not None and last.passed and timedelta(0) <= now - last.at < _COMPARED_EVERY:
            continue
        if time.monotonic() >= until:
            log.warning("%s: there was no time to compare its messages; the next run begins with it", table.name)
            continue
        try:
            if not asked and _offsets_kept_since(tiers, table) is not None:
                broker, asked = _open_as_before(ledger, open_broker, now), True
            report = compare_offsets(tiers, table, broker, ledger.read_ends(table.name), until)
        except Unreachable:
            raise
        except OffloadError as error:
            problems.append(f"{table.name}: {error}")
            continue
        found = report.comparison(now)
        if found is not None:
            ledger.record(table.name, found, report.ends)
        elif last is not None:
            problems.append(f"{table.name}: {_hidden(table)}")
            continue
        yield report
    if problems:
        raise OffloadError("\n".join(problems))


def _oldest_first(tables: Sequence[TableSpec], known: Mapping[str, OffsetComparison], now: datetime) -> list[TableSpec]:
    """The bronze tables: one that takes all the time of a run keeps no other from its turn, for good.

    Of those that had their turn in the same run, first the ones for which there may have been too little time left.
    """

    def turn(table: TableSpec) -> tuple[datetime, bool]:
        last = known.get(table.name)
        return (FIRST_WATERMARK, False) if last is None or last.at > now else (last.at, last.passed)

    return sorted((each for each in tables if each.layer == "bronze"), key=turn)


def _hidden(table: TableSpec) -> str:
    """ClickHouse does not tell a table that is not there from one that its user may not read."""
    name = offset_queries.offsets_table(table)
    forget = f"DELETE FROM k2_offload.offload_offsets WHERE table_name = '{table.name}'"  # noqa: S608 - only told
    return (
        f"ClickHouse does not show {name}, and messages of this table were compared before: it was dropped or not "
        "restored, or the user has no SELECT on it any more. Nothing was compared, what was found stays on record, "
        f"and no row is lost by that. Grant SELECT on {name}, or restore it; docker/clickhouse/80_message_offsets.sql "
        f"makes a new one. If it was dropped on purpose, run {forget} in the ledger's database"
    )


def _open_as_before(ledger: LedgerOffsets, open_broker: Callable[[], Broker | None], now: datetime) -> Broker | None:
    """The broker, or none if none was ever asked: Airflow says "no such connection" also where it could not look."""
    broker = open_broker()
    if broker is not None:
        ledger.record_broker(now)
    elif ledger.has_asked_broker():
        raise Unreachable(
            "The broker",
            BROKER_CONNECTION,
            "Airflow does not find this connection now, and an earlier comparison has asked the broker, so messages "
            "were not compared. If you have deleted the connection on purpose, run DELETE FROM "
            "k2_offload.offload_broker in the ledger's database",
            "k2 verify --offsets",
        )
    return broker


def compare_offsets(
    tiers: Tiers,
    table: TableSpec,
    broker: Broker | None,
    seen: Mapping[Partition, SeenEnd] = MappingProxyType({}),
    until: float | None = None,
) -> OffsetReport:
    """Compare the offsets of one bronze table's messages.

    :param broker: ``None`` compares ClickHouse with Iceberg alone
    :param seen: what an earlier comparison has kept of partitions in the broker
    :param until: of the clock ``time.monotonic``: what the broker was not asked by then is a problem; ``None`` asks all
    :raises OffloadError: if something cannot be asked
    """
    began = _offsets_kept_since(tiers, table)
    if began is None:
        return OffsetReport(table.name, kept=False)
    last = {
        Partition(topic, number): offset
        for topic, number, offset in tiers.clickhouse.execute(offset_queries.last_offsets(table))
    }
    known: dict[Partition, BrokerPartition] = {}
    if broker is not None:
        for topic in sorted({partition.topic for partition in last} | _topics(tiers, table)):
            known |= broker.partitions(topic)
    now = min(tiers.now(), tiers.clickhouse.now())
    since, before = looked_at_since(now, table.warm_retention), now - _ON_ITS_WAY
    kept_since = max(began + _VIEW_STARTS_WITHIN, looked_at_since(now, OFFSETS_TTL))
    partitions = len(last.keys() | known.keys())
    cold, not_compared, left_out = _not_cold(tiers, table, since, now)
    not_in_bronze, removed = _not_in_bronze(tiers, table, since, now)
    questions = _Questions(table, broker, known, until)
    # First: there may be no time after the gaps, which are many where producers use transactions.
    unread_ones = list(_unread(questions, last, seen, max(since, kept_since), kept_since, before))
    findings = [
        *_gaps(tiers, questions),
        *(strangers(last, known) if broker else ()),
        *unread_ones,
        *_found(OffsetKind.REPEATED, tiers.clickhouse.execute(offset_queries.repeated(table))),
        *not_in_bronze,
        *cold,
    ]
    problems = [*_nothing_to_look_at(tiers, table, partitions), *questions.unasked, *not_compared]
    looks = {each: see(seen.get(each), last.get(each), held, kept_since, before, now) for each, held in known.items()}
    ends = {each: look for each, look in looks.items() if look is not None}
    asked = broker is not None
    return OffsetReport(table.name, True, asked, partitions, tuple(findings), tuple(problems), ends, left_out, removed)


def _offsets_kept_since(tiers: Tiers, table: TableSpec) -> datetime | None:
    made = tiers.clickhouse.execute(offset_queries.kept_since(table))
    if not made:
        return None
    [(first,)] = tiers.clickhouse.execute(offset_queries.first_received(table))
    made_at = made[0][0] * 1_000_000
    return from_micros(min(made_at, first) if first > 0 else made_at)


def _nothing_to_look_at(tiers: Tiers, table: TableSpec, partitions: int) -> Iterator[str]:
    [(views,)] = tiers.clickhouse.execute(offset_queries.feeding_views(table))
    if not views:
        yield (
            f"No view writes the offsets of its messages into {offset_queries.OFFSETS_TABLE}, so messages are not "
            "followed. Make one like those in docker/clickhouse/80_message_offsets.sql."
        )
    elif not partitions:
        yield (
            "No partition was looked at: no message has come since ClickHouse keeps offsets, and no topic of its queue "
            "was found in the broker. Look at `SELECT * FROM system.kafka_consumers`."
        )


def _topics(tiers: Tiers, table: TableSpec) -> set[str]:
    """Those that the queue of the table reads, also if nothing has come from them."""
    found = tiers.clickhouse.execute(offset_queries.queue_topics(table))
    return {topic.strip() for (topics,) in found for topic in topics.split(",") if topic.strip()}


@dataclass(frozen=True)
class _Questions:
    """To the broker, as long as there is time.

    :param unasked: sentences on what it was not asked, or not to the end
    """

    table: TableSpec
    broker: Broker | None
    known: Mapping[Partition, BrokerPartition]
    until: float | None
    unasked: list[str] = field(default_factory=list)

    def messages(self, partition: Partition, wanted: Sequence[OffsetRange]) -> Mapping[int, datetime]:
        """As of the broker; nothing where it was not asked, and where time was up, what it had given by then."""
        if self.broker is None or not wanted:
            return {}
        found, complete = self.broker.messages(partition, wanted, self.until)
        if not complete:
            self.unasked.append(
                f"{partition}: there was no time to ask the broker for all of {len(wanted):,} ranges of offsets, from "
                f"{wanted[0].first} to {wanted[-1].last}, so whether more messages of them are missing is not known. "
                f"`k2 verify --offsets {self.table.name}` takes the time that it takes."
            )
        return found


def _gaps(tiers: Tiers, questions: _Questions) -> Iterator[OffsetFinding]:
    delivered: dict[Partition, list[Delivered]] = {}
    for topic, number, first, last, micros in tiers.clickhouse.execute(offset_queries.delivered(questions.table)):
        found = Delivered(OffsetRange(first, last), from_micros(micros))
        delivered.setdefault(Partition(topic, number), []).append(found)
    for partition, parts in delivered.items():
        gaps, known = list(interior_gaps(parts)), questions.known.get(partition)
        wanted = [there for gap in gaps if known is not None and (there := within(gap, known)) is not None]
        held = sorted(questions.messages(partition, wanted))
        for gap in gaps:
            of_gap = held[bisect_left(held, gap.first) : bisect_right(held, gap.last)]
            for offsets, kind in judge_gap(gap, known, of_gap):
                yield OffsetFinding(partition, offsets, kind)


def _unread(
    questions: _Questions,
    last: dict[Partition, int],
    seen: Mapping[Partition, SeenEnd],
    since: datetime,
    kept_since: datetime,
    before: datetime,
) -> Iterator[OffsetFinding]:
    for partition, held in questions.known.items():
        rest = unread(last.get(partition), held)
        if rest is not None:
            late = overdue(seen.get(partition), last.get(partition), held, kept_since, before)
            for offsets in ranges(due(questions.messages(partition, [rest]), since, before, late)):
                yield OffsetFinding(partition, offsets, OffsetKind.MISSING)


def _not_in_bronze(
    tiers: Tiers, table: TableSpec, since: datetime, now: datetime
) -> tuple[list[OffsetFinding], tuple[Window, ...]]:
    """What bronze lacks, and where it was not looked for."""
    removed = _removed(tiers, table, since, now)
    while True:
        missing = offset_queries.without_rows(table, table.source, since, now - _ON_ITS_WAY, left_out=removed)
        found = list(_found(OffsetKind.NOT_IN_BRONZE, tiers.clickhouse.execute(missing)))
        before, removed = removed, _removed(tiers, table, since, now)
        if not found or removed == before:  # otherwise a day may have been moved away while ClickHouse looked
            return found, before


def _removed(tiers: Tiers, table: TableSpec, since: datetime, now: datetime) -> tuple[Window, ...]:
    """Days of proven retention that bronze does not hold any more, in the time that is looked at."""
    gone = read_kept(tiers, table).gone
    days = [Window(day_window(first).low, day_window(last).high + table.longest_interval) for first, last in gone]
    return intersect(days, Window(since, now))


def _not_cold(
    tiers: Tiers, table: TableSpec, since: datetime, now: datetime
) -> tuple[list[OffsetFinding], list[str], tuple[Window, ...]]:
    """What the cold table lacks, why it was not compared, and where it was not."""
    try:
        cold = tiers.load_cold(table)
        if cold is None or cold.published is None:
            return [], [], ()
        if tiers.cold_reader == WORKER:
            return (
                [],
                [
                    "Iceberg was not compared: only ClickHouse can do it, and [k2_offload] cold_reader is worker. "
                    f"`k2 verify {table.name}` compares rows."
                ],
                (),
            )
        reader = iceberg_table(cold.location, cold.metadata_location, tiers.lake_collection)
        watermark = watermark_of(cold.published)
        gaps = tiers.ledger.read_gaps().get(table.name, ())
        left_out = not_looked_for(gaps, cold.skips)
        if since < watermark:
            left_out = intersect(left_out, Window(since, watermark))
        missing = offset_queries.without_rows(table, reader, since, now - HEALED_WITHIN, watermark, left_out)
        return list(_found(OffsetKind.NOT_COLD, tiers.clickhouse.execute(missing))), [], left_out
    except OffloadError as error:
        return [], [f"Iceberg was not compared: {error}"], ()


def _found(kind: OffsetKind, rows: Iterable[tuple[Any, ...]]) -> Iterator[OffsetFinding]:
    for topic, number, first, last in rows:
        yield OffsetFinding(Partition(topic, int(number)), OffsetRange(int(first), int(last)), kind)
