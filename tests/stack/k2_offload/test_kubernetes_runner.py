"""The same job by KubernetesPodOperator: real Spark that a fake of Kubernetes' API starts; there is no cluster."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import psutil
import pytest
from airflow.sdk.exceptions import AirflowException

from k2_offload.adapters.connections import job_connections
from k2_offload.adapters.kubernetes_api import pod_options
from k2_offload.adapters.settings import load_settings
from k2_offload.airflow_tasks.offload import OffloadOperator
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.fault_points import FaultPoint
from k2_offload.core.plan import group_plans
from k2_offload.core.pods import secret
from k2_offload.files import SPARK_JOBS
from tests.faults.hook import Fault, Kind
from tests.faults.submit import FAULTY_JOB
from tests.support.kubernetes_api import kubernetes_api
from tests.support.runners import SECRET, of_this_machine, set_up_on_stack

pytestmark = pytest.mark.usefixtures("log_on_stdout")

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


@pytest.fixture
def api(workbench, tmp_path, monkeypatch):
    """A fake whose image has this machine's Spark; ClickHouse's password is one to look for."""
    with kubernetes_api(tmp_path, of_this_machine()) as api:
        set_up_on_stack(monkeypatch, "kubernetes", api.connection, SPARK_JOBS)
        settings = load_settings()
        api.secrets[settings.kubernetes_secret] = secret(pod_options(settings), job_connections(settings))["data"]
        yield api
        assert api.pods == {}, workbench.name


class Run:
    """A task with Airflow's context, as far as the provider asks for it."""

    def __init__(self, *planned):
        [plan] = group_plans([("test", each) for each in planned])
        self.task = with_runner(OffloadOperator)(task_id="offload", job_group="test", plan=plan.to_json())
        self.pushed = {}
        instance = SimpleNamespace(dag_id="k2_offload_gold", task_id="offload", map_index=0, try_number=1)
        instance.xcom_push = lambda key, value: self.pushed.update({key: value})
        self.context = {"ti": instance, "run_id": "manual__2026-03-04T13:00:00+00:00", "dag": SimpleNamespace()}

    def execute(self):
        self.task.execute(self.context)

    def shown(self):
        """What people see of it in Airflow, its log aside."""
        rendered = repr([getattr(self.task, name) for name in self.task.template_fields])
        return rendered + json.dumps(self.pushed)


def test_a_cycle_in_a_pod(workbench, api, capsys):
    tables = [workbench.create_trades(name) for name in ("good", "bad")]
    for table in tables:
        workbench.insert_trades(table, NOON, 500)
    cycle = workbench.cycle(*map(workbench.spec, tables), now=NOON + timedelta(hours=1))
    planned = [cycle.plan(cycle.tables[table]) for table in tables]
    workbench.sql(f"RENAME TABLE {tables[1]} TO {tables[1]}_away")
    first = Run(*planned)
    with pytest.raises(AirflowException) as failed:
        first.execute()
    [told] = [line for line in str(failed.value).splitlines() if line.startswith("ERROR ")]
    assert "ClickHouse refused a query (code 60)" in told
    assert tables[1] in told
    assert workbench.cold_rows(tables[0]) == workbench.warm_rows(tables[0])

    workbench.sql(f"RENAME TABLE {tables[1]}_away TO {tables[1]}")
    second = Run(*planned)
    second.execute()
    log = capsys.readouterr().out
    assert ": already published" in log
    for table in tables:
        cycle.commit(cycle.tables[table])
    workbench.check(cycle, tables)

    [pod, _] = api.created
    assert SECRET in job_connections(load_settings()).to_json(), "or nobody could have shown it"
    manifests = json.dumps([each.manifest for each in api.created])
    assert f'"name": "{load_settings().kubernetes_secret}"' in json.dumps(pod.container["env"])
    assert first.pushed.keys() == {"pod_name", "pod_namespace"}
    assert SECRET not in "".join([log, str(failed.value), manifests, first.shown(), second.shown()])


def test_a_pod_that_is_killed(workbench, api):
    table = workbench.create_trades()
    workbench.insert_trades(table, NOON, 500)
    cycle = workbench.cycle(workbench.spec(table), now=NOON + timedelta(hours=1))
    planned = cycle.plan(cycle.tables[table])
    run = Run(planned)
    run.task.application = str(FAULTY_JOB)
    hangs = Fault(FaultPoint.AUDITED, Kind.HANG, table)
    run.task.env_vars = {"K2_TEST_FAULTS": json.dumps([hangs.to_json()]), "K2_TEST_WAKE": str(workbench.wake_file)}
    started = []

    def kill():
        driver = psutil.Process(api.created[0].process.pid)
        started.extend([driver, *driver.children(recursive=True)])
        run.task.on_kill()

    api.when_said["FAULT hang"] = kill
    with pytest.raises(AirflowException, match="was stopped before its end"):
        run.execute()
    assert len(started) > 1
    _, alive = psutil.wait_procs(started, timeout=10)
    assert alive == []
    assert not workbench.cold_rows(table), "staged, and no reader sees it"

    workbench.publish(planned)  # by another runner: it does not matter which
    cycle.commit(cycle.tables[table])
    workbench.check(cycle, [table])
