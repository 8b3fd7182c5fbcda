"""A history of offload cycles, made fast, with cycles measured in between."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pyiceberg.catalog import load_catalog
from pyiceberg.table import Table
from rich.progress import track

from bench.harness.arrived import take_out
from bench.harness.job import job_command, plan, tables_of_trades
from bench.harness.measure import Meter
from bench.harness.stack import MIDNIGHT, Platform
from bench.harness.warm_spark import BenchSpark, warm_spark
from embedded.spark import submit_environment
from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings
from k2_offload.cli.console import errors
from k2_offload.core.tables import Tables, TableSpec
from k2_offload.work.compare import compare
from k2_offload.work.cycle import commit
from k2_offload.work.tiers import Tiers, open_tiers

ROWS_PER_CYCLE = 5_000
CYCLES_PER_DAY = 96
_SMOOTHED_CYCLES = 20
_INTERVAL = timedelta(days=1) / CYCLES_PER_DAY
MAINTAINED, UNMAINTAINED, NEW = "maintained", "unmaintained", "new"
_SOURCE, _NEW_SOURCE = "growth_trades", "growth_new_trades"
_TARGETS = [f"bench.{name}" for name in (MAINTAINED, UNMAINTAINED)]


@dataclass(frozen=True)
class CycleCost:
    """Seconds of one cycle of one table, by step.

    :param cpu: of ``spark-submit`` and ClickHouse together, while the job runs
    """

    plan: float
    submit: float
    commit: float
    cpu: float

    @property
    def seconds(self) -> float:
        """From the first to the last."""
        return self.plan + self.submit + self.commit

    @staticmethod
    def median(runs: Sequence[CycleCost]) -> CycleCost:
        """The median of each step."""
        steps = ((run.plan, run.submit, run.commit, run.cpu) for run in runs)
        return CycleCost(*map(statistics.median, zip(*steps, strict=True)))


@dataclass(frozen=True)
class Metadata:
    """How large an Iceberg table's metadata is; sizes in bytes.

    :param json_bytes: of the metadata file that is current
    :param manifests: those of the current snapshot
    :param files: all below the metadata folder, and ``files_bytes`` their size
    """

    snapshots: int
    data_files: int
    json_bytes: int
    manifests: int
    manifest_bytes: int
    manifest_list_bytes: int
    files: int
    files_bytes: int


@contextmanager
def running_history(platform: Platform, scratch: Path) -> Iterator[History]:
    """Both tables, empty, and an application that makes their history."""
    with ExitStack() as resources:
        spark = resources.enter_context(warm_spark())
        platform.create_trades_table(_SOURCE)
        resources.callback(lambda: platform.sql(f"DROP TABLE {_SOURCE}"))
        history = History(platform, scratch, spark)
        resources.enter_context(closing(history))
        yield history


class History:
    """Two tables of one source, one of them maintained, by a clock of their own."""

    def __init__(self, platform: Platform, scratch: Path, spark: BenchSpark) -> None:
        self._platform = platform
        self._plan_file = scratch / "plan.json"
        self._spark = spark
        self._meter = Meter(platform.clickhouse_pid)
        self._tables = tables_of_trades(dict.fromkeys(_TARGETS, _SOURCE), warm_retention_days=30)
        self._now = MIDNIGHT
        self._cycles = 0
        self._planning: dict[str, list[float]] = {name: [] for name in self._tables.by_name}
        self._resources = ExitStack()
        self._tiers = self._resources.enter_context(self._open(self._tables))
        self._tiers.ledger.migrate()

    def close(self) -> None:
        """End its connections."""
        self._resources.close()

    def _open(self, tables: Tables) -> AbstractContextManager[Tiers]:
        return open_tiers(tables, lambda: self._now)

    @property
    def _specs(self) -> Sequence[TableSpec]:
        return list(self._tables.by_name.values())

    def go_on_until(self, cycles: int) -> None:
        """Let cycles pass until there have been so many."""
        for _ in track(range(self._cycles, cycles), f"to {cycles} cycles", console=errors, transient=True):
            self._let_trades_arrive(_SOURCE)
            planned = []
            for spec in self._specs:
                started = time.perf_counter()
                planned.append(plan(self._tiers, spec))
                self._planning[spec.name].append(time.perf_counter() - started)
            self._spark.move(*planned)
            for spec in self._specs:
                commit(self._tiers, spec)
            self._end_cycle()

    def measure(self, rounds: int) -> dict[str, list[CycleCost]]:
        """The next cycles, each table's by itself, as Airflow's tasks run them; beside them those of a new table."""
        runs: dict[str, list[CycleCost]] = {name: [] for name in (NEW, *self._tables.by_name)}
        with self._new_table() as new:
            turns = [(NEW, new, spec) for spec in new.by_name.values()]
            turns += [(spec.name, self._tables, spec) for spec in self._specs]
            for number in track(range(rounds), "measuring", console=errors, transient=True):
                self._let_trades_arrive(_SOURCE, _NEW_SOURCE)
                self._platform.wait_for_merges()
                first = number % len(turns)
                for name, tables, spec in turns[first:] + turns[:first]:
                    runs[name].append(self._measure_one(tables, spec))
                self._end_cycle()
        return runs

    @contextmanager
    def _new_table(self) -> Iterator[Tables]:
        """A table after its first cycle; it goes afterwards."""
        self._platform.create_trades_table(_NEW_SOURCE)
        self._platform.insert_trades(_NEW_SOURCE, ROWS_PER_CYCLE, self._now - _INTERVAL, _INTERVAL)
        tables = tables_of_trades({f"bench.{NEW}_{self._cycles}": _NEW_SOURCE}, warm_retention_days=30)
        [spec] = tables.by_name.values()
        with self._open(tables) as tiers:
            self._spark.move(plan(tiers, spec))
            commit(tiers, spec)
        yield tables
        take_out(spec.target)
        self._platform.sql(f"DROP TABLE {_NEW_SOURCE}")

    def _measure_one(self, tables: Tables, spec: TableSpec) -> CycleCost:
        started = time.perf_counter()
        with self._open(tables) as tiers:
            tiers.ledger.migrate()  # as the task does every time
            planned = plan(tiers, spec)
        plan_seconds = time.perf_counter() - started
        cost = self._meter.command(job_command(self._plan_file, planned), submit_environment())
        started = time.perf_counter()
        with self._open(tables) as tiers:
            commit(tiers, spec)
        return CycleCost(plan_seconds, cost.seconds, time.perf_counter() - started, cost.cpu_seconds)

    def _let_trades_arrive(self, *sources: str) -> None:
        for source in sources:
            self._platform.insert_trades(source, ROWS_PER_CYCLE, self._now, _INTERVAL)
        self._now += _INTERVAL

    def _end_cycle(self) -> None:
        self._cycles += 1
        if self._cycles % CYCLES_PER_DAY == 0:
            self._maintain(self._tables[MAINTAINED].target)

    def _maintain(self, target: str) -> None:
        procedures = f"CALL {connections.catalog_settings(load_settings()).name}.system"
        self._spark.sql(f"{procedures}.rewrite_data_files(table => '{target}')")
        self._spark.sql(f"{procedures}.rewrite_manifests(table => '{target}')")
        self._spark.sql(
            f"{procedures}.expire_snapshots(table => '{target}', retain_last => {CYCLES_PER_DAY}, "
            f"older_than => TIMESTAMP '{datetime.now(UTC):%Y-%m-%d %H:%M:%S}')"
        )

    def metadata(self) -> dict[str, Metadata]:
        """Of both tables, as they are now."""
        settings = connections.catalog_settings(load_settings())
        with closing(load_catalog(settings.name, **settings.pyiceberg)) as catalog:
            return {spec.name: _metadata_of(catalog.load_table(spec.target)) for spec in self._specs}

    def planning_curves(self) -> dict[str, list[tuple[float, float]]]:
        """Milliseconds by cycle, medians of twenty, connections kept."""
        return {
            name: [
                (first + _SMOOTHED_CYCLES / 2, 1000 * statistics.median(seconds[first : first + _SMOOTHED_CYCLES]))
                for first in range(0, len(seconds), _SMOOTHED_CYCLES)
            ]
            for name, seconds in self._planning.items()
        }

    def check(self) -> None:
        """Both tables hold what ClickHouse holds.

        :raises RuntimeError: otherwise
        """
        for spec in self._specs:
            result = compare(self._tiers, spec)
            if not (result.equal and result.warm_rows):
                raise RuntimeError(f"the tiers differ: {result}")


def _metadata_of(table: Table) -> Metadata:
    snapshot = table.current_snapshot()
    if snapshot is None:
        raise RuntimeError(f"{table.name()} is empty")
    manifests = snapshot.manifests(table.io)
    # Without the checksums that Hadoop's local file system puts beside each file, hidden.
    files = list(Path(table.location().removeprefix("file://"), "metadata").glob("[!.]*"))
    return Metadata(
        snapshots=len(table.metadata.snapshots),
        data_files=sum((each.added_files_count or 0) + (each.existing_files_count or 0) for each in manifests),
        json_bytes=len(table.io.new_input(table.metadata_location)),
        manifests=len(manifests),
        manifest_bytes=sum(each.manifest_length for each in manifests),
        manifest_list_bytes=len(table.io.new_input(snapshot.manifest_list)),
        files=len(files),
        files_bytes=sum(file.stat().st_size for file in files),
    )
