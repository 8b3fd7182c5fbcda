"""Why every row reaches the cold table exactly once. The whole argument, and every rule it needs, is in this file.

A cold table's history is a chain of snapshots. A snapshot that publishes a window carries that window's identity
(table, low, high) in its summary, and nothing ever changes a snapshot or its ancestors. So:

1. *Stage.* The window's rows become a snapshot S on top of the current head, invisible to readers.
2. *Check.* S may be published only if the newest window among its ancestors ends exactly where S's begins
   (:func:`decide_publish`). S then holds every window once, without gap or overlap, and that can no longer change.
3. *Audit.* The rows staged are the rows ClickHouse holds in the window.
4. *Publish.* The table's main branch moves to S by fast-forward in one atomic commit, which the catalog refuses
   unless main is still an ancestor of S. Whatever else happened meanwhile (a zombie job, a second scheduler,
   a compaction) either is part of S's history, and was checked, or makes the fast-forward fail; then stage again.

By induction, main always holds contiguous windows, each once. The watermark is merely read off that chain
(:func:`find_published`): the ledger follows it and never leads it (:func:`follow_chain`), so a ledger that was lost,
restored or edited is repaired by looking, and killing any process at any point leaves one of two states: the window
is in the chain, or it is not.

All that is of one source. A second deployment's windows, from a ClickHouse of its own, would pass for this one's: so a
snapshot says which ledger planned it, and nobody goes on in silence after another's (:func:`refuse_another_ledger`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum

from k2_offload.core.errors import AuditFailed, ChangedTable, DamagedTable, StaleWindow
from k2_offload.core.gaps import Looked
from k2_offload.core.skips import GivenUp, Skips
from k2_offload.core.windows import TICK, Window, format_time, parse_time

WINDOW_PROPERTY = "wap.id"
"""Snapshot summary key that holds the window's identity (Iceberg's own key for write-audit-publish)."""

CUT_PROPERTY = "k2.cut-on"
"""Snapshot summary key that holds the column whose times the window's bounds are."""

LEDGER_PROPERTY = "k2.ledger"
"""Snapshot summary key that holds the id of the ledger that planned it, so that two deployments see each other."""

SKIPPED_PROPERTY = "k2.skipped-rows"
"""Snapshot summary key of a window without rows that a person has published: how many rows it leaves out for good."""

ATTEMPT_PROPERTY = "k2.attempt"
"""Snapshot summary key that tells one attempt's staged snapshot from another's."""

_CHERRY_PICKED_PROPERTY = "published-wap-id"
"""Where Iceberg keeps :data:`WINDOW_PROPERTY` of a staged snapshot that somebody has published by hand."""

HEAL_PROPERTY = "k2.heal"
"""Snapshot summary key that holds a heal's identity, see :class:`k2_offload.core.heal.HealId`."""

BACKFILL_PROPERTY = "k2.backfill"
"""Snapshot summary key that holds a backfill's identity, see :class:`k2_offload.core.backfill.BackfillId`."""

FOLLOWS_PROPERTY = "k2.follows"
"""Snapshot summary key of a heal or a backfill: the newest window among the snapshot's ancestors."""

PUBLISHED_BRANCH = "k2_published"
"""Branch that points at the last published window, so that snapshot expiry never drops it."""

HEALED_BRANCH = "k2_healed"
"""Branch that points at the last heal or backfill, for the same reason: it adds rows between windows."""


FIRST_WATERMARK = datetime(2000, 1, 1, tzinfo=UTC)
"""Where the first window of a table begins: the watermark of a cold table that holds no window."""


@dataclass(frozen=True)
class WindowId:
    """Names one window of one incarnation of a cold table; a dropped and recreated table has another UUID."""

    table_uuid: str
    window: Window

    def __str__(self) -> str:
        return f"k2/{self.table_uuid}/{format_time(self.window.low)}/{format_time(self.window.high)}"

    @staticmethod
    def parse(text: str | None) -> WindowId | None:
        """The inverse of ``str``; ``None`` for any other text (another writer's id)."""
        try:
            prefix, table_uuid, low, high = (text or "").split("/")
            return WindowId(table_uuid, Window(parse_time(low), parse_time(high))) if prefix == "k2" else None
        except ValueError:
            return None


