"""Moves plans by jobs that stay up: kills one, leaves one behind as a zombie, and starts the next.

Starting a virtual machine for each of two thousand plans would take hours. The next one starts while one is at work.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

from embedded.warm_spark import SparkDied, WarmSpark
from tests.faults.hook import Kind
from tests.support.workbench import compaction

_APPLICATION = Path(__file__).parents[1] / "faults" / "warm_job.py"
_SECONDS = 180


class WarmJob:
    """One process; ended by closing it."""

    def __init__(self, log):
        self._folder = tempfile.TemporaryDirectory(prefix="k2-soak-")
        self.wake_file = Path(self._folder.name) / "wake"
        self.spark = WarmSpark(log, _APPLICATION, java_options="-XX:TieredStopAtLevel=1")

    def send(self, plan, faults, copies):
        told = [fault.to_json() for fault in faults]
        self.spark.send("move_with_faults", plan, told, str(self.wake_file), copies)

    def next_event(self):
        """``("event", kind)`` of a fault, ``("answer", success)``, or ``("died", None)``."""
        try:
            return self.spark.receive(_SECONDS)
        except SparkDied:
            return "died", None

    def close(self):
        self.spark.close()
        self._folder.cleanup()


class Jobs:
    """Runs plans one after the other, and keeps count of the faults.

    :param log: where the jobs' output goes
    """

    def __init__(self, log):
        self._starter = ThreadPoolExecutor(1)
        self._start = partial(self._starter.submit, WarmJob, log)
        self._next = self._start()
        self._job = self._take_next()
        self._zombies = []
        self.faults = Counter()

    def run(self, plan, faults=(), copies=1):
        """Whether everything in the plan is published now; a process that hangs is killed, as Airflow would."""
        self._job.send(plan, faults, copies)
        return bool(self._wait())

    def maintain(self, plan, faults):
        """Whether every table of the plan was tidied without a problem."""
        self._job.spark.send("maintain_with_faults", plan, [fault.to_json() for fault in faults])
        report = self._wait()
        return bool(report) and not any(done.problems for done in report)

    def _wait(self):
        while True:
            event, detail = self._job.next_event()
            if event == "answer":
                return detail
            if event == "event":
                self.faults[detail] += 1
            if detail == Kind.WAIT:
                self._zombies.append(self._job)
            elif detail == Kind.HANG or event == "died":
                self._job.close()
            else:
                continue
            self._job = self._take_next()
            return False

    def _take_next(self):
        job, self._next = self._next.result(), self._start()
        return job

    def compact(self, targets):
        """Rewrite all files of cold tables."""
        for target in targets:
            self._job.spark.ask("sql", compaction(target))

    def wake_zombies(self):
        """Let what was left behind go on to its end."""
        for zombie in self._zombies:
            zombie.wake_file.touch()
            while zombie.next_event()[0] == "event":
                pass
            zombie.close()
        self._zombies.clear()

    @property
    def has_zombies(self):
        return bool(self._zombies)

    def close(self):
        for job in (*self._zombies, self._job, self._next.result()):
            job.close()
        self._starter.shutdown()
