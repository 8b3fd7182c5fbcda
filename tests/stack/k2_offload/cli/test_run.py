"""``k2 run`` that is ended, or killed, leaves nothing that the next run of its layer would wait for."""

from __future__ import annotations

import signal
import subprocess
from datetime import timedelta

import psutil
import psycopg

from embedded.stack.processes import start_moment, wait_until
from k2_offload.adapters.dag_runs import read_latest_runs
from tests.stack.k2_offload.cli.conftest import START, Shell


def begin(shell: Shell, *, until_job: bool = True) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start a run, and wait until its job works, or its run is there; returns the command and what runs the DAG."""
    command = subprocess.Popen(["k2", "run"], env=shell.environment, stderr=subprocess.PIPE, text=True)
    began = psutil.Process(command.pid)

    def works() -> bool:
        return any("java" in child.name() for child in began.children(recursive=True))

    assert wait_until(works if until_job else lambda: active_runs(shell), 180)
    [runner] = began.children()
    return command, runner


def end(command: subprocess.Popen[str], runner: psutil.Process) -> str:
    """Wait until nothing is left of it, and return what it said last."""
    _, said = command.communicate(timeout=120)
    assert command.returncode != 0
    assert wait_until(lambda: start_moment(runner.pid) is None, 30)
    return said


def active_runs(shell: Shell) -> list[tuple[str, str]]:
    with psycopg.connect(shell.workbench.stack.ledger_dsn) as connection:
        query = "SELECT run_id, state FROM dag_run WHERE state IN ('queued', 'running')"
        return connection.execute(query).fetchall()


def test_a_run_that_was_ended_or_killed_does_not_stop_its_layer(shell):
    table = shell.workbench.create_trades()
    shell.tables(shell.workbench.spec(table))
    shell.workbench.insert_trades(table, START, 100)

    command, runner = begin(shell)
    command.send_signal(signal.SIGTERM)
    end(command, runner)
    assert active_runs(shell) == []

    command, runner = begin(shell)
    runner.kill()  # it cannot clean up; the command that started it does
    assert "k2_offload_bronze: ended run" in end(command, runner)
    assert active_runs(shell) == []

    command, runner = begin(shell, until_job=False)
    for process in (psutil.Process(command.pid), *runner.children(recursive=True), runner):
        process.kill()
    end(command, runner)
    [(run_id, state)] = active_runs(shell)
    left = shell.json("status", "--no-counts")[0]["run"]
    assert (left["id"], left["state"], left["abandoned"], left["waiting_runs"]) == (run_id, state, True, 0)
    screen = shell.k2("status", "--no-counts").stdout
    assert f"k2_offload_bronze: run {run_id} has been running since" in screen
    assert "`k2 run` ends it" in screen
    seen = read_latest_runs("k2_offload_bronze", ())
    assert seen.active_since == seen.last_start
    assert seen.failures == 2

    result = shell.k2("run")
    assert f"k2_offload_bronze: ended run {run_id}" in result.stderr
    assert active_runs(shell) == []
    seen = read_latest_runs("k2_offload_bronze", ())
    assert (seen.active_since, seen.waiting, seen.failures) == (None, 0, 0)
    assert seen.last_success - seen.last_start == timedelta(seconds=seen.last_seconds)
    assert shell.workbench.cold_rows(table) == shell.workbench.warm_rows(table)
