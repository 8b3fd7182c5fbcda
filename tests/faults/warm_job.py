"""The job in an application that stays up, with faults armed anew for each plan.

For spark-submit, started by :mod:`tests.soak.jobs` and the workbench. It announces each fault as an event, just before
it happens.
"""

from __future__ import annotations

import io
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest.mock import patch

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "include" / "spark_jobs"))

from embedded.warm_application import WarmApplication, serve
from k2_offload.core import fault_points
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.plan import Plan
from offload_job import application
from offload_job.application import Job, run
from tests.faults import job as faulty
from tests.faults.hook import Fault, Faults

_PARALLEL_TABLES = 4


class FaultyApplication(WarmApplication):
    def make_job(self):
        self.jvm = faulty.start_jvm()
        return Job(self.connections, self.jvm)

    def maintain_with_faults(self, plan, faults):
        """Tidy the tables of a plan; an empty list of faults takes them away."""
        self._arm(faults)
        return self.maintain(plan)

    def _arm(self, faults, awake=None, *, on_screen=False):
        hook = Faults(
            [Fault.from_json(fault) for fault in faults],
            faulty.lose_reply,
            faulty.interfere,
            awake=awake,
            announce=None if on_screen else lambda fault: self.tell(str(fault.kind)),
        )
        fault_points.arm(hook if faults else None)

    def move_with_faults(self, plan, faults, wake_file, copies):
        """Move a plan, several times at once; whether all of it is published."""
        self._arm(faults, Path(wake_file).exists)
        plans = [Plan.from_json(plan)] * copies
        with ThreadPoolExecutor(copies) as pool:
            return all(list(pool.map(lambda each: run(self.job, each, _PARALLEL_TABLES), plans)))

    def main(self, arguments, connections, faults, wake_file):
        """The job as its command line runs it, with connections of its own; what it prints comes as events.

        :returns: the exit code
        """
        self._arm(faults, Path(wake_file).exists, on_screen=True)
        printed = _Printed(self.tell)
        with (
            redirect_stdout(printed),
            redirect_stderr(printed),
            patch.object(sys, "argv", ["offload.py", *arguments]),
            patch.dict(os.environ, {JobConnections.VARIABLE: connections}),
            patch.object(application, "end_with_parent"),
            _catalogs_closed(),
        ):
            try:
                return application.main(lambda: self.jvm)
            finally:
                fault_points.arm(None)


class _Printed(io.TextIOBase):
    """A screen whose every piece is told."""

    def __init__(self, tell):
        self._tell = tell

    def write(self, text):
        self._tell(text)
        return len(text)


@contextmanager
def _catalogs_closed():
    """Close what a job leaves to the end of its process."""
    connect = application.open_catalog
    with ExitStack() as opened:

        def open_catalog(jvm, settings):
            catalog = connect(jvm, settings)
            opened.callback(catalog.close)
            return catalog

        with patch.object(application, "open_catalog", open_catalog):
            yield


if __name__ == "__main__":
    serve(FaultyApplication)
