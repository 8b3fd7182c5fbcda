"""Looks how long rows are safe from the source's TTL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from k2_offload.core.errors import OffloadError, Overloaded, Refused, Unreachable
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.lag import lag
from k2_offload.core.tables import TableSpec
from k2_offload.core.ttl import URGENT_BELOW, Storage, TimeLeft
from k2_offload.work.tiers import Tiers

log = logging.getLogger(__name__)

_SHORTEST_MONTH = datetime(2026, 2, 1, 23, 59, 59, tzinfo=UTC)
"""A row of this time is kept no longer than any other, in months or until a midnight."""


def read_time_left(tiers: Tiers, table: TableSpec, oldest: datetime | None) -> TimeLeft | None:
    """When the TTL may remove the first row that has not been moved.

    :param oldest: that row's timestamp
    :returns: ``None`` if there is no such row, or nothing removes it
    :raises Unreachable: if ClickHouse is down; what else keeps the TTL from being known, the log says
    """
    if oldest is None:
        return None
    try:
        storage = tiers.clickhouse.storage(table)
        if storage is not None:
            times = [tiers.clickhouse.first_expiry(table, storage, oldest)] if storage.removals else []
            for rule in _rules_of_columns(tiers, table, storage.name):
                with _what_is_known(table):
                    times.append(tiers.clickhouse.first_expiry(table, rule, oldest))
            expires_at = min(filter(None, times), default=None)
            return None if expires_at is None else TimeLeft(oldest, expires_at, storage.name)
    except Unreachable:
        raise
    except OffloadError as error:
        log.info("%s: the TTL of its rows cannot be known: %s", table.name, error)
    return TimeLeft(oldest, oldest + table.warm_retention, None)


def look_at_ttl(tiers: Tiers, table: TableSpec, watermark: datetime, now: datetime) -> TimeLeft | None:
    """When the TTL may remove the first row at or above a watermark, asked only if such a row may be old.

    :returns: ``None`` if there is no such row, nothing removes it, or it is younger than an hour
    :raises Unreachable: if ClickHouse is down
    """
    if now - watermark < URGENT_BELOW:
        return None
    try:
        oldest = tiers.clickhouse.oldest_row(table, watermark, before=now)
    except Unreachable:
        raise
    except OffloadError as error:
        log.info("%s: its oldest row cannot be known: %s", table.name, error)
        return _assumed(table, watermark)
    return None if oldest is None or now - oldest < URGENT_BELOW else read_time_left(tiers, table, oldest)


def read_waiting(
    tiers: Tiers, table: TableSpec, watermark: datetime | None, now: datetime
) -> tuple[timedelta | None, TimeLeft | None]:
    """The lag of a table that cannot be looked at as a whole, and when the TTL may remove what waits.

    Where ClickHouse cannot say which row waits, one right at the watermark is assumed.

    :param watermark: as far as the chain or the ledger knows it; ``None``: nothing can be said
    :raises Unreachable: if ClickHouse is down
    """
    if watermark is None:
        return None, None
    try:
        oldest = tiers.clickhouse.oldest_row(table, watermark, before=now)
        return lag(oldest, now), read_time_left(tiers, table, oldest)
    except Unreachable:
        raise
    except OffloadError as error:
        log.info("%s: its oldest row cannot be known: %s", table.name, error)
    expiry = _assumed(table, watermark)
    return None if expiry is None else lag(watermark, now), expiry


def _assumed(table: TableSpec, watermark: datetime) -> TimeLeft | None:
    return TimeLeft(watermark, watermark + table.warm_retention, None) if watermark > FIRST_WATERMARK else None


def read_kept_for(tiers: Tiers, table: TableSpec) -> tuple[str | None, timedelta | None]:
    """Which table holds a source's rows, and how long its TTL keeps one, and all values in it.

    :returns: ``(None, None)`` if that is not known, and no time if nothing removes any
    :raises Unreachable: if ClickHouse is down
    """
    try:
        storage, kept_for = read_kept_for_now(tiers, table)
    except (Refused, Overloaded) as error:
        log.info("%s: the TTL of its rows cannot be known: %s", table.name, error)
        return None, None
    if storage is None:
        return None, None
    times = [] if kept_for is None else [kept_for]
    for rule in _rules_of_columns(tiers, table, storage):
        with _what_is_known(table):  # it may go by another time
            times.append(tiers.clickhouse.kept_for(table, rule, _SHORTEST_MONTH))
    return storage, min(times, default=None)


def _rules_of_columns(tiers: Tiers, table: TableSpec, storage: str) -> list[Storage]:
    """A rule each, of the columns that the source has; none where that cannot be known: their rows stay."""
    with _what_is_known(table):
        if rules := tiers.clickhouse.column_ttls(storage):
            names = {column.name for column in tiers.clickhouse.columns(table)}
            return [Storage(storage, (rule,)) for column, rule in rules.items() if column in names]
    return []


@contextmanager
def _what_is_known(table: TableSpec) -> Iterator[None]:
    try:
        yield
    except Unreachable:
        raise
    except OffloadError as error:
        log.info("%s: the TTL of a column cannot be known: %s", table.name, error)


def read_kept_for_now(tiers: Tiers, table: TableSpec) -> tuple[str | None, timedelta | None]:
    """The same of rows alone, for who would take what is not known for a TTL that has removed them.

    :raises Overloaded, Refused, Unreachable: if ClickHouse does not answer now
    """
    try:
        storage = tiers.clickhouse.storage(table)
        if storage is None:
            return None, None
        if not storage.removals:
            return storage.name, None
        return storage.name, tiers.clickhouse.kept_for(table, storage, _SHORTEST_MONTH)
    except (Unreachable, Refused, Overloaded):
        raise
    except OffloadError as error:
        log.info("%s: the TTL of its rows cannot be known: %s", table.name, error)
        return None, None
