"""What a cold table's list of snapshots says beside its windows: what is staged and left, and how many files it has."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import date, datetime


@dataclass(frozen=True)
class HistoryEntry:
    """One snapshot, as a table's metadata lists it.

    :param brings_window: whether it holds a window that was offloaded
    :param rewrites: the days whose files it replaced by others with the same rows
    :param more_files: data files that it added, less those that it removed; of ``more_bytes`` together
    :param total_files: data files of the table with it, of ``total_bytes`` together; ``None`` where it does not say
    """

    parent_id: int | None
    made_at: datetime
    brings_window: bool
    rewrites: tuple[date, ...]
    more_files: int
    more_bytes: int
    total_files: int | None
    total_bytes: int | None


@dataclass(frozen=True)
class Files:
    """Data files, and how large they are together."""

    count: int
    size_bytes: int


@dataclass(frozen=True)
class History:
    """What is left of it.

    :param staged: snapshots that no branch leads to
    :param oldest_staged: when the oldest of them was made
    :param published_at: when the newest window's snapshot was made
    :param today: files of the windows that were staged since midnight (UTC), or of what these were rewritten into
    :param closed: all other files; ``None``, as ``today``, where the table does not say how many it has
    """

    staged: int = 0
    oldest_staged: datetime | None = None
    published_at: datetime | None = None
    today: Files | None = None
    closed: Files | None = None


def read_history(
    entries: Mapping[int, HistoryEntry], main: int | None, branches: Collection[int], now: datetime
) -> History:
    """Look at all snapshots that have not expired.

    :param entries: by the snapshots' ids
    :param main: the snapshot that readers see
    :param branches: the snapshots that branches and tags point at
    """
    chain = _ancestors(entries, main)
    reached = set(chain).union(*(_ancestors(entries, head) for head in branches))
    staged = [entry.made_at for snapshot_id, entry in entries.items() if snapshot_id not in reached]
    windows = [entries[snapshot_id] for snapshot_id in chain if entries[snapshot_id].brings_window]
    head = entries.get(main) if main is not None else None
    today = closed = None
    if head is not None and head.total_files is not None and head.total_bytes is not None:
        midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
        new = [each for each in windows if each.made_at >= midnight]
        new += [entries[each] for each in chain if midnight.date() in entries[each].rewrites]
        today = Files(
            min(sum(each.more_files for each in new), head.total_files),
            min(sum(each.more_bytes for each in new), head.total_bytes),
        )
        closed = Files(head.total_files - today.count, head.total_bytes - today.size_bytes)
    return History(len(staged), min(staged, default=None), windows[0].made_at if windows else None, today, closed)


def _ancestors(entries: Mapping[int, HistoryEntry], head: int | None) -> list[int]:
    """From the head to the oldest that is left."""
    found = []
    while head is not None and head in entries:
        found.append(head)
        head = entries[head].parent_id
    return found
