"""A cycle every minute, for as long as one likes: how fresh the cold tables are, and whether anything piles up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import yaml
from rich.progress import track

from bench.harness.report import Figures, Section
from bench.harness.scheduled_stack import ScheduledStack, scheduling
from bench.harness.stack import Platform
from embedded.install.layout import ROOT
from embedded.stack.processes import wait_until
from k2_offload.cli.console import errors
from k2_offload.core.dag_ids import LAYER_DAGS

STRETCH = timedelta(minutes=20)
"""A line of the table."""

TRADES_PER_SECOND = 76
BUFFER_SECONDS = 60
_BEGUN_SECONDS = 300
_DAGS = Path(__file__).with_name("minute_dags.py")

_WINDOWS = """
SELECT count(*), percentile_disc(ARRAY[0.5, 0.99]) WITHIN GROUP (ORDER BY date_part('epoch', committed_at - first_row))
FROM k2_offload.offload_windows
WHERE state = 'committed' AND rows > 0 AND committed_at > now() - %s AND low > '2001-01-01'
"""
_RUNS = """
SELECT count(*) FILTER (WHERE state = 'success'), count(*) FILTER (WHERE state = 'failed'),
       percentile_disc(0.5) WITHIN GROUP (ORDER BY date_part('epoch', end_date - start_date))
FROM dag_run WHERE end_date > now() - %s
"""


@dataclass(frozen=True)
class _Stretch:
    """What a stretch of time came to.

    :param lags: half and 99 % of the windows were committed so many seconds after their first row, at most
    :param run_seconds: of one layer, the median
    :param cores: that were at work, on average
    """

    windows: int
    lags: tuple[float, float]
    runs: int
    failed: int
    run_seconds: float
    cores: float
    memory_bytes: int
    descriptors: int
    connections: int
    files: int


def measure_minutes(platform: Platform, rounds: int, _scratch: Path) -> Section:
    """Nine tables, a live feed, and the scheduler; one stretch after the other."""
    tables = yaml.safe_load((ROOT / "include" / "tables.yaml").read_text())
    tables["defaults"]["buffer_seconds"] = BUFFER_SECONDS
    seconds = _BEGUN_SECONDS + rounds * STRETCH.total_seconds()
    with (
        scheduling(_DAGS, {"tables.yaml": yaml.safe_dump(tables)}, platform.failures) as stack,
        ThreadPoolExecutor(1) as feeding,
    ):
        fed = feeding.submit(
            stack.command,
            *("k2", "feed", "generate", "--rate", str(TRADES_PER_SECOND), "--for", str(seconds)),
            *("--port", str(stack.settings.ports.clickhouse_native)),
        )
        stack.wait_for_dags(LAYER_DAGS)
        if not wait_until(lambda: _begun(stack), _BEGUN_SECONDS, poll_seconds=1):
            raise RuntimeError("no candle was moved")
        stretches = [_measure(stack, f"stretch {number + 1} of {rounds}") for number in range(rounds)]
        fed.result()
        stack.command("k2", "verify")
    columns = (
        *("minutes", "windows", "lag p50 s", "lag p99 s", "runs", "failed", "a layer's run s", "cores"),
        *("memory MiB", "descriptors", "Postgres connections", "files"),
    )
    minutes = round(STRETCH.total_seconds() / 60)
    lines = [
        (
            f"{number * minutes} to {(number + 1) * minutes}",
            *(f"{each:,}" for each in (stretch.windows, *(round(lag) for lag in stretch.lags))),
            *(f"{each:,}" for each in (stretch.runs, stretch.failed)),
            f"{stretch.run_seconds:.1f}",
            f"{stretch.cores:.2f}",
            f"{stretch.memory_bytes / 2**20:,.0f}",
            *(f"{each:,}" for each in (stretch.descriptors, stretch.connections, stretch.files)),
        )
        for number, stretch in enumerate(stretches)
    ]
    return Section("minutes", "A cycle every minute", (Figures(columns, lines),), method(rounds))


def method(rounds: int) -> str:
    """How it is measured."""
    return (
        "The embedded stack with Airflow's scheduler: `schedule` every minute, "
        f"`buffer_seconds: {BUFFER_SECONDS}`, the nine tables, and a live feed of {TRADES_PER_SECOND} trades per "
        f"second, for {rounds} times {STRETCH.total_seconds() / 60:.0f} minutes. Lag is counted from a window's first "
        "row to its commit. Cores are the CPU of all services and of what they start. Memory (shared pages counted by "
        "each), descriptors, connections and the lake's files are those at the end of each stretch. There is no "
        "maintenance meanwhile. At the end, `k2 verify` compares all tables."
    )


def _begun(stack: ScheduledStack) -> bool:
    [(known,)] = stack.query("SELECT to_regclass('k2_offload.offload_windows') IS NOT NULL")
    if not known:
        return False
    moved = stack.query(
        "SELECT 1 FROM k2_offload.offload_windows WHERE state = 'committed' AND table_name = 'ohlcv_1m'"
    )
    return bool(moved)


def _measure(stack: ScheduledStack, name: str) -> _Stretch:
    began, cpu = time.monotonic(), stack.cpu_seconds()
    for _ in track(range(round(STRETCH.total_seconds())), name, console=errors, transient=True):
        time.sleep(1)
    cores = (stack.cpu_seconds() - cpu) / (time.monotonic() - began)
    [(windows, lags)] = stack.query(_WINDOWS, STRETCH)
    [(runs, failed, run_seconds)] = stack.query(_RUNS, STRETCH)
    [(connections,)] = stack.query("SELECT count(*) FROM pg_stat_activity WHERE client_addr IS NOT NULL")
    memory_bytes, descriptors = stack.memory_and_descriptors()
    files = sum(1 for file in stack.settings.warehouse.rglob("[!.]*") if file.is_file())
    return _Stretch(windows, lags, runs, failed, run_seconds, cores, memory_bytes, descriptors, connections, files)
