"""Numbers, sizes and times as people read them, on a screen and on a page alike."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta

UNKNOWN = "\N{EN DASH}"

_USERINFO = re.compile(r"""(?<=://)[^\s/'"]+@""")
_QUERY = re.compile(r"""(?<=\S)\?\w[^\s'"<>()]*""")


def show_number(value: int | None) -> str:
    """With thousands separated; a dash for what is not known."""
    return UNKNOWN if value is None else f"{value:,}"


def show_bytes(value: int | None) -> str:
    """In KiB or MiB; a dash for what is not known."""
    if value is None:
        return UNKNOWN
    return f"{value / 2**10:,.0f} KiB" if value < 2**20 else f"{value / 2**20:,.1f} MiB"


def show_seconds(value: float | None) -> str:
    """To a tenth; a dash for what is not known."""
    return UNKNOWN if value is None else f"{value:,.1f}"


def show_time(instant: datetime | None) -> str:
    """UTC to the second; a dash for what is not known."""
    return UNKNOWN if instant is None else f"{instant:%Y-%m-%d %H:%M:%S}"


def show_window(low: datetime | None, high: datetime | None) -> str:
    """Half-open, UTC to the second; the day of its end is not repeated if both bounds share it."""
    if low is None or high is None:
        return UNKNOWN
    end = f"{high:%H:%M:%S}" if low.date() == high.date() else show_time(high)
    return f"{show_time(low)} to {end}"


def show_days(days: Sequence[date]) -> str:
    """The first and the last of some days, once if they are one.

    :param days: one at least, in their order
    """
    return str(days[0]) if days[0] == days[-1] else f"{days[0]} to {days[-1]}"


def without_secrets(words: str) -> str:
    """Somebody else's words, with what may be a password or a token in their URLs taken out: user and query."""
    return _QUERY.sub("?…", _USERINFO.sub("…@", words))


def first_words(error: Exception) -> str:
    """The first line of what an exception says, without secrets; empty if it says nothing."""
    return without_secrets(next(iter(str(error).strip().splitlines()), ""))


def first_line(error: Exception) -> str:
    """What an exception that nobody has foreseen is and says, without secrets: for who has no log to look at."""
    return f"{type(error).__name__}: {first_words(error)}".rstrip(": ")


def show_duration(duration: timedelta | None) -> str:
    """In its two largest units; a dash for what is not known.

    A negative one is no time: what has begun after a look has taken its own.
    """
    if duration is None:
        return UNKNOWN
    minutes, seconds = divmod(max(0, round(duration.total_seconds())), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days:,} d {hours:02} h"
    if hours:
        return f"{hours} h {minutes:02} min"
    return f"{minutes} min {seconds:02} s" if minutes else f"{seconds} s"