def signed(ledger_id: str | None) -> dict[str, str]:
    """The part of a snapshot's summary that says which ledger has planned it.

    :param ledger_id: ``None`` where that is not known: then nobody has
    """
    return {} if ledger_id is None else {LEDGER_PROPERTY: ledger_id}


@dataclass(frozen=True)
class Stamp:
    """What a staged snapshot says of itself, in its summary.

    :param cut_on: the column whose times the window's bounds are
    :param attempt: unique; names one attempt's files and its snapshot
    :param skips: those of the snapshot's ancestors, passed on
    :param ledger_id: of the ledger that planned it
    """

    window_id: WindowId
    cut_on: str
    attempt: str
    skips: Skips = field(default_factory=Skips)
    ledger_id: str | None = None

    @property
    def window(self) -> Window:
        """Which rows it brings."""
        return self.window_id.window

    @property
    def wap_id(self) -> str:
        """What Spark's writer calls a snapshot that it stages."""
        return str(self.window_id)

    @property
    def summary(self) -> dict[str, str]:
        """Keys and values as they stand in the snapshot's summary."""
        own = {WINDOW_PROPERTY: str(self.window_id), CUT_PROPERTY: self.cut_on, ATTEMPT_PROPERTY: self.attempt}
        return own | signed(self.ledger_id) | self.skips.summary


@dataclass(frozen=True)
class Snapshot:
    """What the protocol reads of an Iceberg snapshot.

    :param window_id: of the window it brought, if any
    :param rows: rows it added
    :param size_bytes: bytes of data files it added
    :param rows_before: rows the table held before it
    :param rows_after: rows the table held with it
    :param cut_on: the column that its window was cut on; ``None`` where a version before 0.2 wrote it
    :param heal: a heal's identity, as text
    :param follows: of a heal, the newest window among its ancestors
    :param skipped_rows: how many its window leaves out, by a person's decision; ``None`` where it leaves out none
    :param skips: what it says of ranges that were skipped; ``None`` where it does not say
    :param backfill: a backfill's identity, as text
    :param counted: whether it says how many rows the table holds; the Iceberg spec lets a writer leave that out
    :param ledger_id: of the ledger that planned it; ``None`` where another writer, or an older version, wrote it
    :param given_up: of its window, what was skipped before and cannot be brought any more
    """

    snapshot_id: int
    parent_id: int | None
    sequence_number: int
    window_id: WindowId | None
    rows: int
    size_bytes: int
    rows_before: int = 0
    rows_after: int = 0
    cut_on: str | None = None
    heal: str | None = None
    follows: WindowId | None = None
    skipped_rows: int | None = None
    skips: Skips | None = None
    backfill: str | None = None
    counted: bool = True
    ledger_id: str | None = None
    given_up: tuple[GivenUp, ...] = ()

    @staticmethod
    def read(snapshot_id: int, parent_id: int | None, sequence_number: int, summary: Mapping[str, str]) -> Snapshot:
        """From what Iceberg's libraries show of a snapshot.

        :param summary: as the Iceberg spec names its keys; a count that is missing is zero
        """
        added = int(summary.get("added-records") or 0)
        total = int(summary.get("total-records") or 0)
        skipped = summary.get(SKIPPED_PROPERTY)
        return Snapshot(
            snapshot_id,
            parent_id,
            sequence_number,
            WindowId.parse(summary.get(WINDOW_PROPERTY)) or WindowId.parse(summary.get(_CHERRY_PICKED_PROPERTY)),
            rows=added,
            size_bytes=int(summary.get("added-files-size") or 0),
            rows_before=total - added + int(summary.get("deleted-records") or 0),
            rows_after=total,
            cut_on=summary.get(CUT_PROPERTY),
            heal=summary.get(HEAL_PROPERTY),
            follows=WindowId.parse(summary.get(FOLLOWS_PROPERTY)),
            skipped_rows=int(skipped) if skipped is not None else None,
            skips=Skips.read(summary),
            backfill=summary.get(BACKFILL_PROPERTY),
            counted="total-records" in summary,
            ledger_id=summary.get(LEDGER_PROPERTY),
            given_up=GivenUp.read(summary),
        )

    def leads_to(self, later: Snapshot) -> bool:
        """Whether a later snapshot may have found just the rows that this one left."""
        counted = self.counted and later.counted
        return counted and self.sequence_number < later.sequence_number and self.rows_after == later.rows_before


