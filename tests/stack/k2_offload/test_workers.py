"""A window in several files: in threads of the driver, and on a real Spark cluster of four workers."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta

import pytest

from embedded.spark_standalone import standalone_cluster
from k2_offload.core.windows import parse_time
from tests.faults.output import Output

MIDNIGHT = datetime(2026, 3, 5, tzinfo=UTC)
FIRST = MIDNIGHT - timedelta(hours=10)
ROWS = 8_000
STEP_MICROS = 9_000_000  # 20 hours, ten on each day
NOW = MIDNIGHT + timedelta(days=1)
FILE_ROWS = 1_000
FILES = ROWS // FILE_ROWS
WORKERS = 4
_PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def cluster(stack, tmp_path_factory):
    with standalone_cluster(tmp_path_factory.mktemp("spark"), WORKERS, stack.environment) as running:
        yield running


def slow_source(bench):
    """Trades of two days that ClickHouse counts at once and exports in 1.5 s a file; returns table and view."""
    table = bench.create_trades("t")
    bench.insert_trades(table, FIRST, ROWS, STEP_MICROS)
    view = f"{table}_slow"
    bench.sql(
        f"CREATE VIEW {view} AS SELECT at, sequence, symbol, price, if(sleepEachRow(0.0015) = 0, note, '') AS note "
        f"FROM {table}"
    )
    return table, view


def plan(bench, view, **changes):
    spec = bench.spec(view, max_file_rows=FILE_ROWS, **changes)
    cycle = bench.cycle(spec, now=NOW)
    return cycle, cycle.plan(cycle.tables[view])


def exports(output):
    """``(process, start, end)`` of each export that the job tells of."""
    found = re.findall(r"exported \S+\.parquet by (\S+) from (\S+) to (\S+)", output)
    return [(process, parse_time(start), parse_time(end)) for process, start, end in found]


def most_at_once(runs):
    return max(sum(start <= moment < end for _, start, end in runs) for _, moment, _ in runs)


def test_threads_of_the_driver_export_side_by_side(bench):
    table, view = slow_source(bench)
    cycle, planned = plan(bench, view, parallel_exports=FILES)
    code, output = bench.run_job(planned)
    assert code == 0, output
    assert len(exports(output)) == FILES
    assert most_at_once(exports(output)) > 1
    assert bench.cold_rows(view) == bench.warm_rows(table)
    cycle.commit(cycle.tables[view])
    assert cycle.plan(cycle.tables[view]) is None


def test_four_workers_export_side_by_side(bench, cluster):
    table, view = slow_source(bench)
    cycle, planned = plan(bench, view)
    job = Output(bench.start_job(planned, master=cluster.master, conf=cluster.submit_options))
    code, output = job.wait_for_end(_PATIENCE_SECONDS)
    assert code == 0, output
    runs = exports(output)
    assert len(runs) == FILES
    assert len({process for process, _, _ in runs}) == WORKERS
    assert all(list(folder.glob("app-*/*/export_task.py")) for folder in cluster.folders)  # fetched by the first task
    assert most_at_once(runs) == WORKERS
    assert bench.cold_rows(view) == bench.warm_rows(table)
    cycle.commit(cycle.tables[view])
    assert cycle.plan(cycle.tables[view]) is None


def test_a_refused_export_fails_the_job_with_the_words_of_clickhouse(bench, cluster):
    table, view = slow_source(bench)
    _, planned = plan(bench, view)
    bench.sql(f"ALTER TABLE {table} DROP COLUMN note")
    job = Output(bench.start_job(planned, master=cluster.master, conf=cluster.submit_options))
    code, output = job.wait_for_end(_PATIENCE_SECONDS)
    assert code == 1
    assert "ERROR ClickHouse refused a query" in output
    assert "note" in output
    assert not bench.cold_rows(view)


def test_the_exports_of_a_worker_that_is_killed_move_to_another(bench, cluster):
    table, view = slow_source(bench)
    cycle, planned = plan(bench, view)
    job = Output(bench.start_job(planned, master=cluster.master, conf=cluster.submit_options))
    wait_for_exports(bench, view, WORKERS if queries_run_side_by_side(bench) else 1)
    cluster.kill_worker(0)
    code, output = job.wait_for_end(_PATIENCE_SECONDS)
    assert code == 0, output
    assert len(exports(output)) == FILES
    assert most_tries(output) > FILES, "Spark has repeated what the lost worker had begun"
    assert bench.cold_rows(view) == bench.warm_rows(table)
    cycle.commit(cycle.tables[view])
    assert cycle.plan(cycle.tables[view]) is None


def queries_run_side_by_side(bench):
    """Inside one process ClickHouse 25.8 runs one query at a time; the other exports wait for a turn."""
    return int(bench.stack.settings.clickhouse_version.split(".")[0]) >= 26


def most_tries(output):
    """How many tries of an export Spark has numbered, at the least: the number is the last one of a file's name."""
    return 1 + max(int(number) for number in re.findall(r"exported \S+-(\d+)\.parquet by ", output))


def wait_for_exports(bench, view, count):
    """Until so many files are being written: the engine makes a file when its query begins."""
    data = bench.stack.settings.warehouse / "cold" / view / "data"
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while len(list(data.rglob("*.parquet"))) < count:
        assert time.monotonic() < deadline, "the exports have not begun"
        time.sleep(0.1)
