"""Moves main to a staged snapshot, in one commit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from k2_offload.core.exactly_once import HEALED_BRANCH, PUBLISHED_BRANCH
from k2_offload.core.fault_points import FaultPoint, reached
from offload_job.java_errors import failures_translated, is_conflict, java_errors

if TYPE_CHECKING:
    from offload_job.cold_table_writer import ColdTableWriter

MAIN = "main"


def publish_window(cold: ColdTableWriter, snapshot_id: int) -> bool:
    """Move main, and the marker of the last published window, to a staged snapshot.

    :returns: ``False`` if main is no longer an ancestor of it, or another commit came between: stage again
    """
    try:
        refs = cold.java.manageSnapshots()
        if cold.java.refs().containsKey(PUBLISHED_BRANCH):
            refs = refs.replaceBranch(PUBLISHED_BRANCH, snapshot_id)
        else:
            refs = refs.createBranch(PUBLISHED_BRANCH, snapshot_id)
        if cold.java.refs().containsKey(HEALED_BRANCH):
            refs = refs.removeBranch(HEALED_BRANCH)  # the window's own branch says all now
        refs.fastForwardBranch(MAIN, PUBLISHED_BRANCH).commit()
        reached(FaultPoint.PUBLISHED, cold.name)
    except java_errors() as error:
        return _took_effect(cold, error, lambda: cold.head == snapshot_id)
    return True


def publish_between(cold: ColdTableWriter, snapshot_id: int, branches: Sequence[str], point: FaultPoint) -> bool:
    """Move main from a staged snapshot's parent to the snapshot.

    :param branches: to move with it: of a heal or a backfill, also the branch of the last of those
    :param point: reached when that is done
    :returns: ``False`` if main is somewhere else, or another commit came between: stage again
    """
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415

    operations = cold.java.operations()
    with failures_translated(cold.connection_id):
        cold.java.refresh()
        base = operations.current()
        if base.currentSnapshot().snapshotId() != cold.parent_of(snapshot_id):
            return _is_published(cold, snapshot_id)
    builder = cold.jvm.org.apache.iceberg.TableMetadata.buildFrom(base)
    try:
        for branch in branches:
            builder = builder.setBranchSnapshot(snapshot_id, branch)
        operations.commit(base, builder.build())
        reached(point, cold.name)
    except Py4JJavaError as error:
        return _took_effect(cold, error, lambda: _is_published(cold, snapshot_id))
    return True


def _took_effect(cold: ColdTableWriter, error: Exception, is_there: Callable[[], bool]) -> bool:
    """Whether a commit that has failed is there all the same: then the reply was lost. ``False`` if another came first.

    :param is_there: asked of the table as it is now
    """
    with failures_translated(cold.connection_id):
        cold.java.refresh()
        if is_there():
            return True
        if is_conflict(error):
            return False
        raise error


def _is_published(cold: ColdTableWriter, snapshot_id: int) -> bool:
    current = cold.java.currentSnapshot()
    while current is not None and current.snapshotId() != snapshot_id:
        parent = current.parentId()
        current = cold.java.snapshot(parent) if parent is not None else None
    return current is not None
