"""Whole cycles through Airflow's scheduler, against one plain Spark application per table."""

from __future__ import annotations

import itertools
import re
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml
from clickhouse_driver import Client

from bench.harness.failures import Failures
from bench.harness.measure import Contender, Turns, median_of, take_turns
from bench.harness.report import Bars, Figures, Section, Target, against
from bench.harness.scheduled_stack import Run, ScheduledStack, Task, scheduling
from bench.harness.stack import Platform
from embedded.install.layout import ROOT
from embedded.stack import clickhouse
from embedded.stack.settings import HOST
from k2_offload.core.dag_ids import LAYER_DAGS, dag_id
from k2_offload.core.tables import LAYERS
from k2_offload.core.windows import to_micros

TABLES = (3, 9, 30)
TRADES_PER_SECOND = 76
"""On both exchanges: 53,000 in a quarter of an hour on the busier one."""

_DAGS = Path(__file__).with_name("cycle_dags.py")
_QUARTER = timedelta(minutes=15)
_IDLE_SECONDS = 20.0
_MOST_OLD_TABLES = 9
"""The old way takes more than a quarter of a minute per table: with 30 one run would last longer than all others."""
_OURS, _OLD = "this project", "old: one Spark application per table"
# Not asked of the DAG factory: Airflow, once loaded, would not see the stack that is yet to start.


def measure_cycle(platform: Platform, rounds: int, _scratch: Path) -> Section:
    """Cycles of 3, 9 and 30 tables, each with a quarter of an hour of new trades."""
    files = {f"tables_{number}.yaml": _table_file(number) for number in TABLES}
    columns = ("tables", "way", "time of this project", "seconds", "CPU of this project", "CPU s")
    lines: list[tuple[str, ...]] = []
    seconds: dict[str, float] = {}
    profile = targets = Figures((), ())
    with scheduling(_DAGS, {**files, "tables.yaml": files[f"tables_{TABLES[0]}.yaml"]}, platform.failures) as stack:
        stack.wait_for_dags([*LAYER_DAGS, *(f"old_tables_{number}" for number in TABLES)])
        market = Market(stack, first=datetime.now(UTC) - _QUARTER * (len(TABLES) * (rounds + 1) + 1))
        for number in TABLES:
            (stack.settings.root / "include" / "tables.yaml").write_text(files[f"tables_{number}.yaml"])
            cycles = Cycles(stack, market, number)
            turns = cycles.take_turns(rounds, platform.failures, lambda: stack.rest(_IDLE_SECONDS))
            runs = turns.runs
            lines += _lines(number, runs)
            lines += [(str(number), *failure.line(len(columns) - 1)) for failure in turns.failed]
            for way, median in median_of(runs, lambda run: run.seconds).items():
                seconds[f"{number} tables, {way.partition(':')[0]}"] = median
            if number == 9 and _OURS in runs:  # noqa: PLR2004 - what is deployed
                profile = _profile(stack, runs[_OURS])
                targets = _targets(runs)
        idle = stack.idle_cpu_per_second
    title = "Whole cycles through the scheduler"
    own = [name for name in seconds if _OURS in name]
    parts = (Bars(title, seconds, "%.0f s", own), Figures(columns, lines), targets)
    return Section("cycle", title, (*parts, "Where nine tables' seconds go:", profile), method(rounds, idle))


def method(rounds: int, idle_cpu_per_second: float) -> str:
    """How it is measured.

    :param idle_cpu_per_second: CPU seconds that the idle stack uses in a second
    """
    trades = round(TRADES_PER_SECOND * _QUARTER.total_seconds())
    return (
        "A stack with Airflow's scheduler and four workers (`parallelism = 4`). In each round, the trades of a quarter "
        f"of an hour arrive ({trades:,} on both exchanges together), and each way moves them and what is made from "
        f"them: bronze, then silver, then gold. Medians of {rounds} rounds. Seconds run from the first queued task to "
        "the last committed watermark.\n\n"
        "- **this project**: its three DAGs, as every 15 minutes.\n"
        "- **old**: the method that this project replaces. A DAG with one `spark-submit` per table; each starts a "
        f"Spark session with the JVM's default options, reads its window by JDBC and appends it. With {TABLES[-1]} "
        "tables it is not measured: that would take longer than all the rest.\n\n"
        "CPU is that of the scheduler, DAG processor, triggerer, API server, Postgres, ClickHouse and all processes "
        f"that they start, minus what the idle stack uses ({idle_cpu_per_second:.2f} s per second)."
    )


def _table_file(number: int) -> str:
    """So many tables: one per layer first, then the rest of the nine, then copies; names and targets of their own."""
    original: dict[str, Any] = yaml.safe_load((ROOT / "include" / "tables.yaml").read_text())
    by_layer = [
        [(name, table) for name, table in original["tables"].items() if table["layer"] == layer] for layer in LAYERS
    ]
    nine = [entry for entries in itertools.zip_longest(*by_layer) for entry in entries if entry]
    tables = {
        f"{name}_{number}_{copy}": {**table, "target": f"cycle_{number}.{name}_{copy}"}
        for copy, (name, table) in itertools.islice(((copy, e) for copy in itertools.count(1) for e in nine), number)
    }
    # The trades are hours old: no silence that would lift the layers' order.
    defaults = {**original["defaults"], "idle_after_seconds": int(timedelta(days=7).total_seconds())}
    return yaml.safe_dump({"defaults": defaults, "tables": tables})


