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


def slow_source(workbench):
    """Trades of two days that ClickHouse counts at once and exports in 1.5 s a file; returns table and view."""
    table = workbench.create_trades("t")
    workbench.insert_trades(table, FIRST, ROWS, STEP_MICROS)
    view = f"{table}_slow"
    workbench.sql(
        f"CREATE VIEW {view} AS SELECT at, sequence, symbol, price, if(sleepEachRow(0.0015) = 0, note, '') AS note "
        f"FROM {table}"
    )
    return table, view


def plan(workbench, view, **changes):
    spec = workbench.spec(view, max_file_rows=FILE_ROWS, **changes)
    cycle = workbench.cycle(spec, now=NOW)
    return cycle, cycle.plan(cycle.tables[view])


def exports(output):
    """``(process, start, end)`` of each export that the job tells of."""
    found = re.findall(r"exported \S+\.parquet by (\S+) from (\S+) to (\S+)", output)
    return [(process, parse_time(start), parse_time(end)) for process, start, end in found]


def most_at_once(runs):
    return max(sum(start <= moment < end for _, start, end in runs) for _, moment, _ in runs)


def test_threads_of_the_driver_export_side_by_side(workbench):
    table, view = slow_source(workbench)
    cycle, planned = plan(workbench, view, parallel_exports=FILES)
    output = workbench.publish(planned)
    assert len(exports(output)) == FILES
    assert most_at_once(exports(output)) > 1
    assert workbench.cold_rows(view) == workbench.warm_rows(table)
    cycle.commit(cycle.tables[view])
    assert cycle.plan(cycle.tables[view]) is None


def test_four_workers_export_side_by_side(workbench, cluster):
    table, view = slow_source(workbench)
    cycle, planned = plan(workbench, view)
    job = Output(workbench.start_job(planned, master=cluster.master, conf=cluster.submit_options))
    code, output = job.wait_for_end(_PATIENCE_SECONDS)
    assert code == 0, output
    runs = exports(output)
    assert len(runs) == FILES
    assert len({process for process, _, _ in runs}) == WORKERS
    assert all(list(folder.glob("app-*/*/offload_job.zip")) for folder in cluster.folders)  # fetched by the first task
    assert most_at_once(runs) == WORKERS
    assert workbench.cold_rows(view) == workbench.warm_rows(table)
    cycle.commit(cycle.tables[view])
    assert cycle.plan(cycle.tables[view]) is None


def test_a_refused_export_fails_the_job_with_the_words_of_clickhouse(workbench, cluster):
    table, view = slow_source(workbench)
    _, planned = plan(workbench, view)
    workbench.sql(f"ALTER TABLE {table} DROP COLUMN note")
    job = Output(workbench.start_job(planned, master=cluster.master, conf=cluster.submit_options))
    code, output = job.wait_for_end(_PATIENCE_SECONDS)
    assert code == 1
    assert "ERROR ClickHouse refused a query" in output
    assert "note" in output
    assert not workbench.cold_rows(view)


def test_the_exports_of_a_worker_that_is_killed_move_to_another(workbench, cluster):
    table, view = slow_source(workbench)
    cycle, planned = plan(workbench, view)
    job = Output(workbench.start_job(planned, master=cluster.master, conf=cluster.submit_options))
    wait_for_exports(workbench, view, WORKERS if queries_run_side_by_side(workbench) else 1)
    cluster.kill_worker(0)
    code, output = job.wait_for_end(_PATIENCE_SECONDS)
    assert code == 0, output
    assert len(exports(output)) == FILES
    assert most_tries(output) > FILES, "Spark has repeated what the lost worker had begun"
    assert workbench.cold_rows(view) == workbench.warm_rows(table)
    cycle.commit(cycle.tables[view])
    assert cycle.plan(cycle.tables[view]) is None


def queries_run_side_by_side(workbench):
    """Inside one process ClickHouse 25.8 runs one query at a time; the other exports wait for a turn."""
    return int(workbench.stack.settings.clickhouse_version.split(".")[0]) >= 26


def most_tries(output):
    """How many tries of an export Spark has numbered, at the least: the number is the last one of a file's name."""
    return 1 + max(int(number) for number in re.findall(r"exported \S+-(\d+)\.parquet by ", output))


def wait_for_exports(workbench, view, count):
    """Until so many files are being written: the engine makes a file when its query begins."""
    data = workbench.stack.settings.warehouse / "cold" / view / "data"
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while len(list(data.rglob("*.parquet"))) < count:
        assert time.monotonic() < deadline, "the exports have not begun"
        time.sleep(0.1)
