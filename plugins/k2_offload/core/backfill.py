"""Why history may be brought beside everything else. The argument, and every rule that it needs.

Windows follow one another without a gap, but some have no rows on purpose: a person has let the table go on at a later
time, or a new table began at the front. A *backfill window* brings the rows of a part of what was so left out.

1. *The chain says what is left out.* Every snapshot of a window, a heal or a backfill carries two sets of ranges
   (:class:`k2_offload.core.skips.Skips`): what was skipped and is still left out, and what of it was filled. It takes
   them from the nearest of its ancestors that says so (:func:`find_skips`), and the check before publication takes
   them from there once more; if they differ, it is staged anew. So they are always what the ancestors make them.
2. *The table holds no row of what is left out.* Windows with rows begin at the watermark, and every skipped range ends
   there or below. A heal takes no row of what is left out in the snapshot that it was compared with; what is left out
   since then begins at or above its watermark. Rewrites add no rows. So no row can be brought twice by a backfill.
3. *It is no window.* Its snapshot says :data:`BACKFILL_PROPERTY`, and never names a window: the watermark and the
   branch ``k2_published`` stay. It names the window that it follows (``k2.follows``), and moves the branch
   ``k2_healed`` as a heal does, for the same reason: row totals lead from the last of them to what is left of a
   chain that was cut.
4. *Check* (:func:`decide_backfill`). All of its range is left out among the ancestors of its own snapshot. If all of
   it is filled there, it was done before: nothing is done. Anything else has to be planned anew.
5. *Audit* (:func:`audit_backfill`). The rows staged are those that the source shows, and no fewer than were planned.
   How many came stands beside each range that was filled, so that what is short of the rows that were skipped can be
   told for ever (:func:`k2_offload.core.gaps.on_record`).
6. *Publish.* One atomic commit moves main from its snapshot's parent to it, and from nowhere else. If main has moved,
   it is staged anew on top, and steps 1 and 4 are taken again.

Where a person has taken the table as it is (``k2 watermark rebuild``), the snapshot without rows that says so passes on
what is left out, of ranges that the table holds no row of (:func:`keep_left_out`); a heal that was compared before is
refused after it. The rest is given up, and on record for good (:func:`k2_offload.core.gaps.find_given_up`).

By induction, the table holds each row of each filled range once. A rollback takes the rows away together with the note
that they were brought, so the next run brings them again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from k2_offload.core.errors import AuditFailed, StaleWindow
from k2_offload.core.exactly_once import (
    ATTEMPT_PROPERTY,
    BACKFILL_PROPERTY,
    FOLLOWS_PROPERTY,
    HEALED_BRANCH,
    PUBLISHED_BRANCH,
    PublishDecision,
    Published,
    Snapshot,
    WindowId,
    ancestors,
    signed,
)
from k2_offload.core.skips import Skips, covers, intersect, merge
from k2_offload.core.windows import Window, format_time, parse_time


@dataclass(frozen=True)
class BackfillId:
    """Names a range of one incarnation of a cold table."""

    table_uuid: str
    window: Window

    def __str__(self) -> str:
        return f"k2-backfill/{self.table_uuid}/{format_time(self.window.low)}/{format_time(self.window.high)}"

    @staticmethod
    def parse(text: str | None) -> BackfillId | None:
        """The inverse of ``str``; ``None`` for any other text."""
        try:
            prefix, table_uuid, low, high = (text or "").split("/")
            window = Window(parse_time(low), parse_time(high))
            return BackfillId(table_uuid, window) if prefix == "k2-backfill" else None
        except ValueError:
            return None


@dataclass(frozen=True)
class BackfillStamp:
    """What a backfill window's snapshot says of itself, in its summary.

    :param follows: the newest window among the snapshot's ancestors
    :param skips: as they are with it
    :param attempt: unique; names one attempt's files and its snapshot
    :param ledger_id: of the ledger that planned it
    """

    backfill_id: BackfillId
    follows: WindowId
    skips: Skips
    attempt: str = field(compare=False)
    ledger_id: str | None

    @property
    def window(self) -> Window:
        """Which rows it brings."""
        return self.backfill_id.window

    @property
    def wap_id(self) -> str:
        """For Spark's writer, which stages only what has one; no window's identity."""
        return str(self.backfill_id)

    @property
    def summary(self) -> dict[str, str]:
        """Keys and values as they stand in the snapshot's summary."""
        follows, backfill_id = str(self.follows), str(self.backfill_id)
        own = {BACKFILL_PROPERTY: backfill_id, FOLLOWS_PROPERTY: follows, ATTEMPT_PROPERTY: self.attempt}
        return own | signed(self.ledger_id) | self.skips.summary