@dataclass(frozen=True)
class Published:
    """The newest window in a chain of snapshots, and the snapshot that published it."""

    snapshot: Snapshot
    window_id: WindowId

    def brought(self, window_id: WindowId) -> bool:
        """Whether it is that window, with its rows: one that was skipped has the same name and none."""
        return self.window_id == window_id and self.snapshot.skipped_rows is None


def watermark_of(published: Published | None) -> datetime:
    """Every row below it is in the cold table, none at or above it."""
    return published.window_id.window.high if published else FIRST_WATERMARK


def ancestors(head: int | None, snapshot_of: Callable[[int], Snapshot | None]) -> Iterator[Snapshot]:
    """A snapshot and those below it, newest first, as far as they have not expired.

    :param snapshot_of: the snapshot of an id, ``None`` once expired
    """
    current = head
    while current is not None and (snapshot := snapshot_of(current)) is not None:
        yield snapshot
        current = snapshot.parent_id


def find_published(
    table: str,
    table_uuid: str,
    head: int | None,
    branches: Mapping[str, int],
    snapshot_of: Callable[[int], Snapshot | None],
) -> Published | None:
    """The newest window among the snapshots from ``head`` back to the first.

    Other writers' snapshots (compaction) are passed over, and heals and backfills. Where expiry has cut the chain, the
    snapshot of :data:`PUBLISHED_BRANCH` stands in, provided that it came before all that is left of the chain: see
    :func:`_comes_before`. A chain is cut where a parent is gone, and where the oldest snapshot found rows before it or
    is younger than the last window's: some tools that expire snapshots also clear the reference to the parent.

    :param branches: the snapshots that the table's branches point at
    :param snapshot_of: the snapshot of an id, ``None`` once expired
    :returns: ``None`` if the chain is whole, holds no window and the table no rows
    :raises DamagedTable: if the chain is cut and nothing says what the missing part held; if the table may hold rows
        that no window brought (a copy of another table): moving the first window might bring them a second time; or if
        it was replaced, which keeps its identity and its branches, and hides all windows
    """
    left: list[Snapshot] = []
    for snapshot in ancestors(head, snapshot_of):
        if snapshot.window_id is not None and snapshot.window_id.table_uuid == table_uuid:
            return Published(snapshot, snapshot.window_id)
        left.append(snapshot)
    if head is None and PUBLISHED_BRANCH in branches:
        raise _replaced(table)
    expired_below = left[-1].parent_id if left else head
    marker = snapshot_of(branches[PUBLISHED_BRANCH]) if PUBLISHED_BRANCH in branches else None
    is_younger = left and marker is not None and marker.sequence_number < left[-1].sequence_number
    if expired_below is not None or is_younger or (left and left[-1].rows_before > 0):
        healed = snapshot_of(branches[HEALED_BRANCH]) if HEALED_BRANCH in branches else None
        return _published_before(table, table_uuid, left, marker, healed)
    if left and (left[0].rows_after > 0 or not left[0].counted):
        found = (
            f"holds {left[0].rows_after} rows that no offloaded window brought"
            if left[0].counted
            else "does not say how many rows it holds, and no offloaded window brought them (if it is empty, drop it)"
        )
        raise DamagedTable(
            f"{table}: the cold table {found}. Nothing was changed and no row is lost. `k2 adopt {table}` looks for "
            "rows that are there twice, and takes the table over: the next cycle then goes on after the newest of them."
        )
    return None


def _replaced(table: str) -> DamagedTable:
    return DamagedTable(
        f"{table}: the cold table's history begins anew, and branch '{PUBLISHED_BRANCH}' still has its last window: "
        "somebody has replaced it (CREATE OR REPLACE TABLE). Nothing was changed and no row is lost. "
        f"`k2 register {table} --from FILE` brings all rows back, with its metadata file from before that "
        "(docs/disaster.md). Only if the rows from before are to go for good, beside those that ClickHouse still has: "
        f"ALTER TABLE … DROP BRANCH {PUBLISHED_BRANCH}."
    )


