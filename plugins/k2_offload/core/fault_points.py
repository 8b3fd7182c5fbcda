"""Names the moments at which a cycle may die, so that tests can let it die there.

Between every two durable steps of a cycle lies one point, and one lies before the first. The code calls
:func:`reached` at each; nothing happens then unless a test has put a hook there with :func:`arm`. No setting, variable
or argument of the product does that.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class FaultPoint(StrEnum):
    """Where a table stands in its cycle, in the order in which the points are reached."""

    PLAN_STARTED = "plan started"
    COLD_TABLE_CREATED = "cold table created"
    COLUMNS_CHANGED = "columns of the cold table changed"
    WINDOW_WRITTEN = "window written, not yet committed to the ledger"
    WINDOW_OPENED = "window opened in the ledger"
    JOB_STARTED = "job started"
    FILE_EXPORTED = "file exported"
    STAGED = "staged"
    DROPPED = "staged snapshot dropped after its audit has failed"
    AUDITED = "audited"
    ANCESTORS_CHECKED = "ancestors checked"
    STAGED_AGAIN = "staged again"
    PUBLISHED = "published"
    COMMIT_STARTED = "commit started"
    WATERMARK_WRITTEN = "watermark written, not yet committed to the ledger"
    COMMITTED = "watermark committed to the ledger"

    HEAL_STARTED = "heal started"
    HEAL_AUDITED = "heal audited"
    SWAP_STAGED = "swap staged"
    HEALED = "healed"

    BACKFILL_STARTED = "backfill started"
    BACKFILL_AUDITED = "backfill audited"
    BACKFILL_CHECKED = "ancestors of a backfill checked"
    BACKFILL_STAGED_AGAIN = "backfill staged again"
    BACKFILLED = "backfilled"

    SEAL_COMPARED = "day compared to be sealed"
    SEALED_IN_LAKE = "sealed in the lake"
    SEALED = "seal recorded in the ledger"

    REMOVAL_PROVEN = "partition compared with its seals"
    REMOVAL_RECORDED = "on record that a partition is to be moved"
    REMOVAL_TAGGED = "verified snapshots tagged"
    REMOVAL_MOVED = "partition moved to the holding table"
    REMOVAL_HELD = "partition held"
    RETURN_RECORDED = "on record that a partition is to be moved back"
    RETURNED = "partition moved back"
    DROP_RECORDED = "on record that a partition is to be dropped"
    REMOVAL_DROPPED = "held partition dropped"
    REMOVAL_ENDED = "record of a partition ended"

    MAINTENANCE_STARTED = "maintenance started"
    REWRITE_STARTED = "rewrite started"
    REWRITTEN = "files of a day rewritten"
    REWRITE_AUDITED = "rewrite audited"
    REWRITE_STAGED_AGAIN = "rewrite staged again"
    REWRITE_PUBLISHED = "rewrite published"
    EXPIRED = "snapshots expired"
    ORPHANS_FOUND = "orphan files found"
    ORPHANS_REMOVED = "orphan files removed"


Hook = Callable[[FaultPoint, str], None]
"""Called with the point and the table's name; may raise, sleep or end the process."""

_hook: Hook | None = None


def arm(hook: Hook | None) -> None:
    """Let a test's hook see every point from now on; ``None`` takes it away."""
    global _hook  # noqa: PLW0603 - one process, one hook
    _hook = hook


def reached(point: FaultPoint, table: str) -> None:
    """Say that a table's cycle has come to this point."""
    if _hook is not None:
        _hook(point, table)
