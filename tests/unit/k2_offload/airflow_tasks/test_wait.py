"""When a layer's wait for the one below ends."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from airflow.sdk.exceptions import TaskDeferred
from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance
from airflow.triggers.base import TaskSuccessEvent

from k2_offload.airflow_tasks.wait import EndedTrigger, UpstreamLayerSensor

QUARTER = datetime(2026, 3, 4, 10, 15, tzinfo=UTC)


class Run:
    def __init__(self, run_type):
        self.run_type = run_type


def deferred_by(run_type="scheduled"):
    sensor = UpstreamLayerSensor(task_id="wait_for_bronze", external_dag_id="k2_offload_bronze", timeout=77)
    with pytest.raises(TaskDeferred) as deferred:
        sensor.execute({"dag_run": Run(run_type), "logical_date": QUARTER})
    return sensor, deferred.value


def event_after(monkeypatch, *looks, missing_seconds=60):
    """What the trigger fires when it finds these states, one look after the other."""
    _, deferred = deferred_by()
    _, arguments = deferred.trigger.serialize()
    trigger = EndedTrigger(**{**arguments, "poke_interval": 0, "missing_seconds": missing_seconds})
    remaining = list(looks)

    def get_task_states(**asked):
        assert asked == {"dag_id": "k2_offload_bronze", "task_ids": ["offload"], "logical_dates": [QUARTER]}
        return remaining.pop(0)

    monkeypatch.setattr(RuntimeTaskInstance, "get_task_states", staticmethod(get_task_states))
    event = asyncio.run(anext(trigger.run()))
    assert remaining == []
    return event


@pytest.mark.parametrize(
    "looks",
    [
        pytest.param([{"run": {"offload_0": "success"}}], id="one application"),
        pytest.param([{"run": {"offload": "skipped"}}], id="nothing to move"),
        pytest.param([{}, {"run": {}}, {"run": {"offload_0": "success"}}], id="the run comes later"),
        pytest.param([{"run": {"offload_0": "success", "offload_1": "failed"}}], id="a table below is red"),
        pytest.param([{"run": {"offload": "upstream_failed"}}], id="nothing was planned"),
        pytest.param(
            [
                {"run": {"offload_0": "failed", "offload_1": "up_for_retry"}},
                {"run": {"offload_0": "failed", "offload_1": "failed"}},
            ],
            id="one has failed, the other is tried again",
        ),
        pytest.param(
            [
                {"run": {"offload": None}},
                {"run": {"offload_0": "success", "offload_1": "running"}},
                {"run": {"offload_0": "success", "offload_1": "up_for_retry"}},
                {"run": {"offload_0": "success", "offload_1": "success"}},
            ],
            id="two applications, one of them at its second attempt",
        ),
    ],
)
def test_the_wait_succeeds_without_a_worker_when_the_layer_below_has_ended_however_it_did(monkeypatch, looks):
    assert isinstance(event_after(monkeypatch, *looks), TaskSuccessEvent)


def test_a_run_that_does_not_come_is_waited_for_a_while_only(monkeypatch):
    """The DAG below is paused or gone, or an earlier run of it goes on."""
    assert isinstance(event_after(monkeypatch, {}, missing_seconds=0), TaskSuccessEvent)
    with pytest.raises(IndexError):  # one that exists is waited for
        event_after(monkeypatch, {"run": {"offload": None}}, missing_seconds=0)


@pytest.mark.parametrize("error", ["Trigger timeout", "Trigger failure"])
def test_a_run_that_does_not_end_or_cannot_be_looked_at_stops_nobody(error):
    sensor, _ = deferred_by()
    assert sensor.resume_execution("__fail__", {"error": error}, {"logical_date": QUARTER}) is None


def test_the_triggerer_finds_the_trigger_by_its_name():
    _, deferred = deferred_by()
    assert deferred.trigger.serialize()[0] == "k2_offload.airflow_tasks.wait.EndedTrigger"
    assert deferred.timeout.total_seconds() == 77
    assert deferred.trigger.serialize()[1]["missing_seconds"] == 120


@pytest.mark.parametrize("run_type", ["manual", "backfill"])
def test_a_run_that_the_schedule_did_not_make_waits_for_nothing(run_type):
    sensor = UpstreamLayerSensor(task_id="wait_for_bronze", external_dag_id="k2_offload_bronze")
    assert sensor.execute({"dag_run": Run(run_type), "logical_date": None}) is None