def _published_before(
    table: str,
    table_uuid: str,
    left: Sequence[Snapshot],
    marker: Snapshot | None,
    healed: Snapshot | None,
) -> Published:
    if marker is not None and left:
        window_id = marker.window_id
        if window_id is not None and window_id.table_uuid == table_uuid and _comes_before(left, marker, healed):
            return Published(marker, window_id)
        oldest = left[-1]
        begins_anew = oldest.parent_id is None and oldest.counted and oldest.rows_before == 0
        if begins_anew and marker.sequence_number < oldest.sequence_number:
            raise _replaced(table)
    raise DamagedTable(
        f"{table}: the cold table's snapshots were expired past its last offloaded window, and branch "
        f"'{PUBLISHED_BRANCH}' does not say which that was. Nothing was changed and no row is lost. "
        f"Run `k2 watermark rebuild {table}` to see what the table holds and to set the watermark from it; if another "
        f"system has filled it, `k2 adopt {table}`."
    )


def _comes_before(left: Sequence[Snapshot], marker: Snapshot, healed: Snapshot | None) -> bool:
    """Whether the snapshot of the last window is an ancestor of what is left of a chain, as far as that can be told.

    Either a heal that is left says so; or the oldest that is left is younger, and has found as many rows as the last
    window left, or as the last heal left that followed it. Otherwise main was rolled back past it.

    :param left: from the head to the oldest; not empty
    """
    if any(snapshot.follows is not None for snapshot in left):
        return all(snapshot.follows in (None, marker.window_id) for snapshot in left)
    last = healed if healed is not None and healed.follows == marker.window_id else marker
    return last.leads_to(left[-1]) or marker.leads_to(left[-1])


def check_cut(table: str, published: Published | None, timestamp_column: str) -> None:
    """Refuse to go on by another column than the one that the windows so far were cut on.

    Their bounds mean nothing on it: rows below them may not have been moved, and rows above them may have been.

    :param timestamp_column: what the table file says now
    :raises ChangedTable: if it is another one
    """
    if published is None or published.snapshot.cut_on in (None, timestamp_column):
        return
    raise ChangedTable(
        f"{table}: its windows were cut on '{published.snapshot.cut_on}', and the table file now says "
        f"timestamp_column: {timestamp_column}. Going on would lose rows or move them twice. Nothing was moved and no "
        f"row is lost. Put the old column back; or, to change it on purpose, run `k2 watermark rebuild {table}`, which "
        "shows what would be left out."
    )


def adopted(table_uuid: str, newest_row: datetime) -> WindowId:
    """The window that a cold table holds whose history cannot say, or whose rows came another way.

    It ends right after the newest row: the table holds nothing above, so no row is published twice. A snapshot
    without rows carries it into the chain.
    """
    return WindowId(table_uuid, Window(min(FIRST_WATERMARK, newest_row), newest_row + TICK))


class PublishDecision(Enum):
    """What to do with a staged snapshot."""

    PUBLISH = "publish"
    ALREADY_PUBLISHED = "already published"


def decide_publish(
    table: str, window_id: WindowId, cut_on: str, table_uuid: str, published: Published | None
) -> PublishDecision:
    """Whether a window may follow what a chain of snapshots already holds.

    Whether the staged rows are those of the window is the audit's business.

    :param cut_on: the column whose times the window's bounds are
    :param table_uuid: of the table as it is now
    :param published: newest window among the ancestors of the staged snapshot
    :raises StaleWindow: if another window has taken its place; it would leave a gap or an overlap
    """
    window = window_id.window
    if table_uuid != window_id.table_uuid:
        raise StaleWindow(
            f"{table} {window}: the cold table was dropped and recreated after this window was planned. "
            "Nothing was published; the next cycle plans anew."
        )
    if published is not None and published.brought(window_id):
        return PublishDecision.ALREADY_PUBLISHED
    if watermark_of(published) != window.low:
        raise StaleWindow(
            f"{table} {window}: the cold table ends at {format_time(watermark_of(published))}. "
            "Nothing was published and no row is lost; the next cycle plans from there."
        )
    if published is not None and published.snapshot.cut_on not in (None, cut_on):
        raise StaleWindow(
            f"{table} {window}: this window was cut on '{cut_on}', and those in the cold table are by now cut on "
            f"'{published.snapshot.cut_on}'. Nothing was published and no row is lost; the next cycle plans anew."
        )
    return PublishDecision.PUBLISH


