"""A workbench for offloading tables of a test's own: plan, real Spark, commit, and a look at both tiers."""

from __future__ import annotations

import json
import tempfile
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlparse

from embedded.warm_spark import WarmSpark
from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.plan import PlannedRows, group_plans
from k2_offload.work.maintenance import plan_all, record
from tests.faults.output import WarmOutput
from tests.faults.submit import FAULTY_JOB, JOB, submit
from tests.support.cold import cold_catalog, cold_rows, load_cold_table
from tests.support.cycles import build_cycle, table_file
from tests.support.ledger import open_windows
from tests.support.stack import SharedStack


@dataclass
class Workbench:
    """One test's tables, in the ClickHouse database ``k2``.

    :param name: unique in the session; start table names with it
    :param start_spark: gives the application that stays up; started when it is first needed
    :param warehouse: the folder of this machine that holds the cold tables' files, whoever serves them
    """

    stack: SharedStack
    folder: Path
    name: str
    resources: ExitStack
    start_spark: Callable[[], WarmSpark]
    warehouse: Path

    @property
    def spark(self):
        return self.start_spark()

    @property
    def wake_file(self):
        """Jobs that wait at a fault point go on when it exists."""
        return self.folder / "wake"

    def sql(self, statement, rows=None):
        with self.stack.clickhouse_client() as client:
            return client.execute(statement, rows)

    def create_trades(self, suffix="trades", extra=""):
        """A source table of trades; returns its name."""
        table = f"{self.name}_{suffix}"
        self.sql(
            f"CREATE TABLE {table} (at DateTime64(6, 'UTC'), sequence UInt64, symbol LowCardinality(String), "
            f"price Decimal(38, 18), note Nullable(String) {extra}) ENGINE = MergeTree "
            f"PARTITION BY toDate(at) ORDER BY (symbol, at)"
        )
        return table

    def insert_trades(self, table, first, count, step_micros=1_000_000, start_sequence=0):
        """``count`` trades from ``first`` on; every third has no note, and pairs share a timestamp."""
        micros = f"toUnixTimestamp64Micro(toDateTime64('{first:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC'))"
        self.sql(
            f"INSERT INTO {table} (at, sequence, symbol, price, note) SELECT "
            f"fromUnixTimestamp64Micro({micros} + intDiv(number, 2) * 2 * {step_micros}, 'UTC'), "
            f"number + {start_sequence}, ['BTC/USDT', 'ETH/EUR'][1 + number % 2], toDecimal128(number, 18) / 7, "
            f"if(number % 3 = 0, NULL, concat('n', toString(number))) FROM numbers({count})"
        )

    def spec(self, table, **changes):
        """The entry of one table for :meth:`cycle`; in layer bronze unless told otherwise."""
        values = {
            "layer": "bronze",
            "source": f"k2.{table}",
            "target": f"cold.{table}",
            "timestamp_column": "at",
            "sequence_column": "sequence",
            "sort_columns": "[symbol, at]",
        } | changes
        lines = "\n".join(f"{key}: {value}" for key, value in values.items() if value is not None)
        return f"{table}:\n{textwrap.indent(lines, '  ')}"

    def cycle(self, *specs, now=None, resources=None):
        """A cycle over these tables alone; ``now`` stands still when given."""
        cycle = build_cycle(resources or self.resources, now, table_file(specs), f"test__{self.name}")
        cycle.ledger.migrate()
        return cycle

    def start_job(self, *planned: PlannedRows, application=JOB, faults=(), parallel_tables=4, **spark):
        """Submit the real job with real Spark; returns the process.

        :param application: the job, or one that wraps it
        :param faults: what is to happen in it, see :mod:`tests.faults`
        :param spark: for :func:`embedded.spark.submit_command`
        """
        hooks = {
            "K2_TEST_FAULTS": json.dumps([fault.to_json() for fault in faults]),
            "K2_TEST_WAKE": str(self.wake_file),
        }
        arguments = self._arguments(planned, parallel_tables)
        process = submit(FAULTY_JOB if faults else application, *arguments, variables=hooks, **spark)
        self.resources.callback(process.kill)
        return process

    def start_warm_job(self, *planned: PlannedRows, faults=(), parallel_tables=4):
        """As :meth:`start_job`, with the connections of the moment, in the application that is up; returns its output.

        For what neither ends a process nor is about its start.
        """
        connections_now = connections.job_connections(load_settings()).to_json()
        told = [fault.to_json() for fault in faults]
        arguments = self._arguments(planned, parallel_tables)
        output = WarmOutput(self.spark, "main", arguments, connections_now, told, str(self.wake_file))
        self.resources.callback(self._end, output)
        return output

    def _arguments(self, planned, parallel_tables):
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".json", delete=False) as plan_file:
            plan_file.write(_plan(planned))
        return plan_file.name, "--parallel-tables", str(parallel_tables)

    def _end(self, output):
        """Leave no job in the application that all tests share."""
        self.wake_file.touch()
        output.wait_for_end()

    def compact(self, *tables):
        """Rewrite all files of cold tables with Iceberg's own Spark procedure; returns how many files of each."""
        return [self.spark.ask("sql", compaction(f"cold.{table}"))[0][0] for table in tables]

    def maintain(self, cycle, table, faults=(), dry_run=False, **changes):
        """Tidy a cold table in the application that is up; returns what was done.

        :param changes: to what is planned
        """
        plan, problems = plan_all(cycle.tiers, [cycle.tables[table]], dry_run=dry_run)
        assert not problems
        plan = replace(plan, tables=tuple(replace(planned, **changes) for planned in plan.tables))
        report = self.spark.ask("maintain_with_faults", plan.to_json(), [fault.to_json() for fault in faults])
        list(record(cycle.tiers, report, dry_run=dry_run))
        return report[0] if report else None

    def run_job(self, *planned: PlannedRows, **options):
        """Run the job to its end, with the options of :meth:`start_job`; returns ``(exit code, output)``."""
        process = self.start_job(*planned, **options)
        output, _ = process.communicate(timeout=180)
        return process.returncode, output

    def publish(self, *planned: PlannedRows, parallel_tables=4):
        """As :meth:`run_job`, in an application that is up already: where its start is not what is tested."""
        done, output = self.try_to_publish(*planned, parallel_tables=parallel_tables)
        assert done, output
        return output

    def try_to_publish(self, *planned: PlannedRows, parallel_tables=4):
        """As :meth:`publish`; returns whether all is published, and the job's output."""
        if any(entry.transport != "export" for entry in planned):
            self.spark.ask("sql", "SELECT 1")  # starts the session as statements need it, before a transport does
        return self.spark.ask("move", _plan(planned), parallel_tables)

    def move(self, cycle, *tables):
        """Plan, publish and commit; returns the job's output, or ``None`` if there was nothing to move."""
        planned = [entry for entry in (cycle.plan(cycle.tables[table]) for table in tables) if entry is not None]
        if not planned:
            return None
        output = self.publish(*planned)
        for table in tables:
            cycle.commit(cycle.tables[table])
        return output

    def check(self, cycle, tables):
        """All rows of all tables are cold once, the ledger says what Iceberg says, nothing else is referred to."""
        records = cycle.ledger.read_tables()
        for table in tables:
            assert self.cold_rows(table) == self.warm_rows(table), table
            assert records[table].watermark == watermark_of(cycle.catalog.load(cycle.tables[table]).published), table
            assert set(self.cold_table(table).metadata.refs) - {"k2_healed"} == {"main", "k2_published"}, table
        assert open_windows(self.stack.ledger_dsn, tables) == []

    def warm_rows(self, table, until=None):
        """The source's rows as a multiset, in Python's exact types."""
        condition = f"WHERE at < toDateTime64('{until:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')" if until else ""
        return Counter(self.sql(f"SELECT * FROM {table} {condition}"))

    def cold_rows(self, table):
        """The Iceberg table's rows as a multiset, read by pyiceberg: nobody who wrote them."""
        return cold_rows(table)

    def cold_table(self, table):
        """The Iceberg table as pyiceberg shows it now."""
        return load_cold_table(table)

    def path_of(self, table, uri=""):
        """Where a file of a cold table is on this machine; the table's folder if none is named."""
        name = unquote(urlparse(uri).path).partition(f"/cold/{table}/")[2]
        return self.warehouse / "cold" / table / name

    def files_on_disk(self, table):
        """The data files in the cold table's folder."""
        return {str(file) for file in self.path_of(table).rglob("*.parquet")}

    def files_referred_to(self, table):
        """The data files of all snapshots, also of those that no reader sees."""
        cold = self.cold_table(table)
        manifests = {each.manifest_path: each for shot in cold.metadata.snapshots for each in shot.manifests(cold.io)}
        entries = (entry for each in manifests.values() for entry in each.fetch_manifest_entry(cold.io))
        return {str(self.path_of(table, entry.data_file.file_path)) for entry in entries}

    @cached_property
    def cold_catalog(self):
        """To change cold tables as another program does."""
        return self.resources.enter_context(cold_catalog())


def _plan(planned: Sequence[PlannedRows]) -> str:
    [plan] = group_plans([("test", each) for each in planned])
    return plan.to_json()


def compaction(target: str) -> str:
    """The statement that rewrites all files of a cold table; its first column counts them."""
    catalog = connections.catalog_settings(load_settings()).name
    return f"CALL {catalog}.system.rewrite_data_files(table => '{target}', options => map('rewrite-all', 'true'))"
