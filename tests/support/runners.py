"""What tests of the runners share.

Settings and connections with a secret to look for, scripts as spark-submit, and what each runner must do on the stack.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

import psutil
import pytest
from airflow.sdk import BaseHook
from airflow.sdk.exceptions import AirflowException

from k2_offload.adapters.settings import load_settings
from k2_offload.airflow_tasks.offload import OffloadOperator
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.plan import PlannedWindow, group_plans
from tests.faults.hook import Fault, Kind
from tests.faults.submit import FAULTY_JOB
from tests.support.workbench import Workbench

SECRET = "zq7-a-secret-to-look-for"
_NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def set_variables(monkeypatch: pytest.MonkeyPatch, **settings: str) -> None:
    """Settings of ``[k2_offload]``."""
    for name, value in settings.items():
        monkeypatch.setenv(f"AIRFLOW__K2_OFFLOAD__{name.upper()}", value)


def set_connection(monkeypatch: pytest.MonkeyPatch, name: str, **fields: Any) -> None:
    """The connection ``unit_NAME``."""
    monkeypatch.setenv(f"AIRFLOW_CONN_UNIT_{name.upper()}", json.dumps(fields))


def set_up_runner(monkeypatch: pytest.MonkeyPatch, runner: str, connection: dict[str, Any], spark_host: str) -> None:
    """Services that nobody has to reach, with :data:`SECRET`, and a runner that has the image ``k2:test``.

    :param connection: the runner's own
    """
    for name, fields in {
        "clickhouse": {"conn_type": "clickhouse", "host": "ch", "password": SECRET},
        "iceberg": {"conn_type": "iceberg", "host": "http://rest", "extra": {"s3.secret-access-key": SECRET}},
        "spark": {"conn_type": "spark", "host": spark_host},
        runner: connection,
    }.items():
        set_connection(monkeypatch, name, **fields)
    set_variables(
        monkeypatch,
        runner=runner,
        spark_python="/opt/python",
        clickhouse_conn_id="unit_clickhouse",
        catalog_conn_id="unit_iceberg",
        spark_conn_id="unit_spark",
        **{f"{runner}_image": "k2:test", f"{runner}_conn_id": f"unit_{runner}"},
    )


def write_spark_submit(folder: Path, script: str) -> str:
    """A spark-submit that is a script; its last argument is ``$last``."""
    binary = folder / "spark-submit"
    binary.write_text(f"#!/bin/sh\nfor last; do :; done\n{script}\n")
    binary.chmod(0o700)
    return str(binary)


def of_this_machine() -> dict[str, str]:
    """The variables of an image that has this machine's Spark."""
    return {name: os.environ[name] for name in ("PATH", "JAVA_HOME") if name in os.environ}


def set_up_on_stack(
    monkeypatch: pytest.MonkeyPatch, runner: str, connection: dict[str, Any], jobs_folder: Path
) -> None:
    """A runner for the stack's services, whose ClickHouse has the password :data:`SECRET`."""
    real = BaseHook.get_connection(load_settings().clickhouse_conn_id)
    fields = {key: getattr(real, key) for key in ("conn_type", "host", "port", "login", "schema")}
    with_secret = fields | {"extra": real.extra_dejson, "password": SECRET}
    monkeypatch.setenv("AIRFLOW_CONN_WITH_SECRET", json.dumps(with_secret))
    monkeypatch.setenv(f"AIRFLOW_CONN_K2_{runner.upper()}", json.dumps(connection))
    set_variables(
        monkeypatch,
        runner=runner,
        clickhouse_conn_id="with_secret",
        **{f"{runner}_image": "k2:test", f"{runner}_jobs_folder": str(jobs_folder)},
    )


class Run(Protocol):
    """The task of one job group."""

    task: Any

    def execute(self) -> None: ...


NewRun = Callable[..., Run]
"""Makes the task that moves some planned windows."""


def offload_task(planned: Sequence[PlannedWindow]) -> Any:
    """The task of the runner that is set up."""
    [plan] = group_plans([("test", each) for each in planned])
    return with_runner(OffloadOperator)(task_id="offload", job_group="test", plan=plan.to_json())


def move_again_after_a_failure(workbench: Workbench, new_run: NewRun) -> tuple[list[Run], str]:
    """One of two tables is not there at first, which moves the other one and is told; then both are moved.

    :returns: the two runs, and with what the first one has failed
    """
    tables = [workbench.create_trades(name) for name in ("good", "bad")]
    for table in tables:
        workbench.insert_trades(table, _NOON, 500)
    cycle = workbench.cycle(*map(workbench.spec, tables), now=_NOON + timedelta(hours=1))
    planned = [cycle.plan(cycle.tables[table]) for table in tables]
    workbench.sql(f"RENAME TABLE {tables[1]} TO {tables[1]}_away")
    first = new_run(*planned)
    with pytest.raises(AirflowException) as failed:
        first.execute()
    [told] = [line for line in str(failed.value).splitlines() if line.startswith("ERROR ")]
    assert "ClickHouse refused a query (code 60)" in told
    assert tables[1] in told
    assert workbench.cold_rows(tables[0]) == workbench.warm_rows(tables[0])

    workbench.sql(f"RENAME TABLE {tables[1]}_away TO {tables[1]}")
    second = new_run(*planned)
    second.execute()
    for table in tables:
        cycle.commit(cycle.tables[table])
    workbench.check(cycle, tables)
    return [first, second], str(failed.value)


def kill_while_it_runs(
    workbench: Workbench,
    new_run: NewRun,
    variables: str,
    when_said: dict[str, Callable[[], None]],
    pid: Callable[[], int],
) -> None:
    """A killed task leaves no process behind and nothing that readers see; another runner may go on.

    :param variables: the task's attribute with the environment of its job
    :param when_said: what is called when the job prints something
    :param pid: of the job's first process
    """
    table = workbench.create_trades()
    workbench.insert_trades(table, _NOON, 500)
    cycle = workbench.cycle(workbench.spec(table), now=_NOON + timedelta(hours=1))
    planned = cycle.plan(cycle.tables[table])
    run = new_run(planned)
    run.task.application = str(FAULTY_JOB)
    hangs = Fault(FaultPoint.AUDITED, Kind.HANG, table)
    faults = {"K2_TEST_FAULTS": json.dumps([hangs.to_json()]), "K2_TEST_WAKE": str(workbench.wake_file)}
    setattr(run.task, variables, faults)
    started: list[psutil.Process] = []

    def kill() -> None:
        driver = psutil.Process(pid())
        started.extend([driver, *driver.children(recursive=True)])
        run.task.on_kill()

    when_said["FAULT hang"] = kill
    with pytest.raises(AirflowException, match="was stopped before its end"):
        run.execute()
    assert len(started) > 1
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    assert not workbench.cold_rows(table), "staged, and no reader sees it"

    workbench.publish(planned)  # by another runner: it does not matter which
    cycle.commit(cycle.tables[table])
    workbench.check(cycle, [table])
