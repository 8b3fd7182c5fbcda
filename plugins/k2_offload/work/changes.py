"""What has become of a cold table, for whoever wants to be told: read off its snapshots."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from k2_offload.adapters.cold_table import ColdTable
from k2_offload.adapters.snapshot_chain import SnapshotEntry
from k2_offload.core.backfill import BackfillId
from k2_offload.core.day_comparison import day_window, days_window
from k2_offload.core.exactly_once import Published, Snapshot
from k2_offload.core.heal import HealId
from k2_offload.core.seals import Seal
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import Window
from k2_offload.work.tiers import Tiers


@dataclass(frozen=True)
class Change:
    """One snapshot that readers see now, or a seal of it.

    :param kind: ``window``, ``heal``, ``backfill``, ``rewrite`` (no row is another) or ``seal`` (nothing is)
    :param window: which rows, half-open; of a day, that day
    :param rows: in the files that it added; of a seal, those of the day
    :param size_bytes: of these files
    :param location: URI of the cold table's folder
    """

    table: TableSpec
    kind: str
    window: Window
    rows: int
    size_bytes: int
    snapshot_id: int
    location: str


def remember(found: dict[int, Change], table: TableSpec) -> Callable[[ColdTable, Published], None]:
    """What puts a window that readers see now into ``found`` by its snapshot: once, however often it is seen."""

    def seen(cold: ColdTable, published: Published) -> None:
        shot = published.snapshot
        found[shot.snapshot_id] = _change(table, cold, "window", published.window_id.window, shot)

    return seen


def sealed(table: TableSpec, seal: Seal) -> Change:
    """A day that is sealed."""
    return Change(table, "seal", day_window(seal.day), seal.rows, 0, seal.snapshot_id, "")


def find_changes(tiers: Tiers, table: TableSpec, wanted: Collection[str]) -> Iterator[Change]:
    """The heals and backfills that readers see, of those that are asked for.

    :param wanted: identities, as text
    :raises OffloadError: if the table cannot be looked at
    """
    for cold, entry in _seen(tiers, table):
        shot = entry.snapshot
        if shot.heal in wanted and (heal := HealId.parse(shot.heal)) is not None:
            yield _change(table, cold, "heal", day_window(heal.day), shot)
        if shot.backfill in wanted and (filled := BackfillId.parse(shot.backfill)) is not None:
            yield _change(table, cold, "backfill", filled.window, shot)


def find_rewrites(tiers: Tiers, table: TableSpec, known: Collection[int]) -> Iterator[Change]:
    """The rewrites of maintenance that readers see.

    :param known: snapshots that were there before
    :raises OffloadError: if the table cannot be looked at
    """
    for cold, entry in _seen(tiers, table):
        if (days := entry.rewritten_days) and entry.snapshot.snapshot_id not in known:
            window = days_window(days[0], days[-1])
            yield _change(table, cold, "rewrite", window, entry.snapshot)


def seen_snapshots(tiers: Tiers, table: TableSpec) -> frozenset[int]:
    """All snapshots that readers see now, or have seen.

    :raises OffloadError: if the table cannot be looked at
    """
    return frozenset(entry.snapshot.snapshot_id for _, entry in _seen(tiers, table))


def _seen(tiers: Tiers, table: TableSpec) -> Iterator[tuple[ColdTable, SnapshotEntry]]:
    if (cold := tiers.load_cold(table)) is not None:
        yield from ((cold, each) for each in reversed(cold.chain.latest()) if each.visible)


def _change(table: TableSpec, cold: ColdTable, kind: str, window: Window, shot: Snapshot) -> Change:
    return Change(table, kind, window, shot.rows, shot.size_bytes, shot.snapshot_id, cold.location)
