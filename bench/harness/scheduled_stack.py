"""A stack with Airflow's scheduler at work, on which runs are started one at a time, timed and paid for."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from os import environ
from pathlib import Path
from typing import Any

import psutil
import psycopg

from bench.harness.failures import Failures, LoggedError
from embedded.install.layout import ROOT
from embedded.stack import Ports, StackSettings, airflow_services, down, postgres, status, up
from embedded.stack.ports import free_ports
from embedded.stack.processes import wait_until
from embedded.stack.secrets import Secrets

_SHARED = (".state", ".venv", "requirements", "requirements.txt", "plugins", "include/spark_jobs", "include/sql")
_PARSED_SECONDS = 120
_RUN_SECONDS = 1200
_POLL_SECONDS = 0.5
_REAPED_SECONDS = 2.0


@dataclass(frozen=True)
class Task:
    """A task instance, as Airflow's database has it.

    :param mapped: its map index, -1 if it is none of several
    :param queued: when it was queued last: a deferred one for the second time
    """

    dag: str
    name: str
    mapped: int
    state: str
    queued: datetime
    started: datetime
    ended: datetime


@dataclass(frozen=True)
class Run:
    """What one start of some DAGs came to.

    :param cpu_seconds: of all services and what they started, less what they would have used idly
    :param committed: when the last watermark was committed; ``None`` without this project's ledger
    """

    name: str
    tasks: Sequence[Task]
    cpu_seconds: float
    committed: datetime | None

    @property
    def seconds(self) -> float:
        """From the first task queued to the last watermark committed, or to the end of the last task."""
        ended = self.committed or max(task.ended for task in self.tasks)
        return (ended - min(task.queued for task in self.tasks)).total_seconds()


class ScheduledStack:
    """The running stack.

    :param settings: its folders and ports
    """

    def __init__(self, settings: StackSettings) -> None:
        self.settings = settings
        self._secrets = Secrets.load_or_make(settings.state)
        self._services = [psutil.Process(each.pid) for each in status(settings) if each.pid is not None]
        self.idle_cpu_per_second = 0.0

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Rows of Airflow's database, which holds the ledger too."""
        with psycopg.connect(postgres.dsn(self.settings, self._secrets, postgres.AIRFLOW_DATABASE)) as connection:
            return connection.execute(sql, values).fetchall()

    def command(self, *words: str) -> None:
        """Run a command of the stack's Airflow environment.

        :raises RuntimeError: with its output, if it fails
        """
        environment = {
            **airflow_services.without_foreign_settings(environ),
            **airflow_services.own_variables(self.settings),
        }
        ended = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode != 0:
            raise RuntimeError(f"{' '.join(words)} failed:\n{ended.stdout[-2000:]}\n{ended.stderr[-2000:]}")

    def wait_for_dags(self, dags: Sequence[str]) -> None:
        """Wait until the DAG processor has read them."""

        def known() -> bool:
            rows = self.query("SELECT count(*) FROM serialized_dag WHERE dag_id = ANY(%s)", list(dags))
            return bool(rows[0][0] >= len(dags))

        if not wait_until(known, _PARSED_SECONDS, poll_seconds=1):
            errors = [error for (error,) in self.query("SELECT stacktrace FROM import_error")]
            raise RuntimeError(f"Airflow does not know {', '.join(dags)}. {' '.join(errors)}")

    def rest(self, seconds: float) -> None:
        """Measure what the idle stack uses."""
        before = self.cpu_seconds()
        time.sleep(seconds)
        self.idle_cpu_per_second = (self.cpu_seconds() - before) / seconds

    def run(self, name: str, dags: Sequence[str], logical_date: datetime, conf: object) -> Run:
        """Start these DAGs for one logical date, as the scheduler would, and wait for their end.

        :raises LoggedError: if a task did not succeed
        """
        starter = ("python", "-m", "embedded.stack.start_runs")
        began, cpu_before = time.monotonic(), self.cpu_seconds()
        self.command(*starter, name, logical_date.isoformat(), json.dumps(conf), *dags)

        def ended() -> bool:
            [(running,)] = self.query(
                "SELECT count(*) FROM dag_run WHERE run_id = %s AND state NOT IN ('success', 'failed')", name
            )
            return bool(running == 0)

        if not wait_until(ended, _RUN_SECONDS, poll_seconds=_POLL_SECONDS):
            raise LoggedError(f"{name} did not end", self.settings.logs)
        time.sleep(_REAPED_SECONDS)  # a process's time counts once its parent has taken leave of it
        cpu_seconds = self.cpu_seconds() - cpu_before - self.idle_cpu_per_second * (time.monotonic() - began)
        tasks = [
            Task(*row)
            for row in self.query(
                "SELECT dag_id, task_id, map_index, state, queued_dttm, start_date, end_date FROM task_instance "
                "WHERE run_id = %s ORDER BY end_date",
                name,
            )
        ]
        if failed := [f"{task.dag}.{task.name}: {task.state}" for task in tasks if task.state != "success"]:
            raise LoggedError(f"{name}: {', '.join(failed)}", self.settings.logs)
        return Run(name, tasks, cpu_seconds, self._committed(name))

    def _committed(self, run: str) -> datetime | None:
        [(known,)] = self.query("SELECT to_regclass('k2_offload.offload_windows') IS NOT NULL")
        if not known:
            return None
        [(committed,)] = self.query(
            "SELECT max(committed_at) FROM k2_offload.offload_windows WHERE dag_run_id = %s", run
        )
        return committed if committed is None else datetime.fromisoformat(str(committed))

    def cpu_seconds(self) -> float:
        """Of every service and its descendants so far, those that have ended included."""
        return sum(map(_cpu_seconds, self._processes()))

    def memory_and_descriptors(self) -> tuple[int, int]:
        """Bytes in memory, shared pages counted by each process, and open files, of every service and descendant."""
        memory_bytes = descriptors = 0
        for process in self._processes():
            with suppress(psutil.NoSuchProcess):
                memory_bytes += process.memory_info().rss
                descriptors += process.num_fds()
        return memory_bytes, descriptors

    def _processes(self) -> Iterator[psutil.Process]:
        for service in self._services:
            yield from (service, *service.children(recursive=True))

    def log(self, task: Task, run: str) -> list[dict[str, Any]]:
        """The lines of a task's log."""
        folder = self.settings.logs / "airflow" / f"dag_id={task.dag}" / f"run_id={run}" / f"task_id={task.name}"
        if task.mapped >= 0:
            folder /= f"map_index={task.mapped}"
        return [
            json.loads(line) for line in (folder / "attempt=1.log").read_text().splitlines() if line.startswith("{")
        ]


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:  # ended just now; its parent has the time
        return 0.0
    return float(times.user + times.system + times.children_user + times.children_system)


@contextmanager
def scheduling(dags_file: Path, tables: dict[str, str], failures: Failures) -> Iterator[ScheduledStack]:
    """Start a stack with DAGs and table files of its own; it goes afterwards.

    :param tables: texts of table files by name; ``tables.yaml`` is the one in use
    :param failures: keeps the logs if the block fails
    """
    state = Path(tempfile.mkdtemp(prefix="k2-bench-")).resolve()
    root = state / "checkout"
    for name in _SHARED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(ROOT / name)
    (root / "dags").mkdir()
    shutil.copy(dags_file, root / "dags")
    for name, text in tables.items():
        (root / "include" / name).write_text(text)
    settings = StackSettings(state=state, ports=Ports(*free_ports(4)), root=root)
    try:
        up(settings)
        yield ScheduledStack(settings)
    except Exception as error:
        kept = failures.keep("the stack with Airflow's scheduler", LoggedError(str(error), settings.logs))
        error.add_note(f"The stack's logs are in {kept.log.parent}.")
        raise
    finally:
        down(settings)
        shutil.rmtree(state, ignore_errors=True)
