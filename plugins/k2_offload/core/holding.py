"""What is on record of a storage's partitions that are moved away, held, or gone.

It stands in the comment of the holding table: why nothing is forgotten that is not proven, see :mod:`retention`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum
from itertools import chain
from typing import Any

from k2_offload.core.day_comparison import first_whole_day
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import show_days

DayRange = tuple[date, date]
"""From a first day to a last one, inclusive."""

_VERSION = 1


class Step(StrEnum):
    """What a run does with a partition."""

    MOVING = "moving"
    HELD = "held"
    DROPPING = "dropping"
    RESTORING = "restoring"


@dataclass(frozen=True)
class Partition:
    """One partition of a storage.

    :param parts: digests of the files of its parts, sorted; parts without rows are left out
    :param days: by partition column of a table that reads it: the days that its rows are of
    """

    partition_id: str
    parts: tuple[str, ...]
    rows: int
    days: Mapping[str, DayRange]

    @property
    def text(self) -> str:
        """Its days, for a sentence."""
        return _show_ranges(self.days)


@dataclass(frozen=True)
class Parts:
    """What a table has of a partition.

    :param digests: of the files of its parts, sorted; parts without rows are left out
    :param rows: that are in these files, whether they can be read or not
    """

    digests: tuple[str, ...] = ()
    rows: int = 0


NO_PARTS = Parts()


@dataclass(frozen=True)
class Record:
    """What was, or is, to be done with a partition.

    :param seals: names of the seals that it was compared with, by table and day
    :param at: when this step began; of one that is held, when it was moved
    :param shown: rows that each table showed of it when it was compared
    """

    partition_id: str
    step: Step
    parts: tuple[str, ...]
    rows: int
    days: Mapping[str, DayRange]
    seals: Mapping[str, Mapping[date, str]]
    at: datetime
    shown: Mapping[str, int] = field(default_factory=dict)

    def covers(self, column: str, day: date) -> bool:
        """Whether a day of a partition column is one of its days."""
        return any(first <= day <= last for first, last in self.days_of(column))

    def days_of(self, column: str) -> list[DayRange]:
        """Its days by a partition column; if that was none when it was moved, by all that were."""
        return _days({name: (days,) for name, days in self.days.items()}, column)

    def how_to_restore(self, table: TableSpec) -> str:
        """The command that brings it back.

        :param table: one that reads its storage
        """
        first = min((first for first, _ in self.days_of(table.partition_column)), default="DAY")
        return f"`k2 retention {table.name} --restore {first}`"

    @property
    def text(self) -> str:
        """Its days, for a sentence."""
        return _show_ranges(self.days)


@dataclass(frozen=True)
class Kept:
    """Which days a storage holds as a whole, however old they are.

    :param whole_since: nothing but a proven removal has taken rows of days from this one on; ``None`` while a TTL may
    :param gone: days that were removed, or are held
    :param kept_for: how long a far TTL keeps rows, see :class:`Holding`; ``None`` if there is none
    """

    whole_since: date | None = None
    gone: tuple[DayRange, ...] = ()
    kept_for: timedelta | None = None

    def holds(self, day: date, whole_from: date) -> bool:
        """Whether the storage holds a day as a whole.

        :param whole_from: the first day that it holds as far as the clock tells
        """
        return day >= self.first(whole_from) and not self.is_gone(day)

    def first(self, whole_from: date) -> date:
        """From which day on the storage holds all days as a whole that are not gone.

        :param whole_from: as the clock tells
        """
        return whole_from if self.whole_since is None else min(whole_from, self.whole_since)

    def all_from(self, whole_from: date) -> date:
        """From which day on the storage holds all days as a whole.

        :param whole_from: as the clock tells
        """
        return max([self.first(whole_from), *(last + timedelta(days=1) for _, last in self.gone)])

    def is_gone(self, day: date) -> bool:
        """Whether a day was removed, or is held."""
        return any(first <= day <= last for first, last in self.gone)


@dataclass(frozen=True)
class Holding:
    """What the comment of a holding table says.

    :param storage: whose partitions it holds
    :param whole_since: see :class:`Kept`; ``None`` while a TTL may remove rows
    :param gone: days of partitions that were dropped, by partition column
    :param kept_for: how long the storage's TTL kept rows at the last looks; ``None`` if it removed none
    """

    storage: str
    whole_since: date | None
    records: tuple[Record, ...] = ()
    gone: Mapping[str, tuple[DayRange, ...]] = field(default_factory=dict)
    kept_for: timedelta | None = None

    def with_whole(self, now: datetime, kept_for: timedelta | None) -> Holding:
        """Without those days whole that a far TTL may have taken in an outage, the one of now or of the last looks.

        :param now: the later of both clocks
        :param kept_for: how long the TTL of now keeps rows; ``None`` if it removes none
        :returns: with the shorter of both times
        """
        shortest = min((each for each in (self.kept_for, kept_for) if each is not None), default=None)
        if shortest is None or self.whole_since is None:
            return replace(self, kept_for=shortest)
        since = max(self.whole_since, first_whole_day(now, shortest))
        return replace(self, whole_since=since, kept_for=shortest)

    def with_record(self, record: Record) -> Holding:
        """With a record in the place of what was on record of its partition."""
        others = self.without(record.partition_id).records
        return replace(self, records=(*others, record))

    def without(self, partition_id: str) -> Holding:
        """Without the record of a partition."""
        return replace(self, records=tuple(each for each in self.records if each.partition_id != partition_id))

    def with_gone(self, record: Record) -> Holding:
        """With the days of a partition gone, and no record of it."""
        removed = {column: (days,) for column, days in record.days.items()}
        gone = {
            column: merge_days([*_days(self.gone, column), *_days(removed, column)])
            for column in {*self.gone, *removed}
        }
        return replace(self.without(record.partition_id), gone=gone)

    def kept(self, column: str) -> Kept:
        """What the storage holds as a whole, by days of a partition column.

        Of one that was no partition column then, all days count that other columns had.
        """
        held = chain.from_iterable(record.days_of(column) for record in self.records)
        gone = merge_days([*_days(self.gone, column), *held])
        return Kept(self.whole_since, gone, self.kept_for)

    @property
    def text(self) -> str:
        """As it is stored."""
        return json.dumps(
            {
                "k2_holding": _VERSION,
                "of": self.storage,
                "whole_since": self.whole_since and self.whole_since.isoformat(),
                "records": [_stored(record) for record in self.records],
                "gone": {column: _ranges(ranges) for column, ranges in sorted(self.gone.items())},
                "kept_seconds": self.kept_for and self.kept_for.total_seconds(),
            },
            separators=(",", ":"),
        )

    @staticmethod
    def read(text: str) -> Holding:
        """The inverse of :attr:`text`.

        :raises ValueError: if it is no such text
        """
        try:
            stored: dict[str, Any] = json.loads(text)
            if stored["k2_holding"] != _VERSION:
                raise ValueError(f"version {stored['k2_holding']}")
            since, seconds = stored["whole_since"], stored["kept_seconds"]
            return Holding(
                stored["of"],
                date.fromisoformat(since) if since else None,
                tuple(map(_read_record, stored["records"])),
                {column: tuple(map(_read_range, ranges)) for column, ranges in stored["gone"].items()},
                timedelta(seconds=seconds) if seconds else None,
            )
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            raise ValueError(repr(error)) from None


def _days(by_column: Mapping[str, Sequence[DayRange]], column: str) -> list[DayRange]:
    return list(by_column[column] if column in by_column else chain.from_iterable(by_column.values()))


def _stored(record: Record) -> dict[str, Any]:
    return {
        "id": record.partition_id,
        "step": record.step.value,
        "parts": list(record.parts),
        "rows": record.rows,
        "days": dict(zip(record.days, _ranges(record.days.values()), strict=True)),
        "seals": {table: {str(day): seal for day, seal in days.items()} for table, days in record.seals.items()},
        "at": record.at.isoformat(),
        "shown": dict(record.shown),
    }


def _read_record(stored: Mapping[str, Any]) -> Record:
    return Record(
        stored["id"],
        Step(stored["step"]),
        tuple(stored["parts"]),
        stored["rows"],
        {column: _read_range(days) for column, days in stored["days"].items()},
        {
            table: {date.fromisoformat(day): seal for day, seal in days.items()}
            for table, days in stored["seals"].items()
        },
        datetime.fromisoformat(stored["at"]).astimezone(UTC),
        stored.get("shown", {}),
    )


def _show_ranges(days: Mapping[str, DayRange]) -> str:
    return ", ".join(map(show_days, sorted(set(days.values()))))


def _ranges(ranges: Iterable[DayRange]) -> list[list[str]]:
    return [[first.isoformat(), last.isoformat()] for first, last in ranges]


def _read_range(stored: Sequence[str]) -> DayRange:
    return date.fromisoformat(stored[0]), date.fromisoformat(stored[1])


def merge_days(ranges: Iterable[DayRange]) -> tuple[DayRange, ...]:
    """The same days in as few ranges as possible, in order."""
    merged: list[DayRange] = []
    for first, last in sorted(ranges):
        if merged and first <= merged[-1][1] + timedelta(days=1):
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def days_of(ranged: DayRange) -> list[date]:
    """Each day of a range."""
    return [ranged[0] + timedelta(days=n) for n in range((ranged[1] - ranged[0]).days + 1)]
