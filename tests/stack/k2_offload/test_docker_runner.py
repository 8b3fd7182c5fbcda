"""The same job by DockerOperator: real Spark that a stand-in for a container engine starts, by Docker's HTTP API."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException

from k2_offload.airflow_tasks.offload import OffloadOperator
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.plan import group_plans
from k2_offload.files import SPARK_JOBS
from tests.faults.hook import Fault, Kind
from tests.faults.submit import FAULTY_JOB
from tests.support.container_engine import container_engine
from tests.support.runners import SECRET, of_this_machine, set_up_on_stack

pytestmark = pytest.mark.usefixtures("log_on_stdout")

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def engine(workbench, tmp_path, monkeypatch):
    """An engine whose image has this machine's Spark; ClickHouse's password is one to look for."""
    with container_engine(tmp_path, of_image=of_this_machine()) as engine:
        set_up_on_stack(monkeypatch, "docker", {"conn_type": "docker", "host": engine.url}, SPARK_JOBS)
        yield engine
        assert engine.containers == {}, workbench.name


def offload(*planned):
    [plan] = group_plans([("test", each) for each in planned])
    return with_runner(OffloadOperator)(task_id="offload", job_group="test", plan=plan.to_json())


def test_a_cycle_in_a_container(workbench, engine, capsys):
    tables = [workbench.create_trades(name) for name in ("good", "bad")]
    for table in tables:
        workbench.insert_trades(table, NOON, 500)
    cycle = workbench.cycle(*map(workbench.spec, tables), now=NOON + timedelta(hours=1))
    planned = [cycle.plan(cycle.tables[table]) for table in tables]
    workbench.sql(f"RENAME TABLE {tables[1]} TO {tables[1]}_away")
    task = offload(*planned)
    with pytest.raises(AirflowException) as failed:
        task.execute({})
    [told] = [line for line in str(failed.value).splitlines() if line.startswith("ERROR ")]
    assert "ClickHouse refused a query (code 60)" in told
    assert tables[1] in told
    assert workbench.cold_rows(tables[0]) == workbench.warm_rows(tables[0])

    workbench.sql(f"RENAME TABLE {tables[1]}_away TO {tables[1]}")
    task = offload(*planned)
    task.execute({})
    log = capsys.readouterr().out
    assert ": already published" in log
    for table in tables:
        cycle.commit(cycle.tables[table])
    workbench.check(cycle, tables)

    config = engine.created[0].config
    assert SECRET in json.dumps(config["Env"])
    shown = [log, str(failed.value), *config["Cmd"], repr([getattr(task, name) for name in task.template_fields])]
    assert SECRET not in "".join(shown)


def test_a_container_that_is_killed(workbench, engine):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 500)
    cycle = workbench.cycle(workbench.spec(table), now=NOON + timedelta(hours=1))
    planned = cycle.plan(cycle.tables[table])
    task = offload(planned)
    task.application = str(FAULTY_JOB)
    hangs = Fault(FaultPoint.AUDITED, Kind.HANG, table)
    task.environment = {"K2_TEST_FAULTS": json.dumps([hangs.to_json()]), "K2_TEST_WAKE": str(workbench.wake_file)}
    started = []

    def kill():
        driver = psutil.Process(engine.created[0].process.pid)
        started.extend([driver, *driver.children(recursive=True)])
        task.on_kill()

    engine.when_said["FAULT hang"] = kill
    with pytest.raises(AirflowException, match="was stopped before its end"):
        task.execute({})
    assert len(started) > 1
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    assert not workbench.cold_rows(table), "staged, and no reader sees it"

    workbench.publish(planned)  # by another runner: it does not matter which
    cycle.commit(cycle.tables[table])
    workbench.check(cycle, [table])
