"""Reads what became of every table on one day: off the chains, the ledger and ClickHouse, never off counters."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import NamedTuple, TypeVar

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.ledger_records import MaintenanceRecord, TableRecord
from k2_offload.core.errors import InvalidCondition, OffloadError
from k2_offload.core.gaps import Gap
from k2_offload.core.lag import USUAL_PAUSE
from k2_offload.core.needs import Finding, find_needs, new_on
from k2_offload.core.report import Chain, ChainSnapshot, DayBounds, DayFigures, LedgerWindow, figures_of
from k2_offload.core.tables import TableSpec
from k2_offload.core.text import UNKNOWN, first_line, show_bytes, show_duration, show_number, show_time
from k2_offload.work.notes import show_failure
from k2_offload.work.records import AllRecords, read_records
from k2_offload.work.status import TableStatus, read_status
from k2_offload.work.tiers import Tiers

log = logging.getLogger(__name__)

Result = TypeVar("Result")

LEDGER_ALONE = (
    "Of {tables}, the snapshots of that day have expired or cannot be read: these figures are the ledger's, and files, "
    "heals, backfills and rewrites are not known."
)


@dataclass(frozen=True)
class TableReport:
    """One table on one day.

    :param figures: ``None`` if the ledger could not be read
    :param status: as it stands when the report is made, with late rows; ``None`` if a service was away
    :param maintenance: the runs of that day, in their order
    :param needs: what of its days, seals, messages and gaps needs somebody
    :param problem: why something is missing
    """

    table: TableSpec
    figures: DayFigures | None
    status: TableStatus | None
    maintenance: Sequence[MaintenanceRecord] = ()
    needs: Sequence[Finding] = ()
    problem: str | None = None

    @property
    def late_rows(self) -> int | None:
        """Rows that ClickHouse holds below the watermark and the cold table does not, now."""
        return self.status.late_rows if self.status is not None else None

    @property
    def is_incomplete(self) -> bool:
        """Whether something is missing, because it could not be read."""
        return self.problem is not None or (self.status is not None and self.status.problem is not None)

    @property
    def findings(self) -> Iterator[str]:
        """What a person should know, one sentence each."""
        if self.problem is not None:
            yield self.problem
        if self.status is not None and self.status.problem not in (None, self.problem):
            yield str(self.status.problem)
        if self.status is not None and (failure := show_failure(self.status)):
            yield f"now {failure}"
        for need in self.needs:
            yield need.sentence
        for done in self.maintenance:
            if done.problem is not None:
                yield f"maintenance: {done.problem}"
        if self.figures is None:
            return
        if self.figures.failures:
            yield f"{self.figures.failures} attempts at windows of that day have failed."
        if self.figures.waiting:
            yield f"A window of before was not published all day: {self.figures.waiting} attempts have failed so far."
        if self.figures.lost_windows:
            yield (
                f"{self.figures.lost_windows} windows that were published on that day are not in the cold table any "
                f"more: it was rolled back. `k2 watermark show {self.table.name}` says where it ends."
            )


@dataclass(frozen=True)
class Report:
    """All tables on one day.

    :param made_at: when it was made; before the end of the day, it is of the day so far
    :param pause: the longest one between the beginnings of two cycles
    """

    bounds: DayBounds
    made_at: datetime
    tables: Sequence[TableReport]
    pause: timedelta = USUAL_PAUSE

    @property
    def day(self) -> date:
        """Which one, in UTC."""
        return self.bounds.day

    @property
    def without_runs(self) -> bool:
        """Whether the day is known to have had no window, heal, backfill or maintenance of any table."""
        return all(
            each.problem is None and each.figures is not None and each.figures.is_idle and not each.maintenance
            for each in self.tables
        )

    @property
    def from_ledger(self) -> list[str]:
        """Tables of which the snapshots of that day have expired, so that the ledger alone speaks."""
        return [each.table.name for each in self.tables if each.figures is not None and not each.figures.from_chain]

    @property
    def incomplete(self) -> list[str]:
        """Tables of which something is missing, because it could not be read."""
        return [each.table.name for each in self.tables if each.is_incomplete]

    @property
    def rows(self) -> int | None:
        """Rows that were moved; ``None`` if that is not known of all tables."""
        known = [each.figures.rows for each in self.tables if each.figures is not None]
        return sum(known) if len(known) == len(self.tables) else None

    @property
    def backfilled_rows(self) -> int:
        """Rows that backfills have brought, as far as that is known."""
        return sum(each.figures.backfilled_rows or 0 for each in self.tables if each.figures is not None)

    @property
    def note(self) -> str:
        """A few lines of Markdown, for the log of who made it."""
        return "\n".join(self._note_lines())

    def _note_lines(self) -> Iterator[str]:
        yield f"{title(self)}. {summary(self)}"
        if self.from_ledger:
            yield LEDGER_ALONE.format(tables=", ".join(self.from_ledger))
        for each in self.tables:
            figures = each.figures
            if figures is not None and (not figures.is_idle or each.late_rows):
                yield (
                    f"- `{each.table.name}`: {show_number(figures.rows)} rows, {len(figures.windows)} windows, "
                    f"{show_bytes(figures.size_bytes)}, {show_number(figures.files)} files; lag p50 "
                    f"{show_duration(figures.lag(0.5))}, p99 {show_duration(figures.lag(0.99))}; "
                    f"{show_number(each.late_rows)} late rows, days healed: {show_number(figures.heals)}, "
                    f"rows backfilled: {show_number(figures.backfilled_rows)}"
                )
            for finding in each.findings:
                yield f"- `{each.table.name}`: {finding}"


def title(report: Report) -> str:
    """Which day it is of, and how much of it."""
    if report.made_at < report.bounds.end:
        return f"Report of {report.day} (UTC), so far, until {show_time(report.made_at)}"
    return f"Report of {report.day} (UTC)"


def summary(report: Report) -> str:
    """The day in one sentence."""
    if report.without_runs:
        return "No run moved, healed or tidied anything on that day."
    rows = UNKNOWN if report.rows is None else show_number(report.rows)
    moved = sum(each.figures is not None and bool(each.figures.windows) for each in report.tables)
    backfilled = f", and {show_number(report.backfilled_rows)} backfilled" if report.backfilled_rows else ""
    return f"{rows} rows moved, of {moved} of {len(report.tables)} tables{backfilled}."


def check_day(day: date, now: datetime) -> DayBounds:
    """A day that has begun.

    :raises InvalidCondition: if it has not
    """
    bounds = DayBounds.of(day)
    if bounds.start > now:
        raise InvalidCondition(f"{day} has not begun (UTC): there is nothing to report. `k2 report` is of yesterday.")
    return bounds


def yesterday(now: datetime) -> date:
    """The last whole day, in UTC."""
    return (now.astimezone(UTC) - timedelta(days=1)).date()


def read_report(tiers: Tiers, tables: Sequence[TableSpec], bounds: DayBounds) -> Report:
    """Look at some tables on one day; what cannot be read is missing, with the reason."""
    now = tiers.now()
    ledger, no_ledger = _without(partial(_read_ledger, tiers, bounds))
    found = []
    for table in tables:
        # A service that is down is waited for once for each table; the others say what they know.
        cold, no_cold = _without(partial(tiers.load_cold, table))
        chain, no_chain = _without(partial(_chain, cold)) if cold is not None else (Chain((), whole=True), None)
        chain = None if no_cold else chain
        record = ledger.records.get(table.name) if ledger else None
        gaps = ledger.gaps.get(table.name, ()) if ledger else ()
        look = partial(read_status, tiers, table, record, counts=True, gaps=gaps)
        status, no_status = _without(look)
        problem = no_ledger or no_cold or no_chain or no_status
        if ledger is None:
            found.append(TableReport(table, None, status, problem=problem))
            continue
        missed = status.gaps if status is not None and status.problem is None else None
        needs = find_needs(table.name, new_on(bounds, ledger.checked.of(table, now, missed)), now)
        figures = figures_of(bounds, ledger.windows.get(table.name, ()), chain)
        maintenance = [each for each in ledger.maintenance if each.table == table.name]
        found.append(TableReport(table, figures, status, maintenance, list(needs), problem))
    return Report(bounds, now, found, tiers.pause)


class _Ledger(NamedTuple):
    windows: Mapping[str, Sequence[LedgerWindow]]
    maintenance: Sequence[MaintenanceRecord]
    records: Mapping[str, TableRecord]
    gaps: Mapping[str, Sequence[Gap]]
    checked: AllRecords


def _read_ledger(tiers: Tiers, bounds: DayBounds) -> _Ledger:
    ledger = tiers.ledger
    return _Ledger(*ledger.read_day(bounds), ledger.read_tables(), ledger.read_gaps(), read_records(ledger))


def _chain(cold: ColdTable) -> Chain:
    entries = [each for each in cold.chain.latest() if each.visible]
    return Chain(
        [
            ChainSnapshot(
                each.at,
                str(each.snapshot.window_id) if each.snapshot.window_id else None,
                each.snapshot.window_id.window if each.snapshot.window_id else None,
                each.snapshot.heal is not None,
                each.snapshot.backfill is not None,
                len(each.rewritten_days),
                each.snapshot.rows,
                each.snapshot.rows_after - each.snapshot.rows_before,
                each.files,
                each.snapshot.size_bytes,
            )
            for each in entries
        ],
        whole=not entries or any(each.snapshot.parent_id is None for each in entries),
    )


def _without(read: Callable[[], Result]) -> tuple[Result | None, str | None]:
    """What was read, or why it could not be."""
    try:
        return read(), None
    except OffloadError as error:
        return None, str(error)
    except Exception as error:
        log.exception("unexpected")
        return None, f"An unexpected error: {first_line(error)}. No row is affected."
