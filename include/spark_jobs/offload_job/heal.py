"""Heals one day: stage → audit → swap, in the order that :mod:`k2_offload.core.heal` asks for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

from k2_offload.core.day_comparison import day_window
from k2_offload.core.day_queries import hash_of_files
from k2_offload.core.errors import OffloadError, StaleWindow
from k2_offload.core.exactly_once import HEALED_BRANCH
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.heal import HealId, HealStamp, audit_heal, check_swap
from k2_offload.core.limits import PUBLISH_ATTEMPTS
from k2_offload.core.plan import PlannedHeal
from k2_offload.core.splits import split_days
from offload_job.publishing import MAIN, publish_between
from offload_job.steps import Steps
from offload_job.transport import check_source, text_checked

if TYPE_CHECKING:
    from k2_offload.adapters.clickhouse import ClickHouse
    from k2_offload.core.exactly_once import Snapshot, WindowId
    from k2_offload.core.skips import Skips
    from offload_job.cold_table_writer import ColdTableWriter
    from offload_job.swap import Swap
    from offload_job.transport import Transport

log = logging.getLogger(__name__)


def heal(
    planned: PlannedHeal,
    heal_id: HealId,
    cold: ColdTableWriter,
    swap: Swap,
    clickhouse: ClickHouse,
    transport: Transport,
    lake_collection: str,
    new_attempt: Callable[[], str],
) -> Snapshot:
    """Replace what the cold table holds of a day. Any number of processes may try that at once, and any of them die.

    :param lake_collection: ClickHouse named collection of the lake's object store
    :param new_attempt: gives a name that was never used before
    :returns: the snapshot that is now part of main
    :raises StaleWindow: if the day has to be compared anew
    :raises OffloadError: if nothing was changed by this call
    """
    steps = Steps(log, planned.table, day_window(heal_id.day), heal_id.day)
    reached(FaultPoint.HEAL_STARTED, planned.table)
    cold.check_columns(planned.columns)
    checked = _check(planned, heal_id, cold, swap, cold.head)
    splits = split_days(clickhouse.rows_per_slot(planned.rows_per_slot_sql), planned.max_file_rows)
    _audit(planned, heal_id, sum(split.rows for split in splits), planned.content_hash)
    with text_checked(f"{planned.table} {heal_id.day}"):
        staged = transport.stage(clickhouse, cold, planned, splits, _stamp(planned, heal_id, checked, new_attempt()))
    numbers = {"rows": staged.rows, "bytes": staged.size_bytes}
    steps.done("stage", f"staged {staged.rows} rows, {staged.size_bytes} bytes", **numbers)
    try:
        added = swap.added(staged.snapshot_id)
        [(rows, content)] = clickhouse.execute(hash_of_files(planned.columns, added, lake_collection))
        _audit(planned, heal_id, rows, content)
        check_source(clickhouse, planned, f"{planned.table} {heal_id.day}")
    except StaleWindow:
        cold.discard(staged.snapshot_id)
        raise
    steps.done("audit", f"audited {staged.rows} rows, by count and content", **numbers)
    reached(FaultPoint.HEAL_AUDITED, planned.table)
    for _ in range(PUBLISH_ATTEMPTS):
        swapped = swap.stage(
            planned.files, heal_id, staged.snapshot_id, _stamp(planned, heal_id, checked, new_attempt())
        )
        reached(FaultPoint.SWAP_STAGED, planned.table)
        cold.check_columns(planned.columns)
        cold.check_stored(swapped.snapshot_id)
        said, checked = checked, _check(planned, heal_id, cold, swap, cold.parent_of(swapped.snapshot_id))
        if said == checked and publish_between(cold, swapped.snapshot_id, (MAIN, HEALED_BRANCH), FaultPoint.HEALED):
            return swapped
    raise OffloadError(
        f"{planned.table} {heal_id.day}: other writers committed to the cold table {PUBLISH_ATTEMPTS} times in a row "
        "while this day was being healed. Nothing was changed and no row is lost; the next comparison looks at it anew."
    )


def _check(
    planned: PlannedHeal,
    heal_id: HealId,
    cold: ColdTableWriter,
    swap: Swap,
    parent: int | None,
) -> tuple[WindowId, Skips]:
    """Whether the heal may be put on top of a snapshot.

    :returns: the newest window among that snapshot and its ancestors, and what is left out there
    """
    check_swap(
        planned.table,
        heal_id,
        planned.cut_on,
        planned.files,
        table_uuid=cold.uuid,
        parent=parent,
        parent_files=swap.files(parent) if parent is not None else (),
        snapshot_of=cold.snapshot,
    )
    published = cold.published(parent)
    if published is None:
        raise OffloadError(f"{planned.table}: the cold table holds no window any more. Nothing was changed.")
    return published.window_id, cold.skips(parent)


def _stamp(planned: PlannedHeal, heal_id: HealId, checked: tuple[WindowId, Skips], attempt: str) -> HealStamp:
    follows, skips = checked
    return HealStamp(heal_id, follows, attempt, skips, planned.ledger_id)


def _audit(planned: PlannedHeal, heal_id: HealId, rows: int, content: int) -> None:
    audit_heal(
        planned.table,
        heal_id,
        staged_rows=rows,
        staged_hash=content,
        planned_rows=planned.rows,
        planned_hash=planned.content_hash,
    )
