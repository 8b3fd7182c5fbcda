"""``k2 run`` that is ended, or killed, leaves nothing that the next run of its layer would wait for."""

from __future__ import annotations

import os
import signal
import subprocess

import psutil

from embedded.stack.processes import wait_until
from tests.stack.k2_offload.cli.conftest import START, Shell


def begin(shell: Shell) -> tuple[subprocess.Popen[str], psutil.Process]:
    """Start a run, and wait until its job works; returns the command and the process that runs the DAG."""
    command = subprocess.Popen(["k2", "run"], env=shell.environment, stderr=subprocess.PIPE, text=True)
    began = psutil.Process(command.pid)
    assert wait_until(lambda: any("java" in child.name() for child in began.children(recursive=True)), 180)
    [runner] = began.children()
    return command, runner


def end(command: subprocess.Popen[str], runner: psutil.Process) -> str:
    """Wait until nothing is left of it, and return what it said last."""
    _, said = command.communicate(timeout=60)
    assert command.returncode != 0
    assert not runner.is_running()
    return said


def test_a_run_that_was_ended_or_killed_does_not_stop_its_layer(shell):
    table = shell.workbench.create_trades()
    shell.tables(shell.workbench.spec(table))
    shell.workbench.insert_trades(table, START, 100)

    command, runner = begin(shell)
    command.send_signal(signal.SIGTERM)
    end(command, runner)
    assert shell.json("status", "--no-counts")[0]["run"] is None

    command, runner = begin(shell)
    runner.kill()  # it cannot clean up; the command that started it does
    end(command, runner)
    assert shell.json("status", "--no-counts")[0]["run"] is None

    command, runner = begin(shell)
    os.kill(command.pid, signal.SIGSTOP)
    assert shell.json("status", "--no-counts")[0]["run"]["abandoned"] is False
    command.kill()
    for process in (*runner.children(recursive=True), runner):
        process.kill()
    end(command, runner)
    left = shell.json("status", "--no-counts")[0]["run"]
    assert (left["state"], left["abandoned"], left["waiting_runs"]) == ("running", True, 0)
    screen = shell.k2("status", "--no-counts").stdout
    assert f"k2_offload_bronze: run {left['id']} has been running since" in screen
    assert "`k2 run` ends it" in screen

    result = shell.k2("run")
    assert f"k2_offload_bronze: ended run {left['id']}" in result.stderr
    assert shell.json("status", "--no-counts")[0]["run"] is None
    assert shell.workbench.cold_rows(table) == shell.workbench.warm_rows(table)
