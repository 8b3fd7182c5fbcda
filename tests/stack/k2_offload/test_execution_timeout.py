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


def test_a_job_that_exceeds_its_execution_timeout_leaves_no_process_and_its_retry_publishes(workbench):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 500)
    cycle = workbench.cycle(workbench.spec(table), now=NOON + timedelta(hours=1))
    planned = cycle.plan(cycle.tables[table])
    plan_file = workbench.folder / "plan.json"
    plan_file.write_text(Plan("test", (planned,)).to_json())
    variables = {
        "AIRFLOW__CORE__DAGS_FOLDER": str(DAGS),
        "K2_TEST_PLAN": str(plan_file),
        "K2_TEST_FAULTS": json.dumps([Fault(FaultPoint.AUDITED, Kind.HANG, table).to_json()]),
        "K2_TEST_WAKE": str(workbench.wake_file),
    }
    command = ["airflow", "dags", "test", "k2_test_timeout"]
    environment = {**workbench.stack.environment, **variables}
    run = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert "AirflowTaskTimeout" in run.stdout + run.stderr
    assert f"FAULT hang at 'audited' of {table}" in run.stdout + run.stderr
    jobs = [each for each in psutil.process_iter() if runs_job(each, plan_file)]
    _, alive = psutil.wait_procs(jobs, timeout=5)
    assert alive == []
    metadata = workbench.cold_table(table).metadata
    assert (len(metadata.snapshots), metadata.current_snapshot_id) == (1, None)  # staged, and no reader sees it

    workbench.move(cycle, table)
    assert workbench.cold_rows(table) == workbench.warm_rows(table)


def runs_job(process, plan_file):
    """Whether it is a process of the job that this test has started: another worker may run the same one."""
    try:
        return str(FAULTY_JOB) in process.cmdline() and process.environ().get("K2_TEST_PLAN") == str(plan_file)
    except psutil.Error:
        return False