def check_not_fewer(table: str, window: Window, source_rows: int, planned_rows: int) -> None:
    """A source that shows fewer rows of a window than it did may not be showing all.

    :raises AuditFailed: if it does
    """
    if source_rows < planned_rows:
        raise AuditFailed(
            f"{table} {window}: ClickHouse counts {source_rows} rows, {planned_rows - source_rows} fewer than the "
            f"{planned_rows} when the window was planned. Nothing was published. Either it does not show all rows (a "
            "replica that lags, a detached part, a shard that is skipped), and the next attempt finds them; or they "
            f"have expired or were deleted: then `k2 accept {table}` goes on with what is there, on record."
        )


def audit(table: str, window: Window, *, staged_rows: int, source_rows: int, planned_rows: int) -> None:
    """Rows staged = rows in the source, and those are no fewer than when the window was planned.

    :param planned_rows: rows may have come since, but a source that shows fewer may not be showing all
    :raises AuditFailed: otherwise
    """
    check_not_fewer(table, window, source_rows, planned_rows)
    if staged_rows != source_rows:
        raise AuditFailed(
            f"{table} {window}: {staged_rows} rows were staged but ClickHouse counts {source_rows}. "
            "Nothing was published and no row is lost; the retry exports the window again. If it goes on, look for "
            "rows arriving late or expiring: `k2 status`."
        )


def may_drop(staged: Snapshot, last_sequence_number: int, heads: Collection[int]) -> bool:
    """Whether nothing but a staged snapshot itself can refer to its files, so that they may go with it.

    What refers to them was made after it: a snapshot with a higher sequence number, or a branch or tag.

    :param last_sequence_number: of the table; all are zero in Iceberg's format 1, which tells nothing
    :param heads: the snapshots that branches and tags are at
    """
    return staged.snapshot_id not in heads and staged.sequence_number == last_sequence_number > 0


@dataclass(frozen=True)
class LedgerEntry:
    """What the ledger believes of one table.

    :param table_uuid: of the cold table it has followed so far; ``None`` before the first window
    :param watermark: end of the last window it knows as published; ``None`` if it was never set, or was damaged
    :param open_window: planned and not yet known as published
    :param planned_rows: of the open window
    :param failures: attempts at the open window that have failed; one that has taken the place of a larger one has one
    :param planned_at: when the open window was planned
    :param looked: what is known of rows that may have expired
    :param row_limit: how many rows a window may have, since a larger one has failed; ``None`` while none has
    :param ledger_id: which ledger this is; ``None`` where nobody asks
    """

    table_uuid: str | None
    watermark: datetime | None
    open_window: WindowId | None
    planned_rows: int = 0
    failures: int = 0
    planned_at: datetime | None = None
    looked: Looked = field(default_factory=Looked)
    row_limit: int | None = None
    ledger_id: str | None = None


def refuse_to_recreate(table: str, table_uuid: str | None) -> None:
    """Do not make a cold table where one was that the ledger has followed.

    In its place, readers would find an empty table, it could not be registered again, and its files would pass for
    orphans.

    :param table_uuid: of the one that the ledger has followed so far, ``None`` before the first window
    :raises DamagedTable: if the ledger has followed one
    """
    if table_uuid is not None:
        raise DamagedTable(
            f"{table}: the cold table that the ledger has followed (UUID {table_uuid}) is not there. It was not "
            "made anew, so that it can be registered again: its files may still be in place. Nothing was changed. "
            f"`k2 register {table}` looks for them. If it was dropped on purpose, run `k2 watermark rebuild {table}`: "
            "it makes a new one."
        )


