"""One table, or two at once: this project against what it replaces, what one would script, and the floor."""

from __future__ import annotations

import shutil
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from types import MappingProxyType

from pyiceberg.table import StaticTable

from bench.harness.arrived import take_out
from bench.harness.job import job_command, plan, tables_of_trades
from bench.harness.measure import Contender, Cost, Meter, Turns, median_of, take_turns
from bench.harness.report import Bars, Figures, Section, Target, against
from bench.harness.stack import MIDNIGHT, Platform
from embedded.install.layout import ROOT
from embedded.spark import submit_command, submit_environment
from k2_offload.adapters import connections, spark_submit
from k2_offload.adapters.settings import load_settings
from k2_offload.core.queries import EXPORT_SETTINGS
from k2_offload.work.cycle import commit
from k2_offload.work.tiers import open_tiers

_CONTENDERS = ROOT / "bench" / "contenders"

_OLD = "old: Spark JDBC, one sorted stream"
_SCRIPT = "script: Arrow into pyiceberg"
_FLOOR = "floor: ClickHouse to Parquet"
_DEFAULTS = "use_hive_partitioning = 0"  # nothing that changes the file

BULK_ROWS = 3_777_490
WINDOW_ROWS = 53_000
SMALL_ROWS = 19_600


def measure_bulk(platform: Platform, rounds: int, scratch: Path) -> Section:
    """A backlog."""
    return _measure(platform, rounds, scratch, "bulk", [BULK_ROWS])


def measure_window(platform: Platform, rounds: int, scratch: Path) -> Section:
    """What the platform's busiest table gets in 15 minutes."""
    return _measure(platform, rounds, scratch, "window", [WINDOW_ROWS])


def measure_small(platform: Platform, rounds: int, scratch: Path) -> Section:
    """What a quiet table gets."""
    return _measure(platform, rounds, scratch, "small", [SMALL_ROWS])


def measure_two(platform: Platform, rounds: int, scratch: Path) -> Section:
    """A large table and a small one at once."""
    return _measure(platform, rounds, scratch, "two", [3_850_000, SMALL_ROWS])


def _measure(platform: Platform, rounds: int, scratch: Path, name: str, rows: Sequence[int]) -> Section:
    tables = {f"{name}_trades_{number}": each for number, each in enumerate(rows)}
    for table, each in tables.items():
        platform.create_trades(table, each)
    turns = take_turns(Bulk(platform, tables, scratch).contenders, rounds, platform.failures)
    for table in tables:
        platform.sql(f"DROP TABLE {table}")
    title = f"{name.capitalize()}: {' and '.join(f'{each:,} rows' for each in rows)}"
    seconds = median_of(turns.runs, lambda run: run[0].seconds)
    cpu = median_of(turns.runs, lambda run: run[0].cpu_seconds)
    parts = (Bars(title, seconds, "%.2f s", ["export", "jdbc"]), _figures(sum(rows), turns))
    targets = _targets(name, seconds, cpu)
    return Section(name, title, (*parts, against(targets)) if targets else parts, method(name, rounds))


_MOVED = {
    "bulk": "A backlog: one table of trades, all of one day.",
    "window": "What the busiest table gets in 15 minutes, in one table.",
    "small": "What a quiet table gets in 15 minutes, in one table.",
    "two": (
        "A large table and a small one at once. *export* and *jdbc* move both in one application. Other ways with a "
        "process start one per table, at the same time. Ways without a process write one table after the other."
    ),
}


def method(name: str, rounds: int) -> str:
    """How a section is measured."""
    if name != "bulk":
        return f"{_MOVED[name]} Rounds: {rounds}. Everything else is as in the section about the backlog."
    return (
        f"{_MOVED[name]} Each way moves all rows into new tables, in each of {rounds} rounds; the benchmark fails if a "
        "row is missing. Seconds and CPU are medians, the two peaks are the highest of all rounds. "
        '"Time of export" and "CPU of export" are multiples of the figures of *export*. Bytes per row are those of the '
        "data files."
    )


