"""The real job in a process that stays: starting a virtual machine for each of two thousand plans would take hours.

An application for spark-submit. It is told over a connection what to move and which faults to let happen, and answers
``("fault", kind)`` when one does and ``("done", success)`` at the end.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Client
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "include" / "spark_jobs"))

import offload  # noqa: F401 - finds the package
from k2_offload.core import fault_points
from k2_offload.core.connections import JobConnections
from k2_offload.core.plan import Plan
from offload_job.application import Job, run
from offload_job.jvm import end_with_parent
from tests.faults import job as faulty
from tests.faults.hook import Fault, Faults

_PARALLEL_TABLES = 4


def serve(connection, job):
    while True:
        request = connection.recv()
        faults = Faults(
            [Fault.from_json(values) for values in request["faults"]],
            faulty.lose_reply,
            faulty.interfere,
            awake=Path(request["wake_file"]).exists,
            announce=lambda fault: connection.send(("fault", str(fault.kind))),
        )
        fault_points.arm(faults)
        plan = Plan.from_json(request["plan"])
        with ThreadPoolExecutor(request["copies"]) as pool:
            done = list(pool.map(lambda _: run(job, plan, _PARALLEL_TABLES), range(request["copies"])))  # noqa: B023
        connection.send(("done", all(done)))


if __name__ == "__main__":
    end_with_parent()
    job = Job(JobConnections.from_json(os.environ[JobConnections.VARIABLE]), faulty.start_jvm())
    try:
        serve(Client(os.environ["K2_SOAK_SOCKET"], authkey=bytes.fromhex(os.environ["K2_SOAK_KEY"])), job)
    except EOFError:
        sys.exit(0)
