"""Layer order: a layer waits until the one below has published for the same quarter of an hour."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.providers.standard.triggers.external_task import WorkflowTrigger
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async


class PublishedTrigger(WorkflowTrigger):
    """Fires when all instances of a mapped task have ended, however many there are, or one has failed.

    The task that waits succeeds right here: no worker has to start for that alone.
    """

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How the triggerer finds this class again."""
        return f"{__name__}.{type(self).__name__}", super().serialize()[1]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415 - the triggerer's own

        while True:
            runs = await sync_to_async(RuntimeTaskInstance.get_task_states)(
                dag_id=self.external_dag_id,
                task_ids=list(self.external_task_ids or ()),
                logical_dates=self.logical_dates,
            )
            states = {state for tasks in runs.values() for state in tasks.values()}
            if states.intersection(self.failed_states or ()):
                yield TriggerEvent({"status": "failed"})  # type: ignore[no-untyped-call]
                return
            if states and states.issubset(self.allowed_states or ()):
                yield TaskSuccessEvent()
                return
            await asyncio.sleep(self.poke_interval)


class UpstreamLayerSensor(ExternalTaskSensor):
    """Waits for ``offload`` of the upstream DAG's run of the same logical date; a manual run passes at once.

    Not for its ``commit``: what this layer may move is read off the cold tables, which hold it once it is published.
    The order saves a quarter of an hour, no more; it is safe without, for no window passes the watermark of the tables
    it is made of (:func:`k2_offload.core.windows.upstream_limit`).

    A manual run has no counterpart upstream to wait for. ``airflow dags test`` runs are manual too; a deferred sensor
    would hang there.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            external_task_id="offload",
            allowed_states=["success", "skipped", "removed"],
            failed_states=["failed", "upstream_failed"],
            deferrable=True,
            poke_interval=1,
            retries=0,
            **kwargs,
        )

    def execute(self, context: Any) -> Any:
        """Wait, or pass if the run was not made by the schedule."""
        if context["dag_run"].run_type != "scheduled":
            self.log.info("A %s run waits for no other run.", context["dag_run"].run_type)
            return
        self.defer(
            trigger=PublishedTrigger(
                external_dag_id=self.external_dag_id,
                external_task_ids=self.external_task_ids,
                allowed_states=self.allowed_states,
                failed_states=self.failed_states,
                poke_interval=self.poke_interval,
                logical_dates=[context["logical_date"]],
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )
