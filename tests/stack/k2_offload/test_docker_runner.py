"""The same job by DockerOperator: real Spark that a stand-in for a container engine starts, by Docker's HTTP API."""

from __future__ import annotations

import json

import pytest

from k2_offload.files import SPARK_JOBS
from tests.support.container_engine import container_engine
from tests.support.runners import (
    SECRET,
    kill_while_it_runs,
    move_again_after_a_failure,
    of_this_machine,
    offload_task,
    set_up_on_stack,
)

pytestmark = pytest.mark.usefixtures("log_on_stdout")


@pytest.fixture
def engine(workbench, tmp_path, monkeypatch):
    """An engine whose image has this machine's Spark; ClickHouse's password is one to look for."""
    with container_engine(tmp_path, of_image=of_this_machine()) as engine:
        set_up_on_stack(monkeypatch, "docker", {"conn_type": "docker", "host": engine.url}, SPARK_JOBS)
        yield engine
        assert engine.containers == {}, workbench.name


class Run:
    """A task without Airflow's context: the provider asks for nothing of it."""

    def __init__(self, *planned):
        self.task = offload_task(planned)

    def execute(self):
        self.task.execute({})


def test_a_cycle_in_a_container(workbench, engine, capsys):
    runs, failure = move_again_after_a_failure(workbench, Run)
    log = capsys.readouterr().out
    assert ": already published" in log

    config = engine.created[0].config
    assert SECRET in json.dumps(config["Env"])
    rendered = repr([getattr(run.task, name) for run in runs for name in run.task.template_fields])
    assert SECRET not in "".join([log, failure, *config["Cmd"], rendered])


def test_a_container_that_is_killed(workbench, engine):
    kill_while_it_runs(workbench, Run, "environment", engine.when_said, lambda: engine.created[0].process.pid)