def _targets(name: str, seconds: Mapping[str, float], cpu: Mapping[str, float]) -> list[Target]:
    """What `export` should reach at a size.

    :param seconds: by way, as ``cpu``
    """
    ours = seconds["export"]
    if name == "bulk":
        return [
            Target("times as fast as the old method", seconds[_OLD] / ours, 5, at_least=True),
            Target("times less CPU than the old method", cpu[_OLD] / cpu["export"], 4, at_least=True),
            Target("times as fast as the script", seconds[_SCRIPT] / ours, 1.5, at_least=True),
            Target("time of the floor", ours / seconds[_FLOOR], 1.4),
        ]
    if name == "small":
        return [
            Target("seconds, from submitted to published", ours, 5),
            Target("times as fast as the old method", seconds[_OLD] / ours, 2.5, at_least=True),
        ]
    return []


def _figures(rows: int, turns: Turns[tuple[Cost, int]]) -> Figures:
    """Medians, their ratios to ``export``, and peaks.

    :param turns: cost and bytes of data files, of every round
    """
    columns = ("way", "time of export", "seconds", "CPU of export", "CPU s", "peak MiB", "ClickHouse MiB", "bytes/row")
    seconds = median_of(turns.runs, lambda run: run[0].seconds)
    cpu = median_of(turns.runs, lambda run: run[0].cpu_seconds)
    lines = [
        (
            way,
            f"{seconds[way] / seconds['export']:.2f}",
            f"{seconds[way]:.2f}",
            f"{cpu[way] / cpu['export']:.2f}",
            f"{cpu[way]:.2f}",
            f"{max(cost.peak_bytes for cost, _ in each) / 2**20:,.0f}",
            f"{max(cost.server_peak_bytes for cost, _ in each) / 2**20:,.0f}",
            f"{statistics.median(size for _, size in each) / rows:.1f}",
        )
        for way, each in turns.runs.items()
    ]
    return Figures(columns, [*lines, *(failure.line(len(columns)) for failure in turns.failed)])


