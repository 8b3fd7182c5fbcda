"""A bench for offloading tables of a test's own: plan, real Spark, commit, and a look at both tiers."""

from __future__ import annotations

import json
import tempfile
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
from pyiceberg.catalog import load_catalog

from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings
from k2_offload.core.exactly_once import watermark_of
from k2_offload.core.plan import Plan, PlannedWindow
from tests.faults.submit import COMPACTION, FAULTY_JOB, JOB, submit
from tests.support import SharedStack, build_cycle, table_file


@dataclass
class Bench:
    """One test's tables, in the ClickHouse database ``k2``.

    :param name: unique in the session; start table names with it
    """

    stack: SharedStack
    folder: Path
    name: str
    resources: ExitStack

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

    def start_job(self, *planned: PlannedWindow, faults=(), parallel_tables=4, **spark):
        """Submit the real job with real Spark; returns the process.

        :param faults: what is to happen in it, see :mod:`tests.faults`
        :param spark: for :func:`embedded.spark.submit_command`
        """
        with tempfile.NamedTemporaryFile("w", dir=self.folder, suffix=".json", delete=False) as plan_file:
            plan_file.write(Plan("test", planned).to_json())
        hooks = {
            "K2_TEST_FAULTS": json.dumps([fault.to_json() for fault in faults]),
            "K2_TEST_WAKE": str(self.wake_file),
        }
        application = FAULTY_JOB if faults else JOB
        process = submit(
            application, plan_file.name, "--parallel-tables", str(parallel_tables), variables=hooks, **spark
        )
        self.resources.callback(process.kill)
        return process

    def compact(self, *tables):
        """Rewrite all files of cold tables with Iceberg's own Spark procedure; returns the output."""
        process = submit(COMPACTION, *(f"cold.{table}" for table in tables))
        output, _ = process.communicate(timeout=180)
        assert process.returncode == 0, output
        return output

    def run_job(self, *planned: PlannedWindow, faults=(), parallel_tables=4):
        """Run the job to its end; returns ``(exit code, output)``."""
        process = self.start_job(*planned, faults=faults, parallel_tables=parallel_tables)
        output, _ = process.communicate(timeout=180)
        return process.returncode, output

    def move(self, cycle, *tables):
        """Plan, run and commit; returns the job's output, or ``None`` if there was nothing to move."""
        planned = [entry for entry in (cycle.plan(cycle.tables[table]) for table in tables) if entry is not None]
        if not planned:
            return None
        code, output = self.run_job(*planned)
        assert code == 0, output
        for table in tables:
            cycle.commit(cycle.tables[table])
        return output

    def check(self, cycle, tables):
        """All rows of all tables are cold once, the ledger says what Iceberg says, nothing else is referred to."""
        records = cycle.ledger.read_tables()
        for table in tables:
            assert self.cold_rows(table) == self.warm_rows(table), table
            cold = cycle.catalog.load(cycle.tables[table])
            assert records[table].watermark == watermark_of(cold.published), table
            assert set(cold._table.metadata.refs) == {"main", "k2_published"}, table
        sql = "SELECT table_name FROM k2_offload.offload_windows WHERE state = 'open' AND table_name = ANY(%s)"
        with psycopg.connect(self.stack.ledger_dsn) as connection:
            assert connection.execute(sql, (list(tables),)).fetchall() == []

    def warm_rows(self, table, until=None):
        """The source's rows as a multiset, in Python's exact types."""
        condition = f"WHERE at < toDateTime64('{until:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')" if until else ""
        return Counter(self.sql(f"SELECT * FROM {table} {condition}"))

    def cold_rows(self, table):
        """The Iceberg table's rows as a multiset, read by pyiceberg: nobody who wrote them."""
        settings = load_settings()
        with closing(load_catalog("demo", **connections.catalog_settings(settings).pyiceberg)) as catalog:
            rows = catalog.load_table(f"cold.{table}").scan().to_arrow()
        return Counter(tuple(row.values()) for row in rows.to_pylist())


@pytest.fixture
def bench(stack: SharedStack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench whose table names start with the test's own."""
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)[:60].strip("_").lower()
    with ExitStack() as resources:
        yield Bench(stack, tmp_path, name, resources)
