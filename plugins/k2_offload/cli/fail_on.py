"""``k2 status --fail-on``: what of a table's status is a reason to fail, and the sentences that say it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime

from k2_offload.core.conditions import Condition, Name
from k2_offload.core.errors import InvalidCondition
from k2_offload.core.gaps import count_missed
from k2_offload.core.needs import DIFFERENCES, MESSAGES, SEALS, find_needs
from k2_offload.core.observation import Records
from k2_offload.core.text import show_duration
from k2_offload.work.notes import show_failure, show_overdue, show_refusal, show_silence
from k2_offload.work.status import TableStatus


def check_known(conditions: Sequence[Condition], counts: bool) -> None:
    """What was not counted cannot be judged.

    :raises InvalidCondition: if late rows are to be judged and not to be counted
    """
    if not counts and any(condition.name is Name.LATE for condition in conditions):
        raise InvalidCondition("--fail-on: late rows are not known with --no-counts.")


def find_reasons(
    line: TableStatus, records: Records, conditions: Sequence[Condition], now: datetime
) -> Iterator[tuple[Condition, str]]:
    """The conditions that hold for a table, and how. What is not known is as bad.

    :param line: of a table that could be looked at
    :param records: of the same
    """
    needs = {need.check: need for need in find_needs(line.table.name, records, now)}
    for condition in conditions:
        if condition.name in _CHECKS:
            need = needs.get(_CHECKS[condition.name])
            reason = need.sentence if need is not None and _counts(condition, records, now) else None
        else:
            reason = _REASONS[condition.name](line, condition, now)
        if reason:
            yield condition, f"{line.table.name}: {reason}"


def _counts(condition: Condition, records: Records, now: datetime) -> bool:
    """Whether what was found is enough for the condition."""
    if condition.name is not Name.DIFFER:
        return True
    since = records.comparisons.differs_since if records.comparisons is not None else None
    return since is not None and now - since > condition.duration


def _lag(line: TableStatus, condition: Condition, _: datetime) -> str | None:
    if line.lag is None or line.lag <= condition.duration:
        return None
    return (
        f"lag {show_duration(line.lag)}, more than {show_duration(condition.duration)}. No row is lost as long as "
        f"ClickHouse keeps it ({line.table.warm_retention_text})."
    )


def _idle(line: TableStatus, condition: Condition, now: datetime) -> str | None:
    silent = line.silence is not None and line.silence.longer_than(condition.duration, now)
    return show_silence(line, now) if silent else None


def _late(line: TableStatus, condition: Condition, _: datetime) -> str | None:
    if line.late_rows is None:
        return "how many rows are late is not known: the cold table has files that are not partitioned by day."
    if line.late_rows <= condition.count:
        return None
    return f"{line.late_rows:,} late rows. `k2 verify {line.table.name}` compares both tiers."


def _gaps(line: TableStatus, condition: Condition, _: datetime) -> str | None:
    gaps = count_missed(line.gaps)
    return f"{gaps:,} gaps on record. `k2 status {line.table.name}` lists them." if gaps > condition.count else None


def _ttl(line: TableStatus, condition: Condition, now: datetime) -> str | None:
    return line.expiry.describe(now) if line.expiry and line.expiry.left(now) < condition.duration else None


_CHECKS = {Name.DIFFER: DIFFERENCES, Name.SEALS: SEALS, Name.MESSAGES: MESSAGES}
"""Conditions that are checks of the records."""

_REASONS: dict[Name, Callable[[TableStatus, Condition, datetime], str | None]] = {
    Name.LAG: _lag,
    Name.IDLE: _idle,
    Name.FAILED: lambda line, *_: show_failure(line),
    Name.REFUSED: lambda line, *_: show_refusal(line),
    Name.LATE: _late,
    Name.GAPS: _gaps,
    Name.METADATA: lambda line, *_: show_overdue(line),
    Name.TTL: _ttl,
}
