"""What is compared of the warm and the cold tier."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from k2_offload.core.windows import Window

TTL_MARGIN = timedelta(hours=1)
"""Rows so close to their end are not compared: clocks differ, and a comparison takes time."""


@dataclass(frozen=True)
class Comparison:
    """Rows and content hash of one table, warm against cold, in one window.

    :param window: what was compared; ``None`` if there is nothing that both tiers must hold
    :param problem: why the two could not be compared; they count as unequal then
    """

    table: str
    window: Window | None
    warm_rows: int = 0
    cold_rows: int = 0
    warm_hash: int = 0
    cold_hash: int = 0
    problem: str | None = None

    @property
    def equal(self) -> bool:
        """Whether both tiers hold the same multiset of whole rows."""
        return self.problem is None and (self.warm_rows, self.warm_hash) == (self.cold_rows, self.cold_hash)


def window_to_compare(watermark: datetime, retention: timedelta, now: datetime) -> Window | None:
    """What both tiers must hold: from where the warm tier's TTL has surely removed nothing up to the watermark.

    The lower bound is the first midnight (UTC) at which a row is still at least :data:`TTL_MARGIN` away from its end;
    older rows may have gone from the warm tier, which is no fault of the cold one. The TTL is taken to count from the
    timestamp column, as a candle's does from the end of its window, even if the partitions follow another column;
    where it counts from an earlier time, shorten ``warm_retention_days``.

    :returns: ``None`` if nothing lies between
    """
    oldest = now - retention + TTL_MARGIN
    midnight = oldest.replace(hour=0, minute=0, second=0, microsecond=0)
    low = midnight if midnight == oldest else midnight + timedelta(days=1)
    return Window(low, watermark) if low < watermark else None
