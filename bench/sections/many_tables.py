"""What many tables in one table file cost."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from rich.progress import track

from bench.harness.job import plan, table_file_of_trades
from bench.harness.report import Figures, Section
from bench.harness.stack import MIDNIGHT, Platform
from bench.harness.warm_spark import BenchSpark, warm_spark
from embedded.install.layout import ROOT
from k2_offload.adapters.table_file import parse_tables
from k2_offload.cli.console import errors
from k2_offload.core import metrics
from k2_offload.core.tables import TableSpec
from k2_offload.work import cycle
from k2_offload.work.observe import observe
from k2_offload.work.overview import read_overview
from k2_offload.work.tiers import Tiers, open_tiers

NUMBERS = (10, 100, 1000)
"""So many tables, one number after the other; the cold tables of the smaller one are among those of the next."""

_SOURCE, _ROWS = "many_trades", 100
_NOW = MIDNIGHT + timedelta(days=1)
_AT_ONCE = 50
_PARSE = """
import json, resource, runpy, sys, time
from airflow.sdk import DAG
import k2_offload.airflow_tasks.layer_dag
memory, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
runpy.run_path(sys.argv[1])
print(json.dumps([time.perf_counter() - started, 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory)]))
"""


@dataclass(frozen=True)
class Cost:
    """What so many tables cost: seconds, and sizes in bytes.

    :param parse: the DAG file, and ``parse_bytes`` the memory that it takes
    :param plan: one task ``plan`` for all of them, with nothing new
    :param observe: a look at everything, for the metrics; ``series`` is how many those are
    :param overview: a look at everything, for the page
    :param begin: the first windows of the tables that are new, from planning to committing, for each of these
    """

    tables: int
    parse: float
    parse_bytes: int
    plan: float
    observe: float
    series: int
    overview: float
    begin: float


def measure_many_tables(platform: Platform, rounds: int, scratch: Path) -> Section:
    """The DAG file, a cycle's plans and the looks at everything, with ever more tables."""
    platform.create_trades(_SOURCE, _ROWS)
    with warm_spark() as spark:
        costs = [_measure(spark, number, rounds, scratch / "tables.yaml") for number in NUMBERS]
    columns = (
        *("tables", "DAG file s", "its MiB", "plan s", "metrics s", "series", "page s"),
        "first window of one s",
    )
    lines = [
        (
            f"{cost.tables:,}",
            f"{cost.parse:.2f}",
            f"{cost.parse_bytes / 2**20:,.0f}",
            f"{cost.plan:.2f}",
            f"{cost.observe:.2f}",
            f"{cost.series:,}",
            f"{cost.overview:.2f}",
            f"{cost.begin:.2f}",
        )
        for cost in costs
    ]
    return Section("tables", "Many tables in one table file", (Figures(columns, lines),), method(rounds))


def method(rounds: int) -> str:
    """How it is measured."""
    return (
        f"Tables of one layer, all of them with the same source of {_ROWS} trades. The DAG file is read in a new "
        "process, without what Airflow itself needs. The plans are those of one task, table by table, when nothing is "
        'new; "metrics" and "page" are one look at all services and tables. Connections are new each time. '
        f"Medians of {rounds} rounds. The first windows are planned, moved by an application that stays up, {_AT_ONCE} "
        "at a time, and committed, once."
    )


def _measure(spark: BenchSpark, number: int, rounds: int, file: Path) -> Cost:
    text = table_file_of_trades({f"bench.many_{each}": _SOURCE for each in range(number)}, warm_retention_days=30)
    file.write_text(text)
    tables = parse_tables(text)
    specs = list(tables.by_name.values())

    def seconds(use: Callable[[Tiers], object]) -> float:
        runs = []
        for _ in track(range(rounds), f"{number} tables", console=errors, transient=True):
            started = time.perf_counter()
            with open_tiers(tables, lambda: _NOW) as tiers:
                use(tiers)
            runs.append(time.perf_counter() - started)
        return statistics.median(runs)

    with open_tiers(tables, lambda: _NOW) as tiers:
        tiers.ledger.migrate()
        known = tiers.ledger.read_tables()
        new = [spec for spec in specs if spec.name not in known]
        started = time.perf_counter()
        _begin(tiers, spark, new)
        begin = (time.perf_counter() - started) / len(new)
        seen = observe(tiers, {}, time.monotonic)
    parse, parse_bytes = zip(*(_parse(file) for _ in range(rounds)), strict=True)
    return Cost(
        tables=number,
        parse=statistics.median(parse),
        parse_bytes=statistics.median_high(parse_bytes),
        plan=seconds(lambda tiers: [cycle.plan(tiers, spec, "bench") for spec in specs]),
        observe=seconds(lambda tiers: observe(tiers, {}, time.monotonic)),
        series=sum(len(list(metric.read(seen))) for metric in metrics.METRICS),
        overview=seconds(lambda tiers: read_overview(tiers, {})),
        begin=begin,
    )


def _begin(tiers: Tiers, spark: BenchSpark, specs: list[TableSpec]) -> None:
    for first in track(range(0, len(specs), _AT_ONCE), "first windows", console=errors, transient=True):
        some = specs[first : first + _AT_ONCE]
        spark.move(*(plan(tiers, spec) for spec in some))
        for spec in some:
            cycle.commit(tiers, spec)


def _parse(file: Path) -> tuple[float, int]:
    done = subprocess.run(
        [sys.executable, "-c", _PARSE, str(ROOT / "dags" / "offload_layers.py")],
        env={**os.environ, "AIRFLOW__K2_OFFLOAD__TABLES_FILE": str(file)},
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, memory = json.loads(done.stdout.splitlines()[-1])
    return seconds, memory
