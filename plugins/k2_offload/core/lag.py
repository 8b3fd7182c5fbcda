"""How far a cold table is behind, and whether its source still sends anything."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from k2_offload.core.windows import TICK

LAG_TARGET = timedelta(minutes=25)
"""How old a row may be that is not in the cold table yet: it comes right after a window ends (``buffer_seconds``, five
minutes by default), waits a quarter of an hour for the next cycle, and that takes up to five minutes."""

USUAL_PAUSE = timedelta(minutes=15)
"""Between the beginnings of two cycles, where no schedule is set."""

USUAL_BUFFER = timedelta(minutes=5)
"""``buffer_seconds`` where the table file says nothing."""


def later_by(buffer: timedelta, pause: timedelta = USUAL_PAUSE) -> timedelta:
    """How much longer than usual a row may wait, never less: alerts have no less either.

    :param buffer: of its table
    :param pause: the longest one between two cycles
    """
    return max(timedelta(0), buffer - USUAL_BUFFER) + max(timedelta(0), pause - USUAL_PAUSE)


def lag_target(buffer: timedelta, pause: timedelta = USUAL_PAUSE) -> timedelta:
    """:data:`LAG_TARGET`, where buffer and pause are other ones."""
    return LAG_TARGET + later_by(buffer, pause)


def lag(oldest_waiting: datetime | None, now: datetime) -> timedelta:
    """How old the oldest row is that is not in the cold table yet.

    It grows with the clock while a row waits, whether the source goes on sending or not.

    :param oldest_waiting: the lowest timestamp in the source at or above the watermark and not in the future; ``None``
        if there is none
    :returns: zero when nothing waits, never less
    """
    return timedelta(0) if oldest_waiting is None else max(now - oldest_waiting, timedelta(0))


@dataclass(frozen=True)
class Silence:
    """A source that sends nothing any more.

    :param since: timestamp of its last row; ``None`` if no row of it was ever seen
    """

    since: datetime | None

    def longer_than(self, limit: timedelta, now: datetime) -> bool:
        """Whether it lasts longer; one that never sent anything has always been silent."""
        return self.since is None or now - self.since > limit


def silence(
    newest_row: datetime | None, watermark: datetime | None, now: datetime, idle_after: timedelta
) -> Silence | None:
    """Whether the source has been silent for longer than ``idle_after``.

    :param newest_row: newest timestamp in the source, that of a candle still open included; ``None`` while it is empty
    :param watermark: right after the last row that was moved, where the TTL has emptied the source; ``None`` before the
        first window
    """
    since = newest_row if newest_row is not None or watermark is None else watermark - TICK
    found = Silence(since)
    return found if found.longer_than(idle_after, now) else None
