"""A backlog in one file, in several by threads of the driver, and by four workers of a Spark cluster."""

from __future__ import annotations

import re
import statistics
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

import psutil

from bench.harness.arrived import take_out
from bench.harness.job import job_command, plan, tables_of_trades
from bench.harness.measure import Contender, Cost, Meter, Turns, median_of, take_turns
from bench.harness.report import Curves, Figures, Section
from bench.harness.stack import MIDNIGHT, Platform
from bench.sections.bulk import BULK_ROWS
from embedded.spark import submit_environment
from embedded.spark_standalone import StandaloneCluster, standalone_cluster
from k2_offload.core.plan import PlannedWindow
from k2_offload.core.windows import parse_time
from k2_offload.work.cycle import commit
from k2_offload.work.tiers import open_tiers

_WORKERS = 4
_SOURCE = "spread_trades"


@dataclass(frozen=True)
class Run:
    """:param exports: start and end of each, in seconds after the first start; empty for one file"""

    cost: Cost
    exports: Sequence[tuple[float, float]]

    @property
    def at_once(self) -> float:
        """How many exports ran at a time, on average from the first start to the last end."""
        return sum(end - start for start, end in self.exports) / max(end for _, end in self.exports)


def measure_workers(platform: Platform, rounds: int, scratch: Path) -> Section:
    """All rows of a day."""
    platform.create_trades(_SOURCE, BULK_ROWS, MIDNIGHT, timedelta(hours=24))
    folder = scratch / "spark"
    folder.mkdir()
    with standalone_cluster(folder, _WORKERS, submit_environment()) as cluster:
        mover = Mover(platform, cluster, scratch)
        ways = [
            ("one file", partial(mover.move, 1, 1)),
            (f"{_WORKERS} files, one after the other", partial(mover.move, _WORKERS, 1)),
            (f"{_WORKERS} files, {_WORKERS} threads", partial(mover.move, _WORKERS, _WORKERS)),
            (f"{_WORKERS} files, {_WORKERS} workers", partial(mover.move, _WORKERS, _WORKERS, on_cluster=True)),
        ]
        turns = take_turns([Contender(name, run) for name, run in ways], rounds, platform.failures)
    platform.sql(f"DROP TABLE {_SOURCE}")
    return _section(ways[0][0], turns)


def _section(first: str, turns: Turns[Run]) -> Section:
    """Show all of them.

    :param first: the way that the others are compared with
    """
    runs = turns.runs
    seconds = median_of(runs, lambda run: run.cost.seconds)
    lines = [
        (
            way,
            f"{seconds[way] / seconds[first]:.2f}",
            f"{seconds[way]:.2f}",
            f"{statistics.median(run.cost.cpu_seconds for run in each):.2f}",
            f"{max(run.cost.server_peak_bytes for run in each) / 2**20:,.0f}",
            f"{statistics.median(run.at_once for run in each):.1f}" if each[0].exports else "1",
        )
        for way, each in runs.items()
    ]
    columns = ("way", "time of one file", "seconds", "CPU s", "ClickHouse MiB", "exports at once")
    figures = Figures(columns, [*lines, *(failure.line(len(columns)) for failure in turns.failed)])
    title = f"Workers: {BULK_ROWS:,} rows of a day, in one file and in several"
    curves = {way: _under_way(each[-1].exports) for way, each in runs.items() if each[0].exports}
    parts = (figures, Curves("Exports under way", "seconds", "exports", curves))
    return Section("workers", title, parts, method(max(map(len, runs.values()), default=0)))


def method(rounds: int) -> str:
    """How it is measured."""
    return (
        f"From `spark-submit` to published, all on one machine; medians of {rounds} rounds. ClickHouse, the driver "
        "and the workers share its cores, so the figures show that exports run at the same time, not what more "
        f"machines would bring. The cluster (a standalone master, {_WORKERS} workers of one core) is started before; "
        "starting a Spark context and executors on it counts. CPU is that of ClickHouse, the driver and the workers."
    )


def _under_way(exports: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Corners of the curve that tells how many exports are running."""
    changes = sorted([(start, 1) for start, _ in exports] + [(end, -1) for _, end in exports])
    corners, running = [], 0
    for moment, change in changes:
        corners += [(moment, float(running)), (moment, float(running + change))]
        running += change
    return corners


class Mover:
    """Moves the whole table into a new one, which goes afterwards."""

    def __init__(self, platform: Platform, cluster: StandaloneCluster, scratch: Path) -> None:
        self._cluster = cluster
        self._plan_file = scratch / "plan.json"
        self._meter = Meter(platform.clickhouse_pid)
        self._number = 0

    def move(self, files: int, parallel_exports: int, *, on_cluster: bool = False) -> Run:
        """Plan, submit, commit.

        :raises RuntimeError: unless all rows arrived, in so many files
        """
        self._number += 1
        target = f"bench.spread_{self._number}"
        file_rows = BULK_ROWS // files + 100_000  # trades are spread evenly but for a millisecond
        tables = tables_of_trades({target: _SOURCE}, parallel_exports=parallel_exports, max_file_rows=file_rows)
        output = ""

        def submit() -> None:
            nonlocal output
            output = self._submit(planned, on_cluster)

        with open_tiers(tables, lambda: MIDNIGHT + timedelta(days=2)) as tiers:
            tiers.ledger.migrate()
            [table] = tiers.tables.by_name.values()
            planned = plan(tiers, table)
            before = self._workers_cpu_seconds()
            cost = self._meter.call(submit)
            cpu_seconds = cost.cpu_seconds + self._workers_cpu_seconds() - before
            commit(tiers, table)
        files_found = take_out(target)
        found = sum(file.record_count for file in files_found), len(files_found)
        if found != (BULK_ROWS, files):
            raise RuntimeError(f"{found} are not {BULK_ROWS} rows in {files} files")
        return Run(replace(cost, cpu_seconds=cpu_seconds), _exports(output))

    def _submit(self, planned: PlannedWindow, on_cluster: bool) -> str:
        command = job_command(
            self._plan_file,
            planned,
            master=self._cluster.master if on_cluster else "local[2]",
            conf=self._cluster.submit_options if on_cluster else {},
        )
        done = subprocess.run(
            command, env=submit_environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"the job failed:\n{done.stdout[-4000:]}")
        return done.stdout

    def _workers_cpu_seconds(self) -> float:
        """Of the workers and of the executors they have waited for."""
        times = [psutil.Process(worker.pid).cpu_times() for worker in self._cluster.workers]
        return float(sum(each.user + each.system + each.children_user + each.children_system for each in times))


def _exports(output: str) -> list[tuple[float, float]]:
    found = re.findall(r"exported \S+ by \S+ from (\S+) to (\S+)", output)
    times = [(parse_time(start).timestamp(), parse_time(end).timestamp()) for start, end in found]
    first = min(times)[0] if times else 0.0
    return [(start - first, end - first) for start, end in times]
