"""A Spark standalone cluster on this machine, from the pyspark wheel: a master, and workers of one core each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from embedded.stack.ports import free_ports
from embedded.stack.settings import HOST
from k2_offload.adapters import spark_submit
from k2_offload.adapters.settings import load_settings

_START_SECONDS = 60


@dataclass(frozen=True)
class StandaloneCluster:
    """A running cluster.

    :param master: for ``spark-submit --master``
    :param workers: each leads a process group, with its executors in it
    :param folders: of the workers; executors run below them
    """

    master: str
    workers: tuple[subprocess.Popen[bytes], ...]
    folders: tuple[Path, ...]

    @property
    def submit_options(self) -> Mapping[str, str]:
        """Spark's configuration for an application that starts on all workers at once."""
        return {
            "spark.cores.max": str(len(self.workers)),
            "spark.scheduler.minRegisteredResourcesRatio": "1",
            "spark.driver.host": HOST,
            "spark.driver.bindAddress": HOST,
            "spark.executor.memory": "512m",
            "spark.executor.extraJavaOptions": spark_submit.SHORT_JOB,
        }

    def kill_worker(self, number: int) -> None:
        """As when its machine fails: the worker and its executor end at once."""
        os.killpg(self.workers[number].pid, signal.SIGKILL)


@contextmanager
def standalone_cluster(folder: Path, workers: int, environment: Mapping[str, str]) -> Iterator[StandaloneCluster]:
    """Start a cluster, and end it with all it runs.

    :param folder: for logs and the executors' files
    :raises RuntimeError: if it is not complete within a minute
    """
    port, page = free_ports(2)
    master = f"spark://{HOST}:{port}"
    folders = tuple(folder / f"worker-{number}" for number in range(workers))
    with ExitStack() as running:

        def start(name: str, *arguments: str) -> subprocess.Popen[bytes]:
            log = running.enter_context((folder / f"{name}.log").open("wb"))
            process = subprocess.Popen(
                [_spark_class(), *arguments],
                env={**environment, **_variables()},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            running.callback(_end, process)
            return process

        start("master", "org.apache.spark.deploy.master.Master", *_addresses(port, page))
        processes = [
            start(
                below.name,
                *("org.apache.spark.deploy.worker.Worker", *_addresses(0, 0)),
                *("--cores", "1", "--memory", "512m", "--work-dir", str(below), master),
            )
            for below in folders
        ]
        _wait_for_workers(f"http://{HOST}:{page}/json/", workers)
        yield StandaloneCluster(master, tuple(processes), folders)


def _spark_class() -> str:
    return str(Path(load_settings().spark_binary).with_name("spark-class"))


def _addresses(port: int, page: int) -> list[str]:
    return ["--host", HOST, "--port", str(port), "--webui-port", str(page)]


def _variables() -> Mapping[str, str]:
    python = load_settings().spark_python
    return {
        **spark_submit.environment(python),
        "SPARK_LOCAL_IP": HOST,
        "SPARK_DAEMON_MEMORY": "256m",
        "SPARK_DAEMON_JAVA_OPTS": spark_submit.SHORT_JOB,
    }


def _wait_for_workers(page: str, workers: int) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), urllib.request.urlopen(page, timeout=5) as answer:  # noqa: S310 - of this machine
            if json.load(answer)["aliveworkers"] == workers:
                return
        time.sleep(0.2)
    raise RuntimeError(f"the Spark cluster was not complete within {_START_SECONDS} s; see {page}")


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