class Market:
    """Trades in ClickHouse, a quarter of an hour at a time.

    :param first: when the first one begins
    """

    def __init__(self, stack: ScheduledStack, first: datetime) -> None:
        self._stack = stack
        self._next = first
        self.quarters = 0

    def trade(self) -> None:
        """Let the next quarter of an hour happen."""
        ago = (datetime.now(UTC) - self._next).total_seconds()
        self._stack.command(
            *("k2", "feed", "generate", "--rate", str(TRADES_PER_SECOND), "--seed", str(self.quarters)),
            *("--starting-ago", str(ago), "--for", str(_QUARTER.total_seconds())),
            *("--port", str(self._stack.settings.ports.clickhouse_native)),
        )
        self._next += _QUARTER
        self.quarters += 1

    def newest(self) -> datetime:
        """Time of the newest trade."""
        with Client(HOST, port=self._stack.settings.ports.clickhouse_native, database=clickhouse.DATABASE) as client:
            [(newest,)] = client.execute("SELECT max(exchange_timestamp) FROM silver_trades")
        return datetime.fromisoformat(str(newest)).astimezone(UTC)


class Cycles:
    """Both ways, for so many tables."""

    def __init__(self, stack: ScheduledStack, market: Market, number: int) -> None:
        self._stack = stack
        self._market = market
        self._number = number
        self._moved = market.newest() if market.quarters else datetime.fromtimestamp(0, UTC)

    def take_turns(self, rounds: int, failures: Failures, rest: Callable[[], None]) -> Turns[Run]:
        """Both ways in turns, each after one that is not measured: it creates its tables.

        :param rest: before the first turn that is measured
        """
        old = [Contender(_OLD, self.old)] if self._number <= _MOST_OLD_TABLES else []
        self.ours()
        take_turns(old, 1, failures)
        rest()
        return take_turns([Contender(_OURS, self.ours), *old], rounds, failures)

    def ours(self) -> Run:
        """A quarter of an hour of new trades, then a cycle; the layers wait for each other as every 15 minutes."""
        self._market.trade()
        quarter = datetime(2026, 1, 1, tzinfo=UTC) + self._market.quarters * _QUARTER
        run = self._stack.run(f"{self._number}_{self._market.quarters}", list(LAYER_DAGS), quarter, {})
        if run.committed is None:
            raise RuntimeError(f"{run.name} moved nothing")
        return run

    def old(self) -> Run:
        """All trades since the last time."""
        newest = self._market.newest()
        window = {"low": to_micros(self._moved), "high": to_micros(newest)}
        self._moved = newest
        name = f"old_{self._number}_{self._market.quarters}"
        return self._stack.run(name, [f"old_tables_{self._number}"], newest, window)


def _lines(number: int, runs: Mapping[str, Sequence[Run]]) -> list[tuple[str, ...]]:
    seconds, cpu = median_of(runs, lambda run: run.seconds), median_of(runs, lambda run: run.cpu_seconds)
    return [
        (
            str(number),
            way,
            f"{seconds[way] / seconds[_OURS]:.2f}",
            f"{seconds[way]:.1f}",
            f"{cpu[way] / cpu[_OURS]:.2f}",
            f"{cpu[way]:.1f}",
        )
        for way in runs
    ]


def _targets(runs: Mapping[str, Sequence[Run]]) -> Figures:
    cpu = median_of(runs, lambda run: run.cpu_seconds)
    return against(
        [
            Target("seconds of a nine-table cycle", median_of(runs, lambda run: run.seconds)[_OURS], 40),
            Target("times less CPU than the old method", cpu[_OLD] / cpu[_OURS], 3, at_least=True),
        ]
    )


def _profile(stack: ScheduledStack, runs: Sequence[Run]) -> Figures:
    """Seconds by step and layer, medians."""
    steps = [{layer: _steps(stack, run, layer) for layer in LAYERS} for run in runs]
    return Figures(
        ("seconds", *LAYERS),
        [
            (step, *(f"{statistics.median(each[layer][step] for each in steps):.1f}" for layer in LAYERS))
            for step in steps[0][LAYERS[0]]
        ],
    )


def _steps(stack: ScheduledStack, run: Run, layer: str) -> dict[str, float]:
    """Where the time of a layer went, from the end of the layer below to its own."""
    plan, offload, commit = (_task(run, layer, name) for name in ("plan", "offload", "commit"))
    lines = {task.name: stack.log(task, run.name) for task in (plan, offload, commit)}
    starts = {
        task.name: _seconds(task.started, _logged(lines[task.name], "Worker startup parse complete"))
        for task in (plan, offload, commit)
    }
    moving = max(
        float(found[1])
        for line in lines["offload"]
        if (found := re.search(r"published .* in ([\d.]+) s$", str(line["event"])))
    )
    below = _task(run, LAYERS[LAYERS.index(layer) - 1], "offload") if layer != LAYERS[0] else None
    return {
        "after the layer below, until plan is queued": _seconds(below.ended, plan.queued) if below else 0.0,
        "queued, until plan, offload and commit start": sum(
            _seconds(task.queued, task.started) for task in (plan, offload, commit)
        ),
        "start of these tasks": sum(starts.values()),
        "plan": _seconds(plan.started, plan.ended) - starts["plan"],
        "between plan, offload and commit": _seconds(plan.ended, offload.queued)
        + _seconds(offload.ended, commit.queued),
        "offload: Spark's start and end": _seconds(offload.started, offload.ended) - starts["offload"] - moving,
        "offload: move": moving,
        "commit": _seconds(commit.started, commit.ended) - starts["commit"],
    }


def _task(run: Run, layer: str, name: str) -> Task:
    """The one that ended last."""
    return [task for task in run.tasks if (task.dag, task.name) == (dag_id(layer), name)][-1]


def _logged(lines: Sequence[Mapping[str, Any]], event: str) -> datetime:
    return next(datetime.fromisoformat(line["timestamp"]) for line in lines if line["event"] == event)


def _seconds(start: datetime, end: datetime) -> float:
    return (end - start).total_seconds()
