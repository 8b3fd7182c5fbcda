"""Why a day of the cold table may be replaced beside everything else. The argument, and every rule that it needs.

A heal replaces what the cold table holds of one day by what the warm tier holds of it now. It was compared with one
snapshot, B, and takes only rows below the watermark that is read off B. Its own snapshot H removes exactly the files
that B holds of that day, by name, and adds new ones. So:

1. *It is no window.* H says :data:`HEAL_PROPERTY`, never ``wap.id``: whoever looks for the newest window passes H over
   (:func:`k2_offload.core.exactly_once.find_published`), so the watermark stays where the last window ended. The branch
   ``k2_published`` stays at the last window. H names that window (``k2.follows``), and a branch of its own points at H:
   so that row totals lead from one to the other when expiry has removed what lies between.
2. *B is an ancestor of H* (:func:`check_swap`). Everything that was committed between them is in H's chain and can be
   looked at: later windows, which begin at or above B's watermark and so hold no row of the heal, as long as they are
   cut on the same column, and no person has taken the table as it is (that window begins before all others); other
   heals and compactions, which matter only if they have removed one of B's files.
3. *No heal of that day lies between, and all of B's files of the day are still there*, in H's parent. If one has gone,
   the day was replaced or compacted meanwhile: nothing is done, and the day is compared anew. So a heal that is done
   twice, at the same time or by a forgotten process, changes nothing the second time, also where B holds no file of the
   day. Files that have come since are not B's, and stay. A delete file that has come for one of B's files stops it too.
4. *Audit.* The files added hold the very rows that the comparison saw, by number and content hash. What the comparison
   allowed (:meth:`k2_offload.core.day_comparison.DayComparison.obstacle`) was allowed for those rows.
5. *Publish.* One atomic commit moves main from H's parent to H, and from nowhere else: if main has moved, H is staged
   anew on top, and steps 2 and 3 are taken again.

H therefore holds, of that day: the warm tier's rows below B's watermark, each once, and what later windows brought. The
chain of windows is the same as without H. A rollback below H takes the heal away as a whole, and the next comparison
finds the difference again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date

from k2_offload.core.day_comparison import day_window
from k2_offload.core.errors import StaleWindow
from k2_offload.core.exactly_once import (
    ATTEMPT_PROPERTY,
    FIRST_WATERMARK,
    FOLLOWS_PROPERTY,
    HEAL_PROPERTY,
    Snapshot,
    WindowId,
    signed,
)
from k2_offload.core.skips import Skips
from k2_offload.core.windows import Window


@dataclass(frozen=True)
class HealId:
    """Names one day of one incarnation of a cold table, and the snapshot that it was compared with."""

    table_uuid: str
    day: date
    compared_snapshot: int

    def __str__(self) -> str:
        return f"k2-heal/{self.table_uuid}/{self.day.isoformat()}/{self.compared_snapshot}"

    @staticmethod
    def parse(text: str | None) -> HealId | None:
        """The inverse of ``str``; ``None`` for any other text."""
        try:
            prefix, table_uuid, day, snapshot = (text or "").split("/")
            return HealId(table_uuid, date.fromisoformat(day), int(snapshot)) if prefix == "k2-heal" else None
        except ValueError:
            return None


@dataclass(frozen=True)
class HealStamp:
    """What a heal's snapshot says of itself, in its summary.

    :param follows: the newest window among the snapshot's ancestors
    :param attempt: unique; names one attempt's files and its snapshot
    :param skips: those of the snapshot's ancestors, passed on
    :param ledger_id: of the ledger that planned it
    """

    heal_id: HealId
    follows: WindowId
    attempt: str
    skips: Skips
    ledger_id: str | None

    @property
    def window(self) -> Window:
        """The day that it heals."""
        return day_window(self.heal_id.day)

    @property
    def wap_id(self) -> str:
        """For Spark's writer, which stages only what has one; no window's identity."""
        return str(self.heal_id)

    @property
    def summary(self) -> dict[str, str]:
        """Keys and values as they stand in the snapshot's summary."""
        own = {HEAL_PROPERTY: str(self.heal_id), FOLLOWS_PROPERTY: str(self.follows), ATTEMPT_PROPERTY: self.attempt}
        return own | signed(self.ledger_id) | self.skips.summary


def check_swap(
    table: str,
    heal_id: HealId,
    cut_on: str,
    files: Collection[str],
    *,
    table_uuid: str,
    parent: int | None,
    parent_files: Collection[str],
    snapshot_of: Callable[[int], Snapshot | None],
) -> None:
    """Whether a heal may be put on top of a snapshot.

    :param cut_on: the column that windows were cut on when the day was compared
    :param files: to be removed
    :param table_uuid: of the table as it is now
    :param parent: the snapshot that the heal's own is made on
    :param parent_files: what the parent holds of the day
    :param snapshot_of: the snapshot of an id, ``None`` once expired
    :raises StaleWindow: if not; the day has to be compared anew
    """
    if table_uuid != heal_id.table_uuid:
        raise _stale(table, heal_id, "the cold table was dropped and recreated since")
    current, is_taken = parent, False
    while current != heal_id.compared_snapshot:
        snapshot = snapshot_of(current) if current is not None else None
        if snapshot is None:
            raise _stale(table, heal_id, "the snapshot that it was compared with is no ancestor of main any more")
        healed = HealId.parse(snapshot.heal)
        if healed is not None and healed.day == heal_id.day:
            raise _stale(table, heal_id, "this day was healed meanwhile")
        is_taken |= snapshot.window_id is not None and snapshot.window_id.window.low <= FIRST_WATERMARK
        if snapshot.window_id is not None and snapshot.cut_on not in (None, cut_on):
            raise _stale(table, heal_id, f"windows are cut on '{snapshot.cut_on}' by now")
        current = snapshot.parent_id
    if is_taken:
        raise _stale(table, heal_id, "a person has taken the table as it is meanwhile")
    if not set(files) <= set(parent_files):
        raise _stale(table, heal_id, "files of that day were replaced meanwhile")


def audit_heal(
    table: str, heal_id: HealId, *, staged_rows: int, staged_hash: int, planned_rows: int, planned_hash: int
) -> None:
    """The files that were written hold the rows that the comparison saw.

    :raises StaleWindow: otherwise; another attempt with the same plan would find the same
    """
    if (staged_rows, staged_hash) != (planned_rows, planned_hash):
        other = ", with another content" if staged_rows == planned_rows else ""
        raise _stale(
            table,
            heal_id,
            f"ClickHouse shows {staged_rows} rows, and {planned_rows} were compared{other}: rows have come or gone "
            "meanwhile",
        )


def _stale(table: str, heal_id: HealId, reason: str) -> StaleWindow:
    return StaleWindow(
        f"{table} {heal_id.day}: {reason}. Nothing was changed and no row is lost: the next comparison looks at "
        "the day anew."
    )
