"""What one run costs: wall time, CPU time and peak memory, the ClickHouse server's included."""

from __future__ import annotations

import math
import resource
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import psutil
from rich.progress import track

from bench.harness.failures import Failure, Failures
from k2_offload.cli.console import errors

_SAMPLE_SECONDS = 0.05


Measured = TypeVar("Measured")


@dataclass(frozen=True)
class Contender(Generic[Measured]):
    """One way to do what is measured.

    :param run: does it from scratch, once
    """

    name: str
    run: Callable[[], Measured]


@dataclass(frozen=True)
class Turns(Generic[Measured]):
    """What became of the contenders.

    :param runs: by the names of those that came through all rounds
    :param failed: the others
    """

    runs: dict[str, list[Measured]]
    failed: Sequence[Failure]


def take_turns(contenders: Sequence[Contender[Measured]], rounds: int, failures: Failures) -> Turns[Measured]:
    """Each contender once per round, so that a slow minute of the machine hits all of them.

    One that fails takes no further turn, and the rest go on: figures of fewer rounds would look like the others'.

    :param failures: keeps what is known of a failure
    """
    turns = [contender for _ in range(rounds) for contender in contenders]
    runs: dict[str, list[Measured]] = {contender.name: [] for contender in contenders}
    failed: list[Failure] = []
    for contender in track(turns, "measuring", console=errors, transient=True):
        if contender.name not in runs:
            continue
        try:
            runs[contender.name].append(contender.run())
        except Exception as error:  # noqa: BLE001 - whatever it is, it is this contender's
            del runs[contender.name]
            failed.append(failures.keep(contender.name, error))
    return Turns(runs, failed)


def median_of(runs: Mapping[str, Sequence[Measured]], value: Callable[[Measured], float]) -> dict[str, float]:
    """The median of something over the rounds, by contender; not a number for one that failed."""
    return _Figures({name: statistics.median(map(value, each)) for name, each in runs.items()})


def highest_of(runs: Mapping[str, Sequence[Measured]], value: Callable[[Measured], float]) -> dict[str, float]:
    """As :func:`median_of`, the highest."""
    return _Figures({name: max(map(value, each)) for name, each in runs.items()})


class _Figures(dict[str, float]):
    def __missing__(self, name: str) -> float:
        return math.nan


@dataclass(frozen=True)
class Cost:
    """Of one run.

    :param cpu_seconds: user and system time of the started processes and of the server, together
    :param peak_bytes: highest sum of the started processes' resident memory; 0 if there were none
    :param server_peak_bytes: the server's resident memory at its highest
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int
    server_peak_bytes: int


class Meter:
    """Measures work that ClickHouse does, alone or for a process.

    :param server_pid: ClickHouse's process
    """

    def __init__(self, server_pid: int) -> None:
        self._server = psutil.Process(server_pid)

    def command(self, command: Sequence[str], environment: Mapping[str, str]) -> Cost:
        """Run a command to its end.

        :raises RuntimeError: with its output, if it fails
        """
        return self.commands([command], environment)

    def commands(self, commands: Sequence[Sequence[str]], environment: Mapping[str, str]) -> Cost:
        """Run commands at the same time, to the end of the last.

        :raises RuntimeError: with its output, if one fails
        """

        def run(watch: Callable[[int], None]) -> None:
            def run_one(command: Sequence[str]) -> None:
                with subprocess.Popen(
                    command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
                ) as process:
                    watch(process.pid)
                    output, _ = process.communicate()
                if process.returncode != 0:
                    raise RuntimeError(f"{command[0]} failed:\n{output[-4000:]}")

            with ThreadPoolExecutor(len(commands)) as pool:
                list(pool.map(run_one, commands))

        return self._measure(run)

    def call(self, work: Callable[[], object]) -> Cost:
        """Run something in this process; its own CPU time does not count."""
        return self._measure(lambda _: work())

    def _measure(self, run: Callable[[Callable[[int], None]], object]) -> Cost:
        watched: list[int] = []
        peaks = [0, 0]
        ended = threading.Event()

        def sample() -> None:
            while True:
                peaks[0] = max([peaks[0], *map(_tree_bytes, watched)])
                peaks[1] = max(peaks[1], self._server.memory_info().rss)
                if ended.wait(_SAMPLE_SECONDS):
                    return

        sampler = threading.Thread(target=sample, daemon=True)
        cpu_before = self._cpu_seconds()
        started = time.perf_counter()
        sampler.start()
        try:
            run(watched.append)
        finally:
            seconds = time.perf_counter() - started
            ended.set()
            sampler.join()
        return Cost(seconds, self._cpu_seconds() - cpu_before, peaks[0], peaks[1])

    def _cpu_seconds(self) -> float:
        server, children = self._server.cpu_times(), resource.getrusage(resource.RUSAGE_CHILDREN)
        return float(server.user + server.system + children.ru_utime + children.ru_stime)


def _tree_bytes(pid: int) -> int:
    try:
        process = psutil.Process(pid)
        return sum(int(each.memory_info().rss) for each in (process, *process.children(recursive=True)))
    except psutil.Error:
        return 0  # ended meanwhile
