"""What the size of a backlog costs in time and memory: uncut, and cut into windows."""

from __future__ import annotations

import statistics
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

from bench.harness.arrived import take_out
from bench.harness.job import job_command, tables_of_trades
from bench.harness.measure import Contender, Cost, Meter, Turns, highest_of, take_turns
from bench.harness.report import Curves, Figures, Section, Target, against
from bench.harness.stack import MIDNIGHT, Platform
from bench.sections.bulk import WINDOW_ROWS
from embedded.spark import submit_environment
from k2_offload.core.tables import TableOptions
from k2_offload.work import cycle
from k2_offload.work.tiers import open_tiers

_FACTORS = (1, 10, 100)
_UNCUT_ROWS = TableOptions().max_window_rows
_CUT_ROWS = 1_000_000
_SAMPLE_SECONDS = 0.02


@dataclass(frozen=True)
class Backlog:
    """What moving one took.

    :param windows: it was cut into so many, one spark-submit each; ``costs`` has one entry for each
    :param query_bytes: what ClickHouse counted as an export's own memory, at its highest
    """

    costs: Sequence[Cost]
    query_bytes: int

    @property
    def windows(self) -> int:
        """How many windows it was."""
        return len(self.costs)

    @property
    def seconds(self) -> float:
        """All windows, from submitted to published."""
        return sum(cost.seconds for cost in self.costs)

    @property
    def cpu_seconds(self) -> float:
        """All windows, ClickHouse included."""
        return sum(cost.cpu_seconds for cost in self.costs)


def measure_windows(platform: Platform, rounds: int, scratch: Path) -> Section:
    """1, 10 and 100 times what the busiest table gets in 15 minutes."""
    sizes = [(WINDOW_ROWS * factor, _UNCUT_ROWS) for factor in _FACTORS]
    sizes.append((WINDOW_ROWS * _FACTORS[-1], _CUT_ROWS))
    for rows, _ in sizes[:-1]:
        platform.create_trades(_source(rows), rows)
    mover = Mover(platform, scratch)
    contenders = [
        Contender(f"{rows:,}, at most {limit:,} at once", partial(mover.move, rows, limit)) for rows, limit in sizes
    ]
    turns = take_turns(contenders, rounds, platform.failures)
    for rows, _ in sizes[:-1]:
        platform.sql(f"DROP TABLE {_source(rows)}")
    uncut = {contender.name: rows for contender, (rows, _) in zip(contenders[:-1], sizes, strict=False)}
    return _section(uncut, turns)


def _section(uncut: Mapping[str, int], turns: Turns[Backlog]) -> Section:
    """Show all of them.

    :param uncut: rows of one window, by what moved it
    """
    runs = turns.runs
    driver = highest_of(runs, lambda run: max(cost.peak_bytes for cost in run.costs))
    query = highest_of(runs, lambda run: run.query_bytes)
    server = highest_of(runs, lambda run: max(cost.server_peak_bytes for cost in run.costs))
    smallest, *_, largest = uncut
    first = driver[smallest]
    lines = [
        (
            name,
            f"{each[0].windows}",
            f"{statistics.median(run.seconds for run in each):.2f}",
            f"{statistics.median(run.cpu_seconds for run in each):.2f}",
            f"{driver[name] / first:.2f}",
            *(f"{peaks[name] / 2**20:,.0f}" for peaks in (driver, query, server)),
        )
        for name, each in runs.items()
    ]
    columns = (
        *("rows", "windows", "seconds", "CPU s", "driver's peak of the first", "driver's peak MiB"),
        *("export query's peak MiB", "ClickHouse process MiB"),
    )
    figures = Figures(columns, [*lines, *(failure.line(len(columns)) for failure in turns.failed)])
    curves = {
        name: [(rows, peaks[way] / 2**20) for way, rows in uncut.items() if way in runs]
        for name, peaks in (("Spark driver", driver), ("export query in ClickHouse", query))
    }
    title = "Windows: peak memory by rows of one window"
    target = Target("driver's memory at 100 times the rows, of the first", driver[largest] / first, 1.2)
    plot = Curves(title, "rows", "MiB", curves, logarithmic=True)
    rounds = max(map(len, runs.values()), default=0)
    return Section("windows", title, (figures, against([target]), plot), method(rounds))


def method(rounds: int) -> str:
    """How it is measured."""
    return (
        "A backlog of one table, all of one day. `max_window_rows` cuts it at full hours where that is enough; its "
        f"default is {_UNCUT_ROWS:,} rows. Each window is a cycle with its own `spark-submit`, and starting that takes "
        f"most of the time. Seconds and CPU are medians of {rounds} rounds, peaks are the highest of all rounds. The "
        "driver's memory is that of all processes of the application. The memory of the export query is what "
        "ClickHouse itself counts in `system.processes`; ClickHouse's process is larger, because it has caches and "
        "keeps memory that it once used."
    )


def _source(rows: int) -> str:
    return f"backlog_{rows}"


class Mover:
    """Moves a whole backlog into a new table, which goes afterwards."""

    def __init__(self, platform: Platform, scratch: Path) -> None:
        self._platform = platform
        self._plan_file = scratch / "plan.json"
        self._meter = Meter(platform.clickhouse_pid)
        self._number = 0

    def move(self, rows: int, max_window_rows: int) -> Backlog:
        """Cycle by cycle until nothing is left.

        :raises RuntimeError: unless all rows arrived
        """
        self._number += 1
        target = f"bench.backlog_{self._number}"
        tables = tables_of_trades({target: _source(rows)}, max_window_rows=max_window_rows)
        costs = []
        with (
            open_tiers(tables, lambda: MIDNIGHT + timedelta(days=2)) as tiers,
            _watched_exports(self._platform) as watched,
        ):
            tiers.ledger.migrate()
            [table] = tiers.tables.by_name.values()
            while (planned := cycle.plan(tiers, table, "bench")) is not None:
                costs.append(self._meter.command(job_command(self._plan_file, planned), submit_environment()))
                cycle.commit(tiers, table)
        arrived = sum(file.record_count for file in take_out(target))
        if arrived != rows:
            raise RuntimeError(f"{arrived} of {rows} rows arrived")
        return Backlog(costs, watched.peak_bytes)


@dataclass
class _Watch:
    peak_bytes: int = 0
    ended: threading.Event = field(default_factory=threading.Event)


@contextmanager
def _watched_exports(platform: Platform) -> Iterator[_Watch]:
    """Looks all the time at how much memory ClickHouse counts for the exports that are running."""
    watch = _Watch()
    statement = "SELECT max(peak_memory_usage) FROM system.processes WHERE startsWith(query, 'INSERT INTO FUNCTION')"

    def look() -> None:
        with platform.client() as client:
            while not watch.ended.wait(_SAMPLE_SECONDS):
                [(peak_bytes,)] = client.execute(statement)
                watch.peak_bytes = max(watch.peak_bytes, peak_bytes)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield watch
    finally:
        watch.ended.set()
        thread.join()
