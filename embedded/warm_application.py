"""The offload job in a Spark application that stays up and does what it is asked for over a connection.

For spark-submit, started by :class:`embedded.warm_spark.WarmSpark`; runs with Spark's Python.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from functools import cached_property
from multiprocessing.connection import Listener
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "include" / "spark_jobs"))

import offload  # noqa: F401 - finds the package
from k2_offload.adapters.log_lines import print_lines
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.maintenance import Tidied
from k2_offload.core.maintenance_plan import MaintenancePlan
from k2_offload.core.plan import Plan
from offload_job.application import Job, run
from offload_job.jvm import end_with_parent, start_jvm
from offload_job.maintenance import application as maintenance
from offload_job.session import start_session

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Tell = Callable[[object], None]
"""Says something while a method is still at work."""


class WarmApplication:
    """What can be asked for.

    :param tell: sends an event
    """

    def __init__(self, tell: Tell) -> None:
        print_lines()
        self.tell = tell
        self.connections = JobConnections.from_json(os.environ[JobConnections.VARIABLE])
        self.job = self.make_job()

    def make_job(self) -> Job:
        """The job that moves."""
        return Job(self.connections, start_jvm())

    def move(self, plan: str, parallel_tables: int) -> tuple[bool, str]:
        """Move the windows of a plan, as the job does.

        :returns: whether all of them are published now, and what the job printed
        """
        printed = io.StringIO()
        with redirect_stdout(printed), redirect_stderr(printed):
            done = run(self.job, Plan.from_json(plan), parallel_tables)
        return done, printed.getvalue()

    def maintain(self, plan: str) -> list[Tidied]:
        """Tidy the tables of a plan, as the maintenance job does.

        :returns: what was done to each
        """
        return maintenance.run(self._maintenance, MaintenancePlan.from_json(plan))

    @cached_property
    def _maintenance(self) -> maintenance.MaintenanceJob:
        return maintenance.MaintenanceJob(self.connections, start_jvm())

    def sql(self, statement: str) -> list[tuple[Any, ...]]:
        """The rows of a statement, Iceberg's procedures among them."""
        return [tuple(row) for row in self._session.sql(statement).collect()]

    @cached_property
    def _session(self) -> SparkSession:
        # Not cached: others commit behind the session's back.
        return start_session(self.connections.catalog, procedures=True, cached=False)


def serve(make: Callable[[Tell], object]) -> None:
    """Answer until the other side hangs up.

    :param make: the object whose methods are called
    """
    end_with_parent()
    one_at_a_time = Lock()  # events come from several threads
    with Listener(os.environ["K2_WARM_SOCKET"], "AF_UNIX") as listener, listener.accept() as connection:

        def send(kind: str, value: object) -> None:
            with one_at_a_time:
                connection.send((kind, value))

        application = make(lambda event: send("event", event))
        while True:
            try:
                name, arguments = connection.recv()
            except EOFError:
                return
            try:
                answer = getattr(application, name)(*arguments)
            except Exception as error:  # noqa: BLE001 - for the other side to raise
                send("error", f"{type(error).__name__}: {str(error)[:4000]}")
            else:
                send("answer", answer)


if __name__ == "__main__":
    serve(WarmApplication)
