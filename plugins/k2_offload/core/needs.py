"""What of the ledger's records on a table needs somebody.

There is one answer: the page, ``k2 status``, ``k2 doctor`` and the daily report show it in their ways, and the metrics
count the same things.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from k2_offload.core.day_comparison import is_still_whole
from k2_offload.core.gaps import count_missed
from k2_offload.core.observation import Comparisons, Records
from k2_offload.core.report import DayBounds
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import show_duration

DIFFERS_FOR = timedelta(hours=2)
"""How long a day may differ until a person has to look: one that may be healed is healed within an hour."""

COMPARED_WITHIN = timedelta(hours=4)
"""How old the last comparison may be: of messages, and as the last good run of `k2_reconcile`."""


DIFFERENCES, LEFT_OUT, SEALS, MESSAGES, MISSED = (
    "days that differ", "late rows left out", "seals", "messages", "rows missed",
)  # fmt: skip
"""The checks, as findings call them."""


class State(StrEnum):
    """How bad it is: ``red`` needs somebody, also where nobody can tell."""

    OK = "ok"
    WARNING = "warning"
    RED = "red"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    :param subject: the service, table or DAG; empty for all of them
    :param do: a command, or words
    :param page: of docs/runbooks, with the section; empty where all is well
    """

    check: str
    state: State
    found: str
    subject: str = ""
    do: str = ""
    page: str = ""

    @property
    def sentence(self) -> str:
        """The same in a sentence, for who knows the subject."""
        do = f"`{self.do}`" if self.do.startswith(("k2 ", "airflow ")) else self.do
        return f"{self.check}: {self.found} ({do})."


def as_of(found: Comparisons, table: TableSpec, now: datetime) -> Comparisons:
    """Comparisons with what the warm tier surely holds as a whole by now, of what it did when they were made."""
    retention = None if table.is_proven else table.warm_retention
    days = (replace(each, whole=is_still_whole(each.day, each.whole, now, retention)) for each in found.unequal)
    return replace(found, unequal=tuple(days))


def new_on(day: DayBounds, records: Records) -> Records:
    """Without what stays on record and came there on another day; what may pass is that of now."""
    days, gaps = records.comparisons, records.gaps
    if days is not None:
        days = replace(
            days, unequal=[each for each in days.unequal if each in days.differing or day.has(each.unequal_since)]
        )
    if gaps is not None:
        gaps = [each for each in gaps if day.has(each.accepted_at)]
    return replace(records, comparisons=days, gaps=gaps)


def find_needs(table: str, records: Records, now: datetime) -> Iterator[Finding]:
    """All that needs somebody, or that a person should know, as far as it is known."""
    for judge in JUDGES.values():
        if (found := judge(table, records, now)) is not None:
            yield found


def _differences(table: str, records: Records, now: datetime) -> Finding | None:
    days = records.comparisons
    if days is None or days.differs_since is None:
        return None
    since = now - days.differs_since
    named = ", ".join(str(each.day) for each in days.differing)
    return Finding(
        DIFFERENCES,
        State.RED if since > DIFFERS_FOR else State.WARNING,
        f"{named}, for {show_duration(since)}",
        table,
        f"k2 heal {table} --dry-run",
        "consistency.md#the-tiers-differ",
    )


def _left_out(table: str, records: Records, _: datetime) -> Finding | None:
    if records.comparisons is None or not (rows := records.comparisons.left_out_rows):
        return None
    found, page = f"{rows:,} rows came too late to be healed", "consistency.md#rows-came-too-late"
    return Finding(LEFT_OUT, State.WARNING, found, table, f"k2 status {table}", page)


def _seals(table: str, records: Records, _: datetime) -> Finding | None:
    if records.sealed is None or not records.sealed.broken:
        return None
    found = f"{records.sealed.broken:,} sealed days are not what they were"
    return Finding(SEALS, State.RED, found, table, f"k2 verify --sealed {table}", "consistency.md#a-seal-is-broken")


def _messages(table: str, records: Records, now: datetime) -> Finding | None:
    compared = records.offsets
    if compared is None:
        return None
    if compared.missing:
        found = f"{compared.missing:,} messages are missing"
    elif not compared.passed:
        found = "nobody can tell if some miss"
    elif now - compared.at > COMPARED_WITHIN:
        found = f"offsets were last compared {show_duration(now - compared.at)} ago"
    else:
        return None
    page = "consistency.md#messages-are-missing"
    return Finding(MESSAGES, State.RED, found, table, f"k2 verify --offsets {table}", page)


def _missed(table: str, records: Records, _: datetime) -> Finding | None:
    if not (gaps := count_missed(records.gaps or ())):
        return None
    page = "watermark.md#rows-were-missed"
    return Finding(MISSED, State.WARNING, f"{gaps:,} gaps on record", table, f"k2 status {table}", page)


JUDGES: dict[str, Callable[[str, Records, datetime], Finding | None]] = {
    DIFFERENCES: _differences,
    LEFT_OUT: _left_out,
    SEALS: _seals,
    MESSAGES: _messages,
    MISSED: _missed,
}
"""One for each check; none finds what is not known."""