def refuse_another(table: str, table_uuid: str, followed: str | None) -> None:
    """Do not take another cold table for the one that the ledger has followed.

    :param followed: UUID of that one, ``None`` before the first window
    :raises DamagedTable: if it is another one
    """
    if followed is not None and followed != table_uuid:
        raise DamagedTable(
            f"{table}: the cold table was dropped and recreated (UUID {table_uuid}, the ledger has followed "
            f"{followed}). Nothing was changed. If that was meant, run `k2 watermark rebuild {table}`: "
            "the next cycle then starts from what the new table holds."
        )


def refuse_another_ledger(
    table: str, published: Published | None, ledger_id: str | None, followed: str | None, watermark: datetime | None
) -> None:
    """Do not go on after a window that another deployment has published: its ClickHouse may lack rows of this one.

    A ledger that does not know the table (it is new, or was lost) takes over whatever is there; then it is the other
    one that stops. A table that was rolled back is followed. Windows without an id are nobody's.

    :param published: newest window of the cold table
    :param ledger_id: which ledger this is
    :param followed: UUID of the cold table that it has followed so far
    :param watermark: end of the last window that it knows as published
    :raises DamagedTable: if it is another one's, and comes after what this one knows
    """
    if published is None or ledger_id is None or followed is None or watermark is None:
        return
    other, window = published.snapshot.ledger_id, published.window_id.window
    if other in (None, ledger_id) or window.high <= watermark:
        return
    raise DamagedTable(
        f"{table}: another deployment, whose ledger has the id {other}, has published {window} into this cold table; "
        f"this ledger ({ledger_id}) has followed it up to {format_time(watermark)}. Nothing was moved and no row is "
        "lost, but ClickHouse's rows of that range may not all be cold. Stop the other one, or give it a catalog and a "
        f"warehouse of its own. Then `k2 watermark rebuild {table}` goes on after what is there, and `k2 heal {table}` "
        "brings what it lacks. If the other one is a ledger that this deployment had meanwhile, before a backup was "
        "restored, there is nothing to stop."
    )


def starting_over(table: str, metadata_file: str, rows: int) -> DamagedTable:
    """Why not to fill an empty cold table whose folder holds another one: the catalog may have forgotten that.

    Readers would find the rows of a few days where those of years were, and the rest would pass for orphans.

    :param metadata_file: URI of the other table's newest metadata file
    :param rows: that the other table holds
    """
    return DamagedTable(
        f"{table}: the cold table is empty and unknown to the ledger, and its folder holds another one of {rows} rows "
        f"({metadata_file}): the catalog may have been lost. Nothing was moved and no row is lost. To go on with that "
        f"one, run `k2 register {table}`. If it is not wanted any more, run `k2 watermark rebuild {table}`: the next "
        "cycle then fills the empty one."
    )


@dataclass(frozen=True)
class LedgerUpdate:
    """How the ledger follows the cold table.

    :param watermark: what the cold table says
    :param committed: the open window, if the cold table now holds it
    :param resume: the open window, if it still comes next
    :param abandoned: the open window, if the cold table has gone another way
    :param moved: whether the ledger said something else
    """

    watermark: datetime
    committed: WindowId | None
    resume: WindowId | None
    abandoned: WindowId | None
    moved: bool


def follow_chain(table: str, ledger: LedgerEntry, table_uuid: str, published: Published | None) -> LedgerUpdate:
    """Make the ledger say what the cold table holds.

    An open window stays open for as long as it still comes next, whatever the clock says.

    :raises DamagedTable: if the cold table is another one than the ledger has followed, or its newest window is another
        ledger's; also where that has the name of the open window
    """
    refuse_another(table, table_uuid, ledger.table_uuid)
    refuse_another_ledger(table, published, ledger.ledger_id, ledger.table_uuid, ledger.watermark)
    watermark = watermark_of(published)
    opened = ledger.open_window
    committed = resume = abandoned = None
    if opened is not None:
        if published is not None and published.brought(opened):
            committed = opened
        elif opened.table_uuid == table_uuid and watermark == opened.window.low:
            resume = opened
        else:
            abandoned = opened
    moved = ledger.watermark is not None and ledger.watermark != watermark
    return LedgerUpdate(watermark, committed, resume, abandoned, moved)
