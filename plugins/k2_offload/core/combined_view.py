"""A view in ClickHouse over both tiers: which rows it takes from which, and why none is missing or there twice.

1. *One boundary.* Rows whose partition column is below a midnight come from the cold table, all others from ClickHouse.
   The boundary stands in the view's text, so a query sees one of them, whatever happens beside it.
2. *One snapshot.* The cold table is read as one metadata file describes it, which is named in the text, too. What is
   committed later (windows, heals, rewrites, a rollback, another table in its place) does not change what the view
   says; a file that is gone is an error.
3. *Below the boundary, cold is complete*: the days are sealed and hold what was sealed, or ClickHouse no longer holds
   them as a whole and nobody could take them from there (:func:`find_boundary`).
4. *From the boundary on, ClickHouse is complete*: its TTL has reached none of these days, and none was removed. When
   the TTL may, the view is an error (:attr:`ViewState.valid_until`). No day is removed while such a view is made.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date, datetime, timedelta

from k2_offload.core.day_comparison import TTL_MARGIN, Verdict, day_window
from k2_offload.core.errors import DamagedTable, OffloadError
from k2_offload.core.holding import Kept
from k2_offload.core.seals import is_over
from k2_offload.core.skips import covers
from k2_offload.core.tables import LONGEST_CANDLE, TableSpec
from k2_offload.core.windows import Window, format_time, parse_time, parse_window

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class ViewState:
    """What a view shows. The view's comment says it, too, for other readers.

    :param boundary: earlier times of the partition column come from the cold table, this one and later from ClickHouse
    :param snapshot_id: of the cold table
    :param metadata_file: URI of the file that describes it
    :param valid_until: from then on the view is an error
    :param accepted_days: days without a seal that a person has accepted as the cold table had them: how many rows
    :param accepted_missed: ranges that the cold table lacks, and that a person has accepted
    :param accepted_skipped: those of them of which it had no row, as they were left out on purpose
    """

    table: str
    table_uuid: str
    partition_column: str
    boundary: datetime
    snapshot_id: int
    metadata_file: str
    valid_until: datetime
    accepted_days: Mapping[str, int] = field(default_factory=dict)
    accepted_missed: tuple[str, ...] = ()
    accepted_skipped: tuple[str, ...] = ()

    @property
    def comment(self) -> str:
        """As the view keeps it."""
        times = {"boundary": format_time(self.boundary), "valid_until": format_time(self.valid_until)}
        return json.dumps(self.__dict__ | times)

    @staticmethod
    def read(comment: str) -> ViewState:
        """The inverse of :attr:`comment`.

        :raises ValueError: if it is none
        """
        try:
            values = json.loads(comment)
            read = {name: parse_time(values[name]) for name in ("boundary", "valid_until")}
            ranges = {name: tuple(values.get(name, ())) for name in ("accepted_missed", "accepted_skipped")}
            known = {each.name for each in fields(ViewState)}  # a newer version may keep more
            state = ViewState(**{name: value for name, value in (values | read | ranges).items() if name in known})
            state.skipped_then()
            return state
        except (AttributeError, KeyError, TypeError) as error:
            raise ValueError(str(error)) from None

    def skipped_then(self) -> list[Window]:
        """What was left out when a person accepted that it was missed, as far as it was not brought since.

        :raises ValueError: if the view was not made here
        """
        return [parse_window(text) for text in self.accepted_skipped]


@dataclass(frozen=True)
class KnownDays:
    """What is known of the days of a table.

    :param warm: rows that ClickHouse holds, those that were skipped left out; from the first whole day on
    :param cold: rows that the cold table holds, of all days
    :param sealed: rows of each day by its newest seal
    :param broken: why the seal of a day is not good
    :param verdicts: of the last comparisons
    :param skipped: what was skipped on purpose and not brought since
    :param missed: ranges on record of which the cold table lacks rows, those that were skipped among them
    :param whole_from: from this day on, ClickHouse holds all as a whole
    :param below: the watermark
    :param unmoved: days of which ClickHouse shows rows that no window has moved, where that cannot be told by their
        times; and whether a window is still to come for them
    :param doubled: rows that days hold more than once, where the table was taken over with them
    """

    warm: Mapping[date, int]
    cold: Mapping[date, int]
    sealed: Mapping[date, int]
    broken: Mapping[date, str]
    verdicts: Mapping[date, Verdict]
    skipped: Sequence[Window]
    missed: Sequence[Window]
    whole_from: date
    below: datetime
    unmoved: Mapping[date, bool] = field(default_factory=dict)
    doubled: Mapping[date, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Boundary:
    """Where the cold tier ends and the warm one begins.

    :param first_warm: all days from this one on are ClickHouse's
    :param held_by: why that day is not the cold table's yet, and what to do
    :param unsealed: cold days that nothing proves to be complete, and that ClickHouse does not hold any more: how many
        rows each has
    :param missed: ranges of such days that the cold table lacks
    :param skipped: those of them of which it has no row
    """

    first_warm: date
    held_by: str
    unsealed: Mapping[date, int] = field(default_factory=dict)
    missed: tuple[Window, ...] = ()
    skipped: tuple[Window, ...] = ()


def find_boundary(
    table: TableSpec, known: KnownDays, before: ViewState | None = None, *, accept: bool = False
) -> Boundary:
    """The latest boundary that both tiers support.

    :param before: remembers what was accepted of days without a seal; what has changed since is not accepted any more
    :param accept: a person accepts what is unsealed or missed now
    :raises OffloadError: if there is none, and why
    """
    if not known.sealed:
        raise OffloadError(
            f"{table.name}: no day of its cold table is sealed yet, so nothing says from where on it is complete. "
            f"k2_reconcile seals a day when it is over; see docs/reading.md. {_UNCHANGED}"
        )
    last = known.whole_from - _DAY
    open_days = [day for day, to_come in known.unmoved.items() if to_come and day <= last]
    if open_days or not is_over(table, last, known.below):
        raise OffloadError(
            f"{table.name}: windows are still to come to {min(open_days, default=last)}, and ClickHouse does not hold "
            "that day as a whole any more: neither tier has all of its rows. Let the table catch up: "
            f"`k2 status {table.name}`. {_UNCHANGED}"
        )
    unsealed = _check_old_days(table, known)
    accepted = before.accepted_days if before is not None else {}
    new_days = [day for day, rows in unsealed.items() if accepted.get(day.isoformat()) != rows]
    if new_days and not accept:
        lost = [f"{day} had {accepted[day.isoformat()]:,} rows then" for day in new_days if day.isoformat() in accepted]
        since = f" Some were accepted, and have changed since: {', '.join(lost[:3])}." if lost else ""
        twice = [f"{day} has {known.doubled[day]:,}" for day in new_days if day in known.doubled]
        since += f" It was taken over with rows that are there more than once: {', '.join(twice[:3])}." if twice else ""
        raise OffloadError(
            f"{table.name}: {len(new_days)} days from {new_days[0]} on were never sealed, and ClickHouse does not hold "
            f"them as a whole any more.{since} Rows may be in neither tier: `k2 status {table.name}` shows what is on "
            f"record. To read these days as the cold table has them, `k2 view {table.name} --apply --accept-unsealed`. "
            f"{_UNCHANGED}"
        )
    missed = _missed_before(table, known)
    new = [each for each in missed if before is None or not _is_accepted(each, known, before)]
    if new and not accept:
        ranges = f"{new[0]} and {len(new) - 1} more ranges" if len(new) > 1 else new[0]
        raise OffloadError(
            f"{table.name}: the cold table lacks rows of {ranges}, and ClickHouse does not hold these days as a whole "
            f"any more. What was left out on purpose can be brought: `k2 backfill {table.name}`; `k2 status "
            f"{table.name}` shows the rest. To read these days as the cold table has them, `k2 view {table.name} "
            f"--apply --accept-unsealed`. {_UNCHANGED}"
        )
    while (held_by := _held_by(table, known, last + _DAY)) is None:
        last += _DAY
    _check_warm_days(table, known, last + _DAY)
    skipped = tuple(each for each in missed if each in known.skipped)
    return Boundary(last + _DAY, held_by, unsealed, tuple(missed), skipped)


_RENEWED = timedelta(days=1)
"""How long a view reads days that are older than the retention, if nobody renews it; it is renewed every half hour."""

_UNCHANGED = "The view was not changed and no row is lost."


def _is_accepted(missed: Window, known: KnownDays, before: ViewState) -> bool:
    """Whether a person has accepted that a range is missed, or that all of a longer one is, of which the rest came."""
    if str(missed) in before.accepted_missed:
        return True
    return missed in known.skipped and covers(before.skipped_then(), missed)


def _missed_before(table: TableSpec, known: KnownDays) -> list[Window]:
    """Ranges on record that reach into days which can only be read cold."""
    longest = table.longest_interval
    near = [each for each in known.missed if each.low < day_window(known.whole_from).low + longest]
    for day in known.unmoved:
        low, high = day_window(day).low, day_window(day).high + longest
        if day < known.whole_from and not any(each.low < high and each.high > low for each in near):
            return list(known.missed)  # rows that were skipped far from their day: nobody knows in which range
    return near


def _check_old_days(table: TableSpec, known: KnownDays) -> dict[date, int]:
    """The days without a seal among those that can only be read cold, as far as something may be wrong with them.

    A table begins before its first seal: with what ClickHouse held in part, or what another system has left. That is
    all there is, and nobody can say that it lacks a row; but that system may have left some rows twice.
    """
    first = min(known.sealed)
    unsealed = {}
    for day in sorted({*known.cold, *known.sealed, *known.broken}):
        if day >= known.whole_from:
            break
        if day in known.broken:
            raise DamagedTable(f"{known.broken[day]} The view of {table.name} was not changed.")
        if day not in known.sealed:
            if day > first or day in known.doubled:
                unsealed[day] = known.cold.get(day, 0)
        elif known.cold.get(day, 0) != known.sealed[day]:
            raise DamagedTable(
                f"{table.name} {day}: the cold table holds {known.cold.get(day, 0):,} rows of the day, and "
                f"{known.sealed[day]:,} were sealed. `k2 verify --sealed {table.name}` names the snapshot that changed "
                f"it. {_UNCHANGED}"
            )
    return unsealed


def _held_by(table: TableSpec, known: KnownDays, day: date) -> str | None:
    """Why the cold table may not hold all rows of a day that ClickHouse holds as a whole; ``None`` if it does."""
    if known.unmoved.get(day) or not is_over(table, day, known.below):
        return f"windows are still to come to {day}"
    if day in known.unmoved:
        return f"rows of {day} were left out on purpose: `k2 backfill {table.name}`"
    if day in known.broken:
        return f"the seal of {day} is broken: `k2 verify --sealed {table.name}`"
    window = day_window(day)
    low, high = window.low - LONGEST_CANDLE, window.high + LONGEST_CANDLE
    if any(each.low < high and each.high > low for each in known.skipped) and day not in known.sealed:
        return f"times of {day}, or of the day before or after, were left out on purpose: `k2 backfill {table.name}`"
    warm, cold = known.warm.get(day, 0), known.cold.get(day, 0)
    sealed = known.sealed.get(day, 0)
    if not warm == cold == sealed or (day in known.verdicts and known.verdicts[day].differs and day in known.sealed):
        return (
            f"{day} has {warm:,} rows in ClickHouse, {cold:,} in the cold table, and {sealed:,} are sealed: "
            f"k2_reconcile heals and seals it, and `k2 heal {table.name} --day {day} --dry-run` shows what differs"
        )
    return None


def _check_warm_days(table: TableSpec, known: KnownDays, first: date) -> None:
    for day in sorted(day for day in {*known.cold, *known.sealed} if day >= first):
        verdict = known.verdicts.get(day)
        # One that was never sealed may be older than ClickHouse's; one that was may have lost trades there.
        may_be_worse = table.version_column is None or day in known.sealed
        gone = verdict is Verdict.COLD_HAS_MORE or (verdict is Verdict.CHANGED_ROWS and may_be_worse)
        if gone or max(known.cold.get(day, 0), known.sealed.get(day, 0)) > known.warm.get(day, 0):
            raise DamagedTable(
                f"{table.name} {day}: the cold table holds, or has held, rows that ClickHouse does not, and the day is "
                f"not sealed as it is: neither tier has all of its rows. `k2 heal {table.name} --day {day} --dry-run` "
                f"shows what differs. {_UNCHANGED}"
            )


def valid_until(table: TableSpec, first_warm: date, kept: Kept, now: datetime) -> datetime:
    """When a clock may begin to take rows of a day.

    With ``retention: proven`` none does, unless there is a far TTL: who removes rows leaves alone what a valid view
    reads. It is valid for a day from now on all the same, as somebody may give the source a TTL at any time.
    """
    low = day_window(first_warm).low
    by_clock = low + table.warm_retention - TTL_MARGIN
    if kept.whole_since is None:
        return by_clock
    renewed = max(by_clock, now + _RENEWED)
    return renewed if kept.kept_for is None else min(renewed, low + kept.kept_for - TTL_MARGIN)
