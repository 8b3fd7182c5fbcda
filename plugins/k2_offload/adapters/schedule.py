"""When cycles begin: a cron expression, because all layers must have runs of the same times."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise

_INTERVAL = re.compile(r"(\d+) ?(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_FIELDS = 5
_LOOKED_AT = 200
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)

FORMS = (
    "a cron expression of five fields, as */5 * * * *, or an interval of whole minutes that divides an hour, or of "
    "whole hours that divides a day, as 60s, 5m or 1h"
)


def read_schedule(text: str) -> str:
    """A cron expression of five fields.

    An interval as Airflow knows it would give each layer runs of times of its own, which no other layer has.

    :param text: a cron expression, or an interval
    :raises ValueError: if it is neither
    """
    if found := _INTERVAL.fullmatch(text.strip()):
        return _cron_of(int(found[1]) * _SECONDS[found[2]])
    from croniter import croniter  # type: ignore[import-untyped]  # noqa: PLC0415 - Airflow's own

    if len(text.split()) != _FIELDS or not croniter.is_valid(text):
        raise ValueError(text)
    croniter(text, _SOME_DAY).get_next()  # raises for a day that never comes
    return text.strip()


def _cron_of(seconds: int) -> str:
    minutes, rest = divmod(seconds, 60)
    if minutes and not rest and 60 % minutes == 0:
        return f"*/{minutes} * * * *" if minutes < 60 else "0 * * * *"  # noqa: PLR2004 - of an hour
    hours, rest = divmod(minutes, 60)
    if hours and not rest and 24 % hours == 0:
        return f"0 */{hours} * * *" if hours < 24 else "0 0 * * *"  # noqa: PLR2004 - of a day
    raise ValueError(seconds)


def shortest_pause(cron: str) -> timedelta:
    """The least time between the beginnings of two cycles, of the first two hundred of some year."""
    from croniter import croniter  # noqa: PLC0415

    times = croniter(cron, _SOME_DAY)
    begins: list[datetime] = [times.get_next(datetime) for _ in range(_LOOKED_AT)]
    return min(later - earlier for earlier, later in pairwise(begins))