def find_skips(
    head: int | None,
    published: Published | None,
    branches: Mapping[str, int],
    snapshot_of: Callable[[int], Snapshot | None],
) -> Skips:
    """What is left out, and what was filled, in the chain of snapshots from ``head`` back to the first.

    Where expiry has cut the chain before any snapshot that says so, the last heal or backfill stands in, if its row
    total leads to the oldest that is left, and otherwise the last window. A table whose chain says nothing has nothing
    that may be brought: what versions before this one skipped is on record in the ledger alone.

    :param published: the newest window of that chain
    """
    oldest: Snapshot | None = None
    for oldest in ancestors(head, snapshot_of):
        if oldest.skips is not None:
            return oldest.skips
    if published is None or oldest is None:
        return Skips()
    healed = snapshot_of(branches[HEALED_BRANCH]) if HEALED_BRANCH in branches else None
    leads = healed is not None and healed.follows == published.window_id and healed.leads_to(oldest)
    last = healed if healed is not None and leads else published.snapshot
    return last.skips or Skips()


def find_remembered(
    head: int | None, branches: Mapping[str, int], snapshot_of: Callable[[int], Snapshot | None]
) -> list[Snapshot]:
    """The snapshots that may tell what is left out of a table whose history cannot say what it holds, newest first.

    What is left of the chain, and then what branches keep from before that. The latter may have been rolled back before
    the chain was cut, so what they tell is not believed without a look at the rows (:func:`keep_left_out`).
    """
    left = list(ancestors(head, snapshot_of))
    kept = [snapshot_of(branches[name]) for name in (HEALED_BRANCH, PUBLISHED_BRANCH) if name in branches]
    before = [each for each in kept if each is not None and left and each.sequence_number < left[-1].sequence_number]
    return [*left, *sorted(before, key=lambda each: each.sequence_number, reverse=True)]


def keep_left_out(told: Skips, window: Window, count: Callable[[Window], int]) -> Skips:
    """What may be brought after a person has taken a table as it is, because its history cannot say what it holds.

    Of a range that the table holds no row of, none can be brought twice, whatever has become of the snapshot that says
    so: neither of one that was left out, nor of one that was brought and rolled back. All other ranges are dropped.

    :param told: on the column that windows are cut on
    :param window: what the table is taken to hold; whatever lies above it is moved by the next windows
    :param count: how many rows the table holds of a range
    """
    emptied = [each for each in told.filled if each.rows and not count(each)]
    left_out = merge(each for each in intersect([*told.left_out, *emptied], window) if not count(each))
    return Skips(left_out, tuple(each for each in told.filled if each not in emptied))


def decide_backfill(
    table: str, backfill_id: BackfillId, cut_on: str, table_uuid: str, published: Published | None, skips: Skips
) -> PublishDecision:
    """Whether a range may be brought on top of what a chain of snapshots holds.

    :param cut_on: the column whose times the range's bounds are
    :param table_uuid: of the table as it is now
    :param published: newest window of the chain
    :param skips: of the chain
    :raises StaleWindow: if it has to be planned anew
    """
    window = backfill_id.window
    if table_uuid != backfill_id.table_uuid:
        raise _stale(table, window, "the cold table was dropped and recreated since")
    if published is not None and published.snapshot.cut_on not in (None, cut_on):
        raise _stale(table, window, f"windows are cut on '{published.snapshot.cut_on}' by now")
    if covers(skips.filled, window):
        return PublishDecision.ALREADY_PUBLISHED
    if published is None or not covers(skips.left_out, window):
        raise _stale(table, window, "not all of it is left out in the cold table any more")
    return PublishDecision.PUBLISH


def check_no_fewer_left(table: str, window: Window, source_rows: int, planned_rows: int) -> None:
    """As :func:`k2_offload.core.exactly_once.check_not_fewer`, of a range that was skipped.

    :raises AuditFailed: if the source shows fewer rows than a moment ago
    """
    if source_rows < planned_rows:
        raise AuditFailed(
            f"{table} {window}: ClickHouse shows {source_rows} rows of this skipped range, and showed {planned_rows} "
            "when it was planned: a replica may lag, or its TTL has come to the range. Nothing was changed. "
            f"`k2 backfill {table}` counts it anew, and brings what is there."
        )


def audit_backfill(table: str, window: Window, *, staged_rows: int, source_rows: int, planned_rows: int) -> None:
    """Rows staged = rows in the source, and those are no fewer than when the range was planned.

    :raises AuditFailed: otherwise
    """
    check_no_fewer_left(table, window, source_rows, planned_rows)
    if staged_rows != source_rows:
        raise AuditFailed(
            f"{table} {window}: {staged_rows} rows of this skipped range were staged but ClickHouse counts "
            f"{source_rows}. Nothing was changed and no row is lost; the retry exports it again."
        )


def _stale(table: str, window: Window, reason: str) -> StaleWindow:
    return StaleWindow(
        f"{table} {window}: {reason}. Nothing was changed and no row is lost: `k2 backfill {table}` plans anew."
    )
