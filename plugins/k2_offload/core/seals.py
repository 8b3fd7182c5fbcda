"""Why a seal is never wrong. The argument, and every rule that it needs.

A *seal* says of one day of one incarnation of a cold table: at snapshot S, main held so many rows of it, with this
content hash over these columns, and ClickHouse held the same, all of them.

1. *It is of what was compared.* A comparison reads one snapshot, and a snapshot never changes. So a seal stays true
   whatever is committed between its comparison and itself; what comes after S is the matter of verification. A day is
   sealed only if both tiers were equal, ClickHouse held it as a whole, the server that was asked lagged behind no other
   replica, and no window will come to it any more (:func:`is_over`); a day of which times were skipped, or cold rows
   left out of the comparison, is not (:func:`may_be_sealed`). What is sealed is read off that snapshot as every
   verification reads it: a comparison passes over columns where they say nothing of the source, and a seal does not. If
   S is no ancestor of main any more when the seal is written, or the table is another one, nothing is sealed
   (:func:`check_sealing`).
2. *It is named by what it says* (:attr:`Seal.seal_id`), the seal before it included. So the same seal written twice is
   one seal for a reader, an altered one does not have its name, and the seals of a day are one chain (:func:`newest`).
   The lake's table of seals is appended to only from the state in which it was read, in one atomic commit, and only by
   what follows the last seal in it (:func:`check_sealing`).
3. *It is whole as long as the day's rows are those*, in the snapshot that readers see. Files, their order and columns
   that came later do not count, so compaction cannot break it.
4. *It is followed, never replaced.* If the day's rows are others, every snapshot since the last one that held the
   sealed rows is looked at (:func:`find_break`). If each that changed them is a heal of that day, a comparison that
   finds both tiers equal makes a successor, which names the seal before. Anything else has broken the seal: it is
   told, day after day, and nothing is sealed until the day is what it was, or a person accepts what it is now
   (:func:`check_acceptance`): that makes a successor, too, which says that it is one of those (:attr:`Seal.accepted`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from hashlib import sha256
from typing import Any

from k2_offload.core.day_comparison import DayComparison, Verdict, day_window
from k2_offload.core.errors import DamagedTable, OffloadError, StaleWindow
from k2_offload.core.exactly_once import Snapshot
from k2_offload.core.heal import HealId
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.tables import LONGEST_CANDLE, TableSpec

VERIFIED_DAYS = 100
"""Sealed days of all tables that are verified a day."""

Content = tuple[int, int]
"""Number of rows, and their content hash."""


@dataclass(frozen=True)
class Seal:
    """What a day held when it was sealed.

    :param partition_column: the time that the day is of
    :param columns: names and Iceberg types that the hash is over, in their order
    :param before: the id of the seal that this one follows; ``None`` for the first
    :param snapshot_id: of the cold table, as it was compared
    :param accepted: whether a person has accepted the rows in place of those of the seal before, and no comparison
    """

    table: str
    table_uuid: str
    day: date
    partition_column: str
    rows: int
    content_hash: int
    columns: tuple[PlannedColumn, ...]
    before: str | None
    snapshot_id: int
    sealed_at: datetime
    accepted: bool = False

    @property
    def content(self) -> Content:
        """What the day holds as long as the seal is whole."""
        return self.rows, self.content_hash

    @property
    def columns_text(self) -> str:
        """As it is stored."""
        return json.dumps([[column.name, column.iceberg_type] for column in self.columns])

    @property
    def seal_id(self) -> str:
        """A digest of all that it says, but for the snapshot and the time, in which two runs may differ."""
        day = [self.table, self.table_uuid, self.day.isoformat(), self.partition_column]
        held = [self.rows, self.content_hash, self.columns_text]
        how = ["accepted"] if self.accepted else []
        return sha256(json.dumps([*day, *held, self.before, *how]).encode()).hexdigest()

    @property
    def stored(self) -> dict[str, Any]:
        """As the lake and the ledger keep it, by the names of their columns."""
        return {
            "seal_id": self.seal_id,
            "table_name": self.table,
            "table_uuid": self.table_uuid,
            "day": self.day,
            "partition_column": self.partition_column,
            "rows": self.rows,
            "content_hash": str(self.content_hash),
            "columns": self.columns_text,
            "before": self.before,
            "snapshot_id": self.snapshot_id,
            "sealed_at": self.sealed_at,
            "accepted": self.accepted,
        }

    @staticmethod
    def read(stored: Mapping[str, Any]) -> Seal:
        """The inverse of :attr:`stored`.

        :raises ValueError: if it is no seal, or does not say what its name says
        :raises TypeError: likewise
        """
        seal = Seal(
            stored["table_name"],
            stored["table_uuid"],
            stored["day"],
            stored["partition_column"],
            stored["rows"],
            int(stored["content_hash"]),
            tuple(PlannedColumn(name, iceberg_type) for name, iceberg_type in json.loads(stored["columns"])),
            stored["before"],
            stored["snapshot_id"],
            stored["sealed_at"].astimezone(UTC),
            bool(stored.get("accepted")),
        )
        if seal.seal_id != stored["seal_id"]:
            raise ValueError("it does not say what its name says")
        return seal


def is_over(table: TableSpec, day: date, watermark: datetime) -> bool:
    """Whether no window will come to a day any more, and its source had time to be late.

    Where partitions are days of another column than windows are cut on, a day with rows that the source has already and
    no window has moved is not over either: the caller knows those.
    """
    return day_window(day).high + table.longest_interval + table.buffer + table.idle_after <= watermark


def may_be_sealed(found: DayComparison) -> bool:
    """Whether both tiers hold the same rows of the day, and all of them."""
    day = day_window(found.scope.day)
    skipped = any(
        window.low < day.high + LONGEST_CANDLE and window.high > day.low - LONGEST_CANDLE
        for window in found.scope.left_out
    )
    return found.verdict is Verdict.EQUAL and found.whole and found.cold_rows > 0 and not skipped


def check_sealing(seal: Seal, table_uuid: str | None, ancestors: Collection[int], in_lake: Iterable[Seal]) -> None:
    """Whether what was compared is still part of the table, and the seal the next of its day, right before sealing.

    :param table_uuid: of the table as it is now; ``None`` if there is none
    :param ancestors: of what readers see, itself included
    :param in_lake: the seals of the lake: which one was the last, was read from the ledger, and that may be lost
    :raises StaleWindow: if not
    :raises DamagedTable: if the day's seals in the lake are not one chain
    """
    if table_uuid != seal.table_uuid or seal.snapshot_id not in ancestors:
        raise StaleWindow(
            f"{seal.table} {seal.day}: the cold table was rolled back or recreated since the day was compared. Nothing "
            "was sealed, nothing was changed and no row is lost; the next run looks at the day anew."
        )
    named = seal.table, seal.table_uuid, seal.day
    known = {each.seal_id: each for each in in_lake if (each.table, each.table_uuid, each.day) == named}
    if known and seal.seal_id not in known and seal.before != newest(seal.table, seal.day, known.values()).seal_id:
        raise StaleWindow(
            f"{seal.table} {seal.day}: the lake holds a seal of the day that the ledger has lost meanwhile. Nothing "
            "was sealed, nothing was changed and no row is lost; the next run looks at both."
        )


def newest(table: str, day: date, seals: Iterable[Seal]) -> Seal:
    """The last seal of a day.

    :param seals: all of that day and one incarnation of the table; the same one any number of times
    :raises DamagedTable: if they are not one chain
    """
    by_id: dict[str, Seal] = {}
    for seal in sorted(seals, key=lambda each: (each.sealed_at, each.snapshot_id)):
        by_id.setdefault(seal.seal_id, seal)
    last = [seal for seal in by_id.values() if seal.seal_id not in {each.before for each in by_id.values()}]
    reached: set[str] = set()
    current = last[0] if len(last) == 1 else None
    while current is not None:
        reached.add(current.seal_id)
        current = by_id.get(current.before or "")
    if len(reached) != len(by_id) or sum(seal.before is None for seal in by_id.values()) != 1:
        raise DamagedTable(
            f"{table} {day}: its {len(by_id)} seals are not one chain: some were removed, or others were written by "
            "hand. Nothing was changed and no row is lost. docs/runbooks/consistency.md says what to do."
        )
    return last[0]


@dataclass(frozen=True)
class Step:
    """A snapshot of the chain.

    :param state: equal in two snapshots only if they hold the day in the same files
    """

    snapshot: Snapshot
    state: Hashable


@dataclass(frozen=True)
class Break:
    """Where a day stopped being what was sealed.

    :param first: the first snapshot that differs
    :param held: the last one that held the sealed rows; ``None`` if none that is left does
    """

    first: int
    held: int | None


def find_break(seal: Seal, steps: Sequence[Step], content_of: Callable[[int], Content | None]) -> Break | None:
    """The first change of a day that is no heal of it, since the sealed rows were last there.

    :param steps: from the seal's snapshot, or the oldest one that is left, up to what readers see
    :param content_of: of the day in a snapshot; ``None`` if it cannot be read
    :returns: ``None`` if all changes are heals, or there is none
    """
    contents: dict[Hashable, Content | None] = {}
    for step in steps:
        if contents.get(step.state) is None:  # a snapshot may lack a column that later ones have
            contents[step.state] = content_of(step.snapshot.snapshot_id)
    held = [place for place, step in enumerate(steps) if contents[step.state] == seal.content]
    if not held:
        return Break(steps[0].snapshot.snapshot_id, None)
    for before, step in zip(steps[held[-1] :], steps[held[-1] + 1 :], strict=False):
        if contents[step.state] != contents[before.state] and not is_heal(step.snapshot, seal):
            return Break(step.snapshot.snapshot_id, before.snapshot.snapshot_id)
    return None


def is_heal(snapshot: Snapshot, seal: Seal) -> bool:
    """Whether a snapshot is a heal of the sealed day."""
    heal = HealId.parse(snapshot.heal)
    return heal is not None and (heal.table_uuid, heal.day) == (seal.table_uuid, seal.day)


def check_acceptance(found: DayComparison) -> None:
    """Whether a person may accept a changed day that ClickHouse may hold, too: not where it holds other rows.

    :raises OffloadError: if the day is to be healed instead
    """
    if found.whole and found.verdict is not Verdict.EQUAL:
        raise OffloadError(
            f"{found.table} {found.scope.day}: ClickHouse holds the day as a whole, and the cold table differs from it "
            f"({found.verdict}): nothing was accepted. `k2 heal {found.table} --day {found.scope.day} --dry-run` shows "
            "what replacing it would change."
        )


def describe_break(seal: Seal, broken: Break, *, rolled_back_to: int | None, problem: str | None) -> str:
    """A sentence on a broken seal: what, since which snapshot, and what to run next.

    :param rolled_back_to: the newest snapshot of main that the sealed one is made on, if that is no ancestor of main
    :param problem: why the day cannot be read
    """
    if rolled_back_to is not None:
        since = f"main was rolled back below the sealed snapshot {seal.snapshot_id}, to {rolled_back_to}"
    elif broken.held is not None:
        since = f"the first snapshot that differs is {broken.first}"
    elif broken.first == seal.snapshot_id:
        since = f"no snapshot changed it: its files are not what they were in the sealed snapshot {broken.first}"
    else:
        since = (
            f"it changed between the sealed snapshot {seal.snapshot_id}, which has expired, and {broken.first}, the "
            "oldest one that is left"
        )
    unreadable = f" It cannot be read: {problem}" if problem else ""
    return (
        f"{seal.table} {seal.day}: its seal is broken: the day does not hold the {seal.rows:,} rows any more that were "
        f"sealed at {seal.sealed_at:%Y-%m-%d %H:%M} UTC, and no heal explains it; {since}.{unreadable} Nothing was "
        f"changed. docs/runbooks/consistency.md says how to find out who did it, and how to get the rows back."
    )
