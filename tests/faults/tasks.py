"""Tasks in a process of their own, with faults armed, as Airflow runs them: plan, commit, sealing; and ``k2 adopt``."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import datetime
from functools import cache
from unittest.mock import patch

from k2_offload.core import fault_points
from k2_offload.core.errors import Unreachable
from k2_offload.core.fault_points import FaultPoint
from k2_offload.work.adoption import adopt, look
from k2_offload.work.retention import remove_proven
from k2_offload.work.seals import seal_days
from tests.faults.hook import Fault, Faults, InjectedFault, Kind
from tests.support import build_cycle

_SECONDS = 60


@cache
def _forks():
    """A process that has imported what tasks need, and forks one for each task."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preload"])
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))):
        multiprocessing.forkserver.ensure_running()
    return context


def run_task(task: str, fault: Fault, tables: str, names: Sequence[str], now: datetime) -> int | None:
    """Run ``plan``, ``commit``, ``adopt``, ``seal`` or ``remove`` of some tables and let the fault happen.

    A task that hangs is killed, as Airflow does when the execution timeout has passed.

    :param tables: the table file
    :returns: the exit code; ``None`` if the task ended without coming to the fault
    """
    context = _forks()
    happened = context.Event()
    process = context.Process(target=_task, args=(task, fault, tables, names, now, happened))
    process.start()
    while process.is_alive() and not happened.wait(0.1):
        pass
    if fault.kind is Kind.HANG:
        process.kill()
    process.join(_SECONDS)
    assert process.exitcode is not None, f"{task} of {fault.table} did not end"
    return process.exitcode if happened.is_set() else None


def _task(task, fault, tables, names, now, happened):
    fault_points.arm(Faults([fault], _lose_reply, announce=lambda _: happened.set()))
    with ExitStack() as resources:
        cycle = build_cycle(resources, now, tables, f"with fault {fault.kind}")
        try:
            for name in names:
                _run(cycle, task, cycle.tables[name])
        except (InjectedFault, Unreachable):
            sys.exit(1)


def _run(cycle, task, table):
    match task:
        case "plan":
            cycle.plan(table)
        case "commit":
            cycle.commit(table)
        case "adopt":
            adopt(cycle.tiers, look(cycle.tiers, table))
        case "seal":
            seal_days(cycle.tiers, [table])
        case "remove":
            remove_proven(cycle.tiers, [table])


def _lose_reply(point):
    of_catalog = point in (FaultPoint.COLD_TABLE_CREATED, FaultPoint.COLUMNS_CHANGED, FaultPoint.SEALED_IN_LAKE)
    service = "The Iceberg catalog" if of_catalog else "Postgres (the ledger)"
    raise Unreachable(service, "test", "the reply was lost")
