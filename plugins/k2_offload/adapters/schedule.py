"""When cycles begin: a cron expression, because all layers must have runs of the same times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache

_INTERVAL = re.compile(r"(\d+) ?(s|m|h)")
_SECONDS = {"s": 1, "m": 60, "h": 3600}
_FIELDS = 5
_LOOKED_AT = 200
_FEW, _WEEKS = 12, timedelta(days=9)
_SOME_DAY = datetime(2026, 1, 1, tzinfo=UTC)

MANY = 3

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
    return min(_pauses(cron, _LOOKED_AT, timedelta(0)))


def missed_cycles(cron: str, since: datetime, now: datetime) -> int:
    """How many cycles should have begun in ``(since, now]``; :data:`MANY` stands for that and more."""
    from croniter import croniter  # noqa: PLC0415

    times, missed = croniter(cron, since), 0
    while missed < MANY and times.get_next(datetime) <= now:
        missed += 1
    return missed


@cache
def longest_pause(cron: str) -> timedelta:
    """The most time between the beginnings of two cycles, of the first weeks of some year: nights, and days off."""
    return max(_pauses(cron, _FEW, _WEEKS))


def _pauses(cron: str, least: int, span: timedelta) -> Iterator[timedelta]:
    """Those between the first cycles of some year: so many at least, and all of a span."""
    from croniter import croniter  # noqa: PLC0415

    times = croniter(cron, _SOME_DAY)
    earlier: datetime = times.get_next(datetime)
    number = 0
    while number < least or earlier < _SOME_DAY + span:
        later: datetime = times.get_next(datetime)
        yield later - earlier
        earlier, number = later, number + 1
