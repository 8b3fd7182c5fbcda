"""Rows that arrived too late to be in any window."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date


def late_rows(warm: Mapping[date, int], cold: Mapping[date, int], since: date) -> dict[date, int]:
    """Rows below the watermark that the warm tier holds and the cold tier does not, by day; only days with any.

    Each day counts for itself: a day on which the cold tier holds more (the TTL or a person has deleted rows from the
    warm one) hides nothing of the others. Within one day it does, so this is the least there can be; comparing the
    contents says more.

    :param warm: rows below the watermark in the source, by partition day
    :param cold: rows in the cold table, by partition day
    :param since: the first day that the warm tier still holds as a whole; earlier ones are left out
    """
    missing = {day: rows - cold.get(day, 0) for day, rows in sorted(warm.items()) if day >= since}
    return {day: rows for day, rows in missing.items() if rows > 0}
