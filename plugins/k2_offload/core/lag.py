"""How far a cold table is behind its source."""

from __future__ import annotations

from datetime import datetime, timedelta

from k2_offload.core.windows import TICK


def lag(watermark: datetime | None, newest_row: datetime | None) -> timedelta | None:
    """From the watermark to just after the source's newest row: the time that is in the warm tier only.

    Measured against the newest row and not against the clock, so that a quiet market is no lag.

    :param watermark: every row below it is in the cold table; ``None`` before the first window
    :param newest_row: newest timestamp of the source that is not in the future (a candle still open is), ``None`` if
        there is no such row
    :returns: zero when nothing waits, never less; ``None`` when rows wait and none has ever been moved
    """
    if newest_row is None:
        return timedelta(0)
    if watermark is None:
        return None
    return max(newest_row + TICK - watermark, timedelta(0))
