"""The same job by KubernetesPodOperator: real Spark that a fake of Kubernetes' API starts; there is no cluster."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from k2_offload.adapters.connections import job_connections
from k2_offload.adapters.kubernetes_api import pod_options
from k2_offload.adapters.settings import load_settings
from k2_offload.core.pods import secret
from k2_offload.files import SPARK_JOBS
from tests.support.kubernetes_api import kubernetes_api
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
        self.task = offload_task(planned)
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
    [first, second], failure = move_again_after_a_failure(workbench, Run)
    log = capsys.readouterr().out
    assert ": already published" in log

    [pod, _] = api.created
    assert SECRET in job_connections(load_settings()).to_json(), "or nobody could have shown it"
    manifests = json.dumps([each.manifest for each in api.created])
    assert f'"name": "{load_settings().kubernetes_secret}"' in json.dumps(pod.container["env"])
    assert first.pushed.keys() == {"pod_name", "pod_namespace"}
    assert SECRET not in f"{log}{failure}{manifests}{first.shown()}{second.shown()}"


def test_a_pod_that_is_killed(workbench, api):
    kill_while_it_runs(workbench, Run, "env_vars", api.when_said, lambda: api.created[0].process.pid)
