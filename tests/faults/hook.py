"""Faults at named points, and the hook that lets them happen. Needs nothing but the core: it also runs in the job."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum

from k2_offload.core.fault_points import FaultPoint


class Kind(StrEnum):
    KILL = "kill"
    RAISE = "raise"
    HANG = "hang"
    LOSE_REPLY = "lose the reply"
    # Not faults, but what else may happen at a point:
    WAIT = "wait"  # until the test wakes it: a zombie
    INTERFERE = "interfere"  # another writer commits to the table


PLAN_POINTS = (
    FaultPoint.PLAN_STARTED,
    FaultPoint.COLD_TABLE_CREATED,
    FaultPoint.WINDOW_WRITTEN,
    FaultPoint.WINDOW_OPENED,
)
JOB_POINTS = (
    FaultPoint.JOB_STARTED,
    FaultPoint.FILE_EXPORTED,
    FaultPoint.STAGED,
    FaultPoint.AUDITED,
    FaultPoint.ANCESTORS_CHECKED,
    FaultPoint.STAGED_AGAIN,
    FaultPoint.PUBLISHED,
)
AFTER_FAILED_AUDIT = (FaultPoint.DROPPED,)
"""Points of the job that it reaches only if an audit fails."""
MAINTENANCE_POINTS = (
    FaultPoint.MAINTENANCE_STARTED,
    FaultPoint.REWRITE_STARTED,
    FaultPoint.REWRITTEN,
    FaultPoint.STAGED,
    FaultPoint.REWRITE_AUDITED,
    FaultPoint.REWRITE_STAGED_AGAIN,
    FaultPoint.REWRITE_PUBLISHED,
    FaultPoint.EXPIRED,
    FaultPoint.ORPHANS_FOUND,
    FaultPoint.ORPHANS_REMOVED,
)
SEAL_POINTS = (FaultPoint.SEAL_COMPARED, FaultPoint.SEALED_IN_LAKE, FaultPoint.SEALED)
REMOVAL_POINTS = (
    FaultPoint.REMOVAL_PROVEN,
    FaultPoint.REMOVAL_RECORDED,
    FaultPoint.REMOVAL_TAGGED,
    FaultPoint.REMOVAL_MOVED,
    FaultPoint.REMOVAL_HELD,
    FaultPoint.DROP_RECORDED,
    FaultPoint.REMOVAL_DROPPED,
    FaultPoint.REMOVAL_ENDED,
)
COMMIT_POINTS = (FaultPoint.COMMIT_STARTED, FaultPoint.WATERMARK_WRITTEN, FaultPoint.COMMITTED)

EFFECTS = (
    FaultPoint.COLD_TABLE_CREATED,
    FaultPoint.COLUMNS_CHANGED,
    FaultPoint.WINDOW_OPENED,
    FaultPoint.FILE_EXPORTED,
    FaultPoint.STAGED,
    FaultPoint.DROPPED,
    FaultPoint.PUBLISHED,
    FaultPoint.COMMITTED,
    FaultPoint.REWRITE_PUBLISHED,
    FaultPoint.EXPIRED,
    FaultPoint.BACKFILLED,
    FaultPoint.SEALED_IN_LAKE,
    FaultPoint.SEALED,
)
"""Points that follow an effect in another process, whose reply can be lost."""


class InjectedFault(RuntimeError):
    """What ``Kind.RAISE`` raises: an error that nobody expects."""


@dataclass(frozen=True)
class Fault:
    """Something that happens once, when a table reaches a point for the ``hit``-th time (counted from 1)."""

    point: FaultPoint
    kind: Kind
    table: str
    hit: int = 1

    def to_json(self):
        return asdict(self)

    @staticmethod
    def from_json(values: Mapping[str, object]):
        return Fault(FaultPoint(values["point"]), Kind(values["kind"]), values["table"], values["hit"])


def kinds_at(point: FaultPoint) -> list[Kind]:
    """The faults that can happen at a point."""
    return [Kind.KILL, Kind.RAISE, Kind.HANG, *([Kind.LOSE_REPLY] if point in EFFECTS else [])]


def faults_at(point: FaultPoint, kind: Kind, table: str, hit: int = 1) -> list[Fault]:
    """One fault; where it comes after staging again, with the other writer that makes that happen."""
    interference = [Fault(FaultPoint.ANCESTORS_CHECKED, Kind.INTERFERE, table)]
    return [*(interference if point is FaultPoint.STAGED_AGAIN else []), Fault(point, kind, table, hit)]


class Faults:
    """The hook for :func:`k2_offload.core.fault_points.arm`.

    :param lose_reply: raises what the code sees when the reply to the effect before the point is lost
    :param interfere: commits to a table as another writer
    :param awake: whether what waits may go on
    :param announce: told of each fault just before it happens
    """

    def __init__(
        self,
        faults: Sequence[Fault],
        lose_reply: Callable[[FaultPoint], None],
        interfere: Callable[[str], None] | None = None,
        awake: Callable[[], bool] | None = None,
        announce: Callable[[Fault], None] | None = None,
    ):
        self._faults = faults
        self._lose_reply = lose_reply
        self._interfere = interfere
        self._awake = awake
        self._announce = announce or _print
        self._hits: dict[tuple[FaultPoint, str], int] = {}
        self._lock = threading.Lock()

    def __call__(self, point: FaultPoint, table: str) -> None:
        with self._lock:
            hit = self._hits[point, table] = self._hits.get((point, table), 0) + 1
        for fault in self._faults:
            if (fault.point, fault.table, fault.hit) == (point, table, hit):
                self._announce(fault)
                self._happen(fault)

    def _happen(self, fault: Fault) -> None:
        match fault.kind:
            case Kind.KILL:
                os.kill(os.getpid(), signal.SIGKILL)
            case Kind.RAISE:
                raise InjectedFault(f"at '{fault.point}' of {fault.table}")
            case Kind.HANG:
                time.sleep(3600)
            case Kind.LOSE_REPLY:
                self._lose_reply(fault.point)
            case Kind.WAIT:
                while not self._awake():
                    time.sleep(0.05)
            case Kind.INTERFERE:
                self._interfere(fault.table)


def _print(fault: Fault) -> None:
    # One write: several threads print, and print() writes the end of the line by itself.
    print(f"FAULT {fault.kind} at '{fault.point}' of {fault.table}\n", end="", flush=True)
