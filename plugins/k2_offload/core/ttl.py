"""How long rows that have not been moved are safe from the source's TTL."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum

from k2_offload.core.day_comparison import TTL_MARGIN

WARNED_BELOW = timedelta(days=1)
URGENT_BELOW = timedelta(hours=1)

_TTL = re.compile(r"\sTTL\s")
_SETTINGS = re.compile(r"\sSETTINGS\s")
_QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|`(?:[^`\\]|\\.)*`")
_MOVES = re.compile(r"\s(?:TO\s+(?:DISK|VOLUME)|RECOMPRESS)\s")
_CONDITION = re.compile(r"\s(?:DELETE\s+)?WHERE\s|\sDELETE$")
_GROUPS = re.compile(r"\sGROUP\s+BY\s")


@dataclass(frozen=True)
class Removal:
    """One rule of a TTL that removes rows, or values of them.

    :param expires_sql: the time at which a row may go
    :param condition_sql: of which rows; ``None``: of all
    """

    expires_sql: str
    condition_sql: str | None = None


def removals(engine: str) -> list[Removal] | None:
    """The rules of a table's TTL that remove rows; what only moves or compresses parts is left out.

    :param engine: the table's ``engine_full`` in ClickHouse's ``system.tables``
    :returns: ``None`` if they cannot be told (rows that a TTL groups are changed, not only removed)
    """
    masked = _QUOTED.sub(lambda quoted: "_" * len(quoted[0]), engine)
    begins = _TTL.search(masked)
    if begins is None:
        return []
    ends = _SETTINGS.search(masked, begins.end())
    end = ends.start() if ends else len(engine)
    if _GROUPS.search(masked, begins.end(), end):
        return None
    return [
        _removal(engine[low:high], masked[low:high])
        for low, high in _parts(masked, begins.end(), end)
        if not _MOVES.search(masked[low:high])
    ]


def _removal(text: str, masked: str) -> Removal:
    found = _CONDITION.search(masked)
    if found is None:
        return Removal(text.strip())
    return Removal(text[: found.start()].strip(), text[found.end() :].strip() or None)


def _parts(masked: str, begin: int, end: int) -> Iterator[tuple[int, int]]:
    """Where the parts between commas begin and end; a comma within brackets is none."""
    depth, low = 0, begin
    for position in range(begin, end):
        letter = masked[position]
        depth += (letter in "([{") - (letter in ")]}")
        if letter == "," and depth == 0:
            yield low, position
            low = position + 1
    yield low, end


@dataclass(frozen=True)
class Storage:
    """The ClickHouse table that holds a source's rows.

    :param name: ``database.table``
    :param removals: what removes them; empty: nothing does
    """

    name: str
    removals: tuple[Removal, ...] = ()


class Urgency(IntEnum):
    """How near the end of rows is that have not been moved."""

    NONE = 0
    WARNING = 1
    URGENT = 2


@dataclass(frozen=True)
class TimeLeft:
    """When the TTL may remove the first row that has not been moved.

    :param oldest: that row's timestamp
    :param expires_at: from then on it may go
    :param storage: whose TTL that is; ``None``: the TTL is not known, and the table file was believed
    """

    oldest: datetime
    expires_at: datetime
    storage: str | None

    def left(self, now: datetime) -> timedelta:
        """How long that is from now; negative if it has passed."""
        return self.expires_at - now

    def urgency(self, now: datetime) -> Urgency:
        """A warning below a day, urgent below an hour; where rows are not kept that long, below half of their time."""
        left, half = self.left(now), (self.expires_at - self.oldest) / 2
        if left < min(URGENT_BELOW, half):
            return Urgency.URGENT
        return Urgency.WARNING if left < min(WARNED_BELOW, half) else Urgency.NONE

    def describe(self, now: datetime) -> str:
        """How much time is left, and what holds the TTL."""
        hours, rest = divmod(max(self.left(now), timedelta(0)), timedelta(hours=1))
        left = f"{hours} h {rest // timedelta(minutes=1):02} min left" if hours or rest else "no time left"
        whose = f"the TTL of {self.storage}"
        if self.storage is None:
            whose = "the TTL, which is not known, so that warm_retention_days in the table file was believed,"
        merges = f"TTL MERGES {self.storage or ''}".rstrip()
        return (
            f"{left} until {whose} lets ClickHouse remove rows that have not been moved. `SYSTEM STOP {merges}` holds "
            f"it; once they have been moved, `SYSTEM START {merges}` lets it go."
        )


def is_kept_too_short(promised: timedelta, real: timedelta | None) -> bool:
    """Whether rows are kept for a shorter time than the table file says, by more than comparisons leave room for.

    :param real: how long the TTL keeps them; ``None``: for ever, or not known
    """
    return real is not None and real < promised - TTL_MARGIN / 2
