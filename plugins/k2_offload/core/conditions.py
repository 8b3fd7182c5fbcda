"""What ``k2 status --fail-on`` understands."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from k2_offload.core.errors import InvalidCondition
from k2_offload.core.needs import DIFFERS_FOR


class Name(StrEnum):
    """What is looked at."""

    LAG = "lag"
    IDLE = "idle"
    FAILED = "failed"
    REFUSED = "refused"
    LATE = "late"
    DIFFER = "differ"
    SEALS = "seals"
    MESSAGES = "messages"
    GAPS = "gaps"
    METADATA = "metadata"
    TTL = "ttl"


@dataclass(frozen=True)
class Condition:
    """One thing that must not be.

    :param duration: for ``lag``, ``idle`` and ``differ``: what must not be exceeded; for ``ttl``: what must be left
    :param count: for ``late`` and ``gaps``: the same, as a number
    """

    name: Name
    text: str
    duration: timedelta = timedelta(0)
    count: int = 0


FORMS = (
    "lag>TIME, idle or idle>TIME, failed, refused, late or late>N, differ or differ>TIME, seals, messages, gaps or "
    "gaps>N, metadata, ttl<TIME"
)
"""For ``--help`` and for whoever has mistyped one."""

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}
_FORM = re.compile(r"(\w*)(?:([<>])(.*))?", re.ASCII | re.DOTALL)
_DURATION = re.compile(r"(\d{1,8})([smhd])", re.ASCII)
_COUNT = re.compile(r"\d{1,18}", re.ASCII)


def parse_conditions(text: str) -> list[Condition]:
    """Conditions with commas between.

    :raises InvalidCondition: if one of them is none, or none is named
    """
    return [_parse(part.strip()) for part in text.split(",")]


def _parse(text: str) -> Condition:
    found = _FORM.fullmatch(text)
    if found is None or found[1] not in list(Name):
        raise InvalidCondition(f"--fail-on: '{text}' is no condition. There are: {FORMS}.")
    name, sign, limit = Name(found[1]), found[2], found[3]
    right_sign = "<" if name is Name.TTL else ">"
    if limit is None:
        if name in (Name.LAG, Name.TTL):
            example = f"{name}{right_sign}30m"
            raise InvalidCondition(f"--fail-on: {name} needs a limit, and quotes against the shell: '{example}'.")
        return Condition(name, text, duration=DIFFERS_FOR if name is Name.DIFFER else timedelta(0))
    if sign != right_sign:
        raise InvalidCondition(f"--fail-on: '{text}' is no condition. There are: {FORMS}.")
    if name in (Name.LAG, Name.IDLE, Name.DIFFER, Name.TTL):
        if (duration := _DURATION.fullmatch(limit)) is None:
            example = f"{name}{sign}30m"
            raise InvalidCondition(
                f"--fail-on: '{text}': after {sign} comes a number and s, m, h or d, such as {example}."
            )
        return Condition(name, text, duration=timedelta(**{_UNITS[duration[2]]: int(duration[1])}))
    if name in (Name.LATE, Name.GAPS):
        if not _COUNT.fullmatch(limit):
            raise InvalidCondition(f"--fail-on: '{text}': after > comes a number, such as {name}>100.")
        return Condition(name, text, count=int(limit))
    raise InvalidCondition(f"--fail-on: '{text}': {name} has no limit.")