class Bulk:
    """All ways. Of several tables, processes move one each at the same time, and ClickHouse one after the other.

    :param tables: source table → its rows; every way is checked to have moved exactly these
    """

    def __init__(self, platform: Platform, tables: Mapping[str, int], scratch: Path) -> None:
        self._platform = platform
        self._tables = tables
        self._scratch = scratch
        self._meter = Meter(platform.clickhouse_pid)
        self._number = 0

    @property
    def contenders(self) -> list[Contender[tuple[Cost, int]]]:
        """In the order in which they take turns."""
        return [
            Contender(_OLD, self._old_method),
            Contender("export", lambda: self.offload("export")),
            Contender("jdbc", lambda: self.offload("jdbc")),
            Contender(_SCRIPT, self._script),
            Contender("dlt: Arrow into its Iceberg destination", self._dlt),
            Contender("ClickHouse's own Iceberg insert", self._insert_into_iceberg),
            Contender(_FLOOR, lambda: self._floor(EXPORT_SETTINGS)),
            Contender("floor, by ClickHouse's defaults", lambda: self._floor(_DEFAULTS)),
        ]

    def _old_method(self) -> tuple[Cost, int]:
        application = _CONTENDERS / "old_method.py"
        return self._append(lambda table, target: submit_command(application, table, target, java_options=""))

    def _script(self) -> tuple[Cost, int]:
        return self._append(
            lambda table, target: [sys.executable, str(_CONTENDERS / "pyiceberg_script.py"), table, target]
        )

    def _append(self, command: Callable[[str, str], list[str]]) -> tuple[Cost, int]:
        """Run one command per table, given source and target."""
        settings = connections.catalog_settings(load_settings()).pyiceberg
        catalog = {"K2_BENCH_URI": settings["uri"], "K2_BENCH_WAREHOUSE": settings["warehouse"]}
        targets = self._new_targets()
        commands = [command(table, target) for table, target in targets.items()]
        return self._meter.commands(commands, {**submit_environment(), **catalog}), self._check(targets)

    def _dlt(self) -> tuple[Cost, int]:
        folders = {table: self._new_folder(table) for table in self._tables}
        command = [str(self._platform.settings.layout.bench.python), str(_CONTENDERS / "dlt_pipeline.py")]
        cost = self._meter.commands([[*command, *map(str, each)] for each in folders.items()], submit_environment())
        for table, folder in folders.items():
            versions = sorted((folder / "bench" / "trades" / "metadata").glob("*.metadata.json"))
            files = StaticTable.from_metadata(str(versions[-1])).scan().plan_files()
            self._require(table, sum(task.file.record_count for task in files))
        return cost, sum(_bytes_below(folder / "bench") for folder in folders.values())

    def offload(
        self,
        transport: str,
        application: Path = spark_submit.OFFLOAD,
        variables: Mapping[str, str] = MappingProxyType({}),
    ) -> tuple[Cost, int]:
        """From submitted to published; the plan was made before, as Airflow's task does.

        :param application: the job, or one that wraps it
        :param variables: its environment, beside the connections
        """
        targets = self._new_targets()
        specs = tables_of_trades({target: table for table, target in targets.items()}, transport=transport)
        archive = load_settings().spark_class_archive
        options = spark_submit.driver_options(archive, short=transport == "export")
        with open_tiers(specs, lambda: MIDNIGHT + timedelta(days=2)) as tiers:
            tiers.ledger.migrate()
            tables = list(tiers.tables.by_name.values())
            planned = [plan(tiers, table) for table in tables]
            command = job_command(self._scratch / "plan.json", *planned, application=application, java_options=options)
            cost = self._meter.command(command, {**submit_environment(), **variables})
            for table in tables:
                commit(tiers, table)
        return cost, self._check(targets)

    def _insert_into_iceberg(self) -> tuple[Cost, int]:
        inserts, size = [], 0
        folders = {table: self._new_folder(table) for table in self._tables}
        for table, folder in folders.items():
            structure = ", ".join(
                f"{column} {kind}"
                for column, kind in self._platform.sql(
                    "SELECT name, replaceRegexpOne(replaceRegexpOne(type, 'LowCardinality\\\\((.*)\\\\)', '\\\\1'), "
                    f"'^UInt64$', 'Int64') FROM system.columns WHERE database = 'k2' AND table = '{table}'"
                )
            )
            self._platform.sql(
                f"CREATE TABLE {folder.name} ({structure}) ENGINE = IcebergLocal('{folder}/', 'Parquet') "
                "SETTINGS iceberg_format_version = 2"
            )
            inserts.append(f"INSERT INTO {folder.name} SELECT * FROM {table} SETTINGS allow_insert_into_iceberg = 1")
        cost = self._meter.call(lambda: [self._platform.sql(insert) for insert in inserts])
        for table, folder in folders.items():
            [(rows,)] = self._platform.sql(f"SELECT count() FROM {folder.name}")
            self._require(table, rows)
            size += _bytes_below(folder)
        return cost, size

    def _floor(self, settings: str) -> tuple[Cost, int]:
        folders = {table: self._new_folder(table) for table in self._tables}
        inserts = [
            f"INSERT INTO FUNCTION file('{folder}/floor.parquet', 'Parquet') SELECT * FROM {table} "
            f"ORDER BY symbol, exchange_timestamp SETTINGS {settings}"
            for table, folder in folders.items()
        ]
        cost, size = self._meter.call(lambda: [self._platform.sql(insert) for insert in inserts]), 0
        for table, folder in folders.items():
            [(rows,)] = self._platform.sql(f"SELECT count() FROM file('{folder}/floor.parquet', 'Parquet')")
            self._require(table, rows)
            size += _bytes_below(folder)
        return cost, size

    def _new_targets(self) -> dict[str, str]:
        self._number += 1
        return {table: f"bench.{table}_{self._number}" for table in self._tables}

    def _new_folder(self, table: str) -> Path:
        self._number += 1
        folder = self._platform.settings.warehouse / f"{table}_{self._number}"
        folder.mkdir(parents=True)
        return folder

    def _check(self, targets: Mapping[str, str]) -> int:
        """Count the rows of Iceberg tables, drop them with their files, and say how large they were.

        :param targets: by source table
        """
        size = 0
        for source, target in targets.items():
            files = take_out(target)
            self._require(source, sum(file.record_count for file in files))
            size += sum(file.file_size_in_bytes for file in files)
        return size

    def _require(self, table: str, rows: int) -> None:
        if rows != self._tables[table]:
            raise RuntimeError(f"{rows} of {self._tables[table]} rows of {table} arrived")


def _bytes_below(folder: Path) -> int:
    size = sum(file.stat().st_size for file in folder.rglob("*.parquet"))
    shutil.rmtree(folder)
    return size
