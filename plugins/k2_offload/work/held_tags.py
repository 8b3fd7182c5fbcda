"""Tags that keep the verified snapshots of cold tables while rows of ClickHouse are held."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import date
from functools import partial

from k2_offload.core.errors import StaleWindow
from k2_offload.core.holding import Record
from k2_offload.core.retention import TAG_PREFIX
from k2_offload.core.tables import TableSpec
from k2_offload.work.tiers import Tiers

ATTEMPTS = 5
"""To change the tags of one cold table, while others commit to it."""


def hold(tiers: Tiers, table: TableSpec, days: list[date], snapshot_id: int) -> None:
    """Let no expiry forget the snapshot in which some days of a table were verified.

    :raises StaleWindow: if others commit to the cold table time and again
    """
    _try_often(partial(tiers.catalog.tags(table).hold, {_tag_of(day): snapshot_id for day in days}))


def release(tiers: Tiers, record: Record) -> list[str]:
    """Remove the tags that were set for a partition.

    :returns: a sentence for each table whose tags stay, as it is not in the table file any more
    :raises StaleWindow: if others commit to a cold table time and again
    """
    problems = []
    for name, days in record.seals.items():
        tags = [_tag_of(day) for day in days]
        if name in tiers.tables.by_name:
            _try_often(partial(tiers.catalog.tags(tiers.tables[name]).release, tags))
        elif tags:
            problems.append(
                f"{name}: it is not in the table file any more, so its cold table keeps these tags, and no expiry "
                f"forgets their snapshots: {', '.join(tags)}. No row is lost. Remove them there."
            )
    return problems


def days_held(tiers: Tiers, table: TableSpec) -> list[date]:
    """The days of which a tag says that ClickHouse's rows of them are held."""
    days = []
    for name in tiers.catalog.tags(table).names():
        if name.startswith(TAG_PREFIX):
            with suppress(ValueError):  # a person's own
                days.append(date.fromisoformat(name.removeprefix(TAG_PREFIX)))
    return days


def _try_often(change: Callable[[], None]) -> None:
    for _ in range(ATTEMPTS - 1):
        with suppress(StaleWindow):
            return change()
    return change()


def _tag_of(day: date) -> str:
    return f"{TAG_PREFIX}{day.isoformat()}"
