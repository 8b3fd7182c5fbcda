"""The job in an application that stays up, with faults armed anew for each plan.

For spark-submit, started by :mod:`tests.soak.jobs`. It announces each fault as an event, just before it happens.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "include" / "spark_jobs"))

from embedded.warm_application import WarmApplication, serve
from k2_offload.core import fault_points
from k2_offload.core.plan import Plan
from offload_job.application import Job, run
from tests.faults import job as faulty
from tests.faults.hook import Fault, Faults

_PARALLEL_TABLES = 4


class FaultyApplication(WarmApplication):
    def make_job(self):
        return Job(self.connections, faulty.start_jvm())

    def maintain_with_faults(self, plan, faults):
        """Tidy the tables of a plan; an empty list of faults takes them away."""
        self._arm(faults)
        return self.maintain(plan)

    def _arm(self, faults, awake=None):
        hook = Faults(
            [Fault.from_json(fault) for fault in faults],
            faulty.lose_reply,
            faulty.interfere,
            awake=awake,
            announce=lambda fault: self.tell(str(fault.kind)),
        )
        fault_points.arm(hook if faults else None)

    def move_with_faults(self, plan, faults, wake_file, copies):
        """Move a plan, several times at once; whether all of it is published."""
        self._arm(faults, Path(wake_file).exists)
        plans = [Plan.from_json(plan)] * copies
        with ThreadPoolExecutor(copies) as pool:
            return all(list(pool.map(lambda each: run(self.job, each, _PARALLEL_TABLES), plans)))


if __name__ == "__main__":
    serve(FaultyApplication)
