"""``plan`` and ``commit`` in a process of their own, with faults armed, as Airflow runs each task."""

from __future__ import annotations

import multiprocessing.forkserver
import os
import sys
from contextlib import ExitStack
from datetime import datetime
from functools import cache
from unittest.mock import patch

from k2_offload.core import fault_points
from k2_offload.core.errors import Unreachable
from k2_offload.core.fault_points import FaultPoint
from tests.faults.hook import Fault, Faults, Kind

_SECONDS = 60


@cache
def _forks():
    """A process that has imported what tasks need, and forks one for each task."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.faults.preload"])
    with patch.dict(os.environ, PYTHONPATH=os.pathsep.join(filter(None, sys.path))):
        multiprocessing.forkserver.ensure_running()
    return context


def run_task(build, task: str, fault: Fault | None, table: str, now: datetime) -> int | None:
    """Run ``plan`` or ``commit`` of one table; returns the exit code.

    A task that hangs is killed, as Airflow does when the execution timeout has passed.

    :param build: picklable; ``build(resources, now)`` gives the cycle
    """
    context = _forks()
    happened = context.Event()
    process = context.Process(target=_task, args=(build, task, fault, table, now, happened))
    process.start()
    if fault is not None:
        assert happened.wait(_SECONDS), f"{task} of {table} never came to '{fault.point}'"
        if fault.kind is Kind.HANG:
            process.kill()
    process.join(_SECONDS)
    assert process.exitcode is not None, f"{task} of {table} did not end"
    return process.exitcode


def _task(build, task, fault, table, now, happened):
    faults = Faults([fault] if fault else [], _lose_reply, announce=lambda _: happened.set())
    fault_points.arm(faults)
    with ExitStack() as resources:
        cycle = build(resources, now)
        {"plan": cycle.plan, "commit": cycle.commit}[task](cycle.tables[table])


def _lose_reply(point):
    service = "The Iceberg catalog" if point is FaultPoint.COLD_TABLE_CREATED else "Postgres (the ledger)"
    raise Unreachable(service, "test", "the reply was lost")
