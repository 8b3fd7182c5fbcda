"""A job that exceeds the task's execution timeout, through Airflow's own task runner."""

from __future__ import annotations

import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil

from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.plan import Plan
from tests.faults.hook import Fault, Kind
from tests.faults.submit import FAULTY_JOB

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAGS = Path(__file__).parents[2] / "faults" / "dags"


def test_a_job_that_exceeds_its_execution_timeout_leaves_no_process_and_its_retry_publishes(bench):
    table = bench.create_trades()
    bench.insert_trades(table, NOON, 500)
    cycle = bench.cycle(bench.spec(table), now=NOON + timedelta(hours=1))
    planned = cycle.plan(cycle.tables[table])
    plan_file = bench.folder / "plan.json"
    plan_file.write_text(Plan("test", (planned,)).to_json())
    variables = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "K2_TEST_PLAN": str(plan_file),
        "K2_TEST_FAULTS": json.dumps([Fault(FaultPoint.AUDITED, Kind.HANG, table).to_json()]),
        "K2_TEST_WAKE": str(bench.wake_file),
    }
    command = ["airflow", "dags", "test", "k2_test_timeout"]
    environment = {**bench.stack.environment, **variables}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "AirflowTaskTimeout" in run.stdout + run.stderr
    assert f"FAULT hang at 'audited' of {table}" in run.stdout + run.stderr
    _, alive = psutil.wait_procs([each for each in psutil.process_iter() if runs_job(each)], timeout=5)
    assert alive == []
    metadata = cycle.catalog.load(cycle.tables[table])._table.metadata
    assert (len(metadata.snapshots), metadata.current_snapshot_id) == (1, None)  # staged, and no reader sees it

    bench.move(cycle, table)
    assert bench.cold_rows(table) == bench.warm_rows(table)


def runs_job(process):
    try:
        return str(FAULTY_JOB) in process.cmdline() and any("k2-offload-" in word for word in process.cmdline())
    except psutil.Error:
        return False
