"""A bench for offloading tables of a test's own: plan, real Spark, commit, and a look at both tiers."""

from __future__ import annotations

import os
import subprocess
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pyiceberg.catalog import load_catalog

from k2_offload.adapters import airflow_config
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.iceberg import ColdCatalog
from k2_offload.core.connections import JobConnections
from k2_offload.core.plan import Plan, PlannedTable
from k2_offload.core.tables import parse_tables
from k2_offload.cycle import Cycle
from tests.support import SharedStack

JOB = Path(__file__).parents[3] / "include" / "spark_jobs" / "offload.py"


@dataclass
class Bench:
    """One test's tables, in the ClickHouse database ``k2``.

    :param name: unique in the session; start table names with it
    """

    stack: SharedStack
    folder: Path
    name: str
    resources: ExitStack

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

    def cycle(self, *specs, now=None):
        """A cycle over these tables alone; ``now`` stands still when given."""
        settings = airflow_config.load_settings()
        ledger = airflow_config.load_ledger(settings)
        ledger.create_schema()
        return Cycle(
            tables=parse_tables("tables:\n" + textwrap.indent("\n".join(specs), "  ")),
            ledger=ledger,
            clickhouse=self.resources.enter_context(closing(ClickHouse(airflow_config.load_clickhouse(settings)))),
            catalog=self.resources.enter_context(closing(ColdCatalog(airflow_config.load_catalog(settings)))),
            now=lambda: now or datetime.now(UTC),
            dag_run_id=f"test__{self.name}",
        )

    def start_job(self, *planned: PlannedTable):
        """Submit the real job with real Spark; returns the process."""
        settings = airflow_config.load_settings()
        plan_file = self.folder / f"plan-{len(list(self.folder.iterdir()))}.json"
        plan_file.write_text(Plan("test", planned).to_json())
        environment = {
            **os.environ,
            "PYSPARK_PYTHON": settings.spark_python,
            "PYSPARK_DRIVER_PYTHON": settings.spark_python,
            JobConnections.VARIABLE: airflow_config.load_job_connections(settings).to_json(),
        }
        options = f"-Dlog4j2.configurationFile={(JOB.parent / 'log4j2.properties').as_uri()} -XX:TieredStopAtLevel=1"
        return subprocess.Popen(
            [
                settings.spark_binary,
                *("--master", "local[2]", "--conf", "spark.ui.enabled=false"),
                *("--conf", f"spark.driver.extraJavaOptions={options}"),
                *("--driver-class-path", settings.spark_jars.replace(",", ":")),
                str(JOB),
                str(plan_file),
            ],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run_job(self, *planned: PlannedTable):
        """Run the job to its end; returns ``(exit code, output)``."""
        process = self.start_job(*planned)
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

    def warm_rows(self, table, until=None):
        """The source's rows as a multiset, in Python's exact types."""
        condition = f"WHERE at < toDateTime64('{until:%Y-%m-%d %H:%M:%S.%f}', 6, 'UTC')" if until else ""
        return Counter(self.sql(f"SELECT * FROM {table} {condition}"))

    def cold_rows(self, table):
        """The Iceberg table's rows as a multiset, read by pyiceberg: nobody who wrote them."""
        settings = airflow_config.load_settings()
        with closing(load_catalog("demo", **airflow_config.load_catalog(settings).pyiceberg)) as catalog:
            rows = catalog.load_table(f"cold.{table}").scan().to_arrow()
        return Counter(tuple(row.values()) for row in rows.to_pylist())


@pytest.fixture
def bench(stack: SharedStack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Bench]:
    """A bench whose table names start with the test's own."""
    name = "".join(letter if letter.isalnum() else "_" for letter in request.node.name)[:60].strip("_").lower()
    with ExitStack() as resources:
        yield Bench(stack, tmp_path, name, resources)
