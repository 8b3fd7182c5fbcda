"""Runs and jobs: dead, doubled, stuck, killed, without memory."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from datetime import timedelta

import psutil

from embedded.stack.processes import wait_until
from k2_offload.core.fault_points import FaultPoint
from tests.faults.hook import Fault, Kind

DAG = "k2_offload_bronze"
EARLIER = (
    f"UPDATE dag_run SET start_date = start_date - interval '15 minutes' WHERE dag_id = '{DAG}' AND state = 'running'"
)


def family(command):
    process = psutil.Process(command.pid)
    return [process, *process.children(recursive=True)]


def begin_run(scenario):
    """``k2 run`` in processes of its own, as soon as Airflow says that it runs."""
    running = f"UPDATE dag_run SET dag_id = dag_id WHERE dag_id = '{DAG}' AND state = 'running'"
    command = subprocess.Popen(
        ["k2", "run", scenario.table], env=os.environ, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    assert wait_until(lambda: scenario.airflow(running) == 1, 120)
    return command


def signal_all(processes, number):
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.send_signal(number)


def test_no_scheduler_starts_a_run(runbook):
    scenario = runbook("offload-failure.md#no-run-starts")
    scenario.insert(timedelta(minutes=20))
    scenario.airflow("DELETE FROM dag_run WHERE dag_id = %s", DAG)
    scenario.fires("K2NoRun", DAG)
    scenario.check()
    scenario.verify()
    scenario.clears("K2NoRun", DAG)
    scenario.tables_equal()


def test_a_run_is_stuck_as_its_process_was_killed(runbook):
    scenario = runbook("offload-failure.md#a-run-takes-too-long")
    scenario.insert(timedelta(minutes=20))
    command = begin_run(scenario)
    signal_all(family(command), signal.SIGKILL)
    command.wait()
    assert scenario.airflow(EARLIER) == 1
    scenario.fires("K2RunTooLong", DAG)
    assert "`k2 run` ends it" in scenario.check()
    scenario.verify()
    scenario.clears("K2RunTooLong", DAG)
    scenario.tables_equal()


def test_a_run_by_hand_goes_on_for_too_long(runbook):
    scenario = runbook("offload-failure.md#a-backfill-is-in-the-way")
    scenario.insert(timedelta(minutes=20))
    command = begin_run(scenario)
    processes = family(command)
    signal_all(processes, signal.SIGSTOP)
    assert scenario.airflow(EARLIER) == 1
    scenario.fires("K2RunTooLong", DAG)
    assert DAG in scenario.check()
    signal_all(processes, signal.SIGKILL)
    command.wait()
    scenario.verify()
    scenario.clears("K2RunTooLong", DAG)
    scenario.tables_equal()


def test_two_runs_at_once(runbook):
    scenario = runbook("offload-failure.md#two-runs-at-once")
    scenario.insert(timedelta(minutes=20))
    both = [subprocess.Popen(["k2", "run", scenario.table], env=os.environ, text=True, stderr=-1) for _ in range(2)]
    said = [command.communicate(timeout=240)[1] for command in both]
    assert any("success" in each for each in said), said
    scenario.check()
    scenario.verify()
    scenario.tables_equal()


def test_a_bad_deploy_is_rolled_back(runbook):
    scenario = runbook("offload-failure.md#a-bad-deploy")
    scenario.insert(timedelta(minutes=20))
    right = scenario.spec
    scenario.use(scenario.entry(timestamp_column="no_such_column"))
    for _ in range(3):
        scenario.k2("run", scenario.table, exit_codes=(1,))
    scenario.fires("K2RunsFail", DAG)
    scenario.fires("K2TableStopped")
    assert "no_such_column" in scenario.check()
    scenario.use(right)
    scenario.clears("K2TableStopped")
    scenario.verify()
    scenario.clears("K2RunsFail", DAG)
    scenario.tables_equal()


def test_runs_fail_as_one_of_two_tables_has_text_that_is_none(runbook):
    scenario = runbook("offload-failure.md#runs-fail")
    other = scenario.workbench.create_trades("other")
    scenario.use(scenario.entry(), scenario.entry_of(other))
    for table in (scenario.table, other):
        scenario.insert(timedelta(minutes=20), table=table)
    broken = f"ALTER TABLE {scenario.table} UPDATE note = {{}} WHERE note = {{}} SETTINGS mutations_sync = 2"
    scenario.workbench.sql(broken.format("unhex('FF41')", "'n4'"))
    for _ in range(3):
        assert scenario.is_quiet("K2RunsFail", DAG)
        scenario.k2("run", exit_codes=(1,))
    scenario.fires("K2RunsFail", DAG)
    scenario.fires("K2TableFails")
    assert "column 'note' holds text that is not valid UTF-8" in scenario.check()
    assert scenario.workbench.cold_rows(other) == scenario.workbench.warm_rows(other), "it has moved"
    scenario.workbench.sql(broken.format("'n4'", "unhex('FF41')"))
    assert not scenario.is_quiet("K2RunsFail", DAG)
    scenario.verify()
    scenario.clears("K2RunsFail", DAG)
    scenario.clears("K2TableFails")
    while scenario.workbench.move(scenario.cycle, scenario.table):  # its windows were made smaller
        pass
    both = scenario.workbench.cycle(scenario.entry(), scenario.entry_of(other))
    scenario.workbench.check(both, [scenario.table, other])


def test_spark_is_killed(runbook):
    scenario = runbook("offload-failure.md#spark-is-killed")
    scenario.insert(timedelta(minutes=20))
    cycle = scenario.cycle
    planned = cycle.plan(cycle.tables[scenario.table])
    code, _ = scenario.workbench.run_job(planned, faults=[Fault(FaultPoint.STAGED, Kind.KILL, scenario.table)])
    assert code not in (0, 1)
    cycle.commit(cycle.tables[scenario.table])
    scenario.fail_windows(2)
    scenario.fires("K2WindowFailsAgain")
    assert "planned and not published" in scenario.check()
    scenario.verify()
    scenario.clears("K2WindowFailsAgain")


def test_spark_has_too_little_memory(runbook, monkeypatch, tmp_path):
    scenario = runbook("offload-failure.md#spark-has-no-memory")
    scenario.insert(timedelta(minutes=20))
    settings = tmp_path / "spark" / "spark-defaults.conf"
    settings.parent.mkdir()
    monkeypatch.setenv("SPARK_CONF_DIR", str(settings.parent))
    settings.write_text("spark.driver.memory 20m\n")
    for _ in range(3):
        assert scenario.is_quiet("K2WindowFailsAgain")
        assert "OutOfMemoryError" in scenario.k2("run", scenario.table, exit_codes=(1,))
    scenario.fires("K2WindowFailsAgain")
    assert "planned and not published" in scenario.check()
    settings.write_text("spark.driver.memory 1g\n")
    assert not scenario.is_quiet("K2WindowFailsAgain")
    scenario.verify()
    scenario.clears("K2WindowFailsAgain")
    while scenario.workbench.move(scenario.cycle, scenario.table):  # its windows were made smaller
        pass
    scenario.tables_equal()


def test_a_job_of_two_tables_hangs_with_one(runbook):
    scenario = runbook("offload-failure.md#a-job-hangs")
    other = scenario.workbench.create_trades("other")
    scenario.use(scenario.entry(), scenario.entry_of(other))
    for table in (scenario.table, other):
        scenario.insert(timedelta(minutes=50), table=table)
    cycle = scenario.workbench.cycle(scenario.entry(), scenario.entry_of(other))
    planned = [cycle.plan(cycle.tables[table]) for table in (scenario.table, other)]
    job = scenario.workbench.start_job(*planned, faults=[Fault(FaultPoint.FILE_EXPORTED, Kind.HANG, scenario.table)])
    scenario.fires("K2LagHigh", scenario.table)
    scenario.check()
    assert wait_until(lambda: scenario.workbench.cold_rows(other) == scenario.workbench.warm_rows(other), 60)
    job.kill()
    job.wait()
    scenario.verify()
    scenario.clears("K2LagHigh")
    cycle.commit(cycle.tables[other])
    scenario.workbench.check(cycle, [scenario.table, other])
