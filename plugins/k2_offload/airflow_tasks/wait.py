"""Layer order: a layer begins when the one below has ended for the same time of the schedule, however it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

from airflow.providers.standard.sensors.external_task import ExternalTaskSensor
from airflow.providers.standard.triggers.external_task import WorkflowTrigger
from airflow.sdk.exceptions import AirflowSensorTimeout, TaskDeferralError
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent
from asgiref.sync import sync_to_async

from k2_offload.core.limits import MISSING_RUN_SECONDS

_FAILED = ("failed", "upstream_failed")
_ENDED = ("success", "skipped", "removed", *_FAILED)


class EndedTrigger(WorkflowTrigger):
    """Fires when all instances of a mapped task have ended, however many there are, or when there is none to wait for.

    The task that waits succeeds right here: no worker has to start for that alone.

    :param missing_seconds: how long a run that does not exist is waited for
    """

    def __init__(self, *, missing_seconds: float, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.missing_seconds = missing_seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """How the triggerer finds this class again."""
        arguments = {**super().serialize()[1], "missing_seconds": self.missing_seconds}
        return f"{__name__}.{type(self).__name__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look again and again."""
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance  # noqa: PLC0415 - the triggerer's own

        began = asyncio.get_running_loop().time()
        while True:
            runs = await sync_to_async(RuntimeTaskInstance.get_task_states)(
                dag_id=self.external_dag_id,
                task_ids=list(self.external_task_ids or ()),
                logical_dates=self.logical_dates,
            )
            states = {state for tasks in runs.values() for state in tasks.values()}
            if states and states.issubset(self.allowed_states or ()):
                if states.intersection(_FAILED):
                    self.log.warning("%s: %s has failed; going on with what it published", *self._names(runs))
                break
            if not states and asyncio.get_running_loop().time() - began >= self.missing_seconds:
                self.log.warning(
                    "%s: no run of %s after %d s (is the DAG paused? has an earlier run not ended? `k2 status` names "
                    "it); going on with what is published",
                    *self._names(runs),
                    self.missing_seconds,
                )
                break
            await asyncio.sleep(self.poke_interval)
        yield TaskSuccessEvent()

    def _names(self, runs: dict[str, Any]) -> tuple[str, str]:
        times = ", ".join(str(time) for time in self.logical_dates or ())
        return self.external_dag_id, ", ".join(runs) or times


class UpstreamLayerSensor(ExternalTaskSensor):
    """Waits until ``offload`` of the upstream DAG's run of the same logical date has ended; a manual run does not.

    It never fails, whatever became of that run: a wait that fails would stop every table of this layer for one of the
    layer below. What this layer may move is read off the cold tables: no window passes the watermark of the tables it
    is made of (:func:`k2_offload.core.windows.upstream_limit`). The order saves one pause between two cycles, no more.
    So a run that has failed is not waited for, nor one that does not come, and one that does not end only for a while.

    A manual run has no counterpart upstream to wait for. ``airflow dags test`` runs are manual too; a deferred sensor
    would hang there.

    :param missing_seconds: how long a run that does not exist is waited for
    """

    def __init__(self, *, missing_seconds: float = MISSING_RUN_SECONDS, **kwargs: Any) -> None:
        super().__init__(
            external_task_id="offload",
            allowed_states=_ENDED,
            deferrable=True,
            poke_interval=1,
            **kwargs,
        )
        self.missing_seconds = missing_seconds

    def execute(self, context: Any) -> Any:
        """Wait, or pass if the run was not made by the schedule."""
        if context["dag_run"].run_type != "scheduled":
            self.log.info("A %s run waits for no other run.", context["dag_run"].run_type)
            return
        self.log.info("Waiting until %s has run for %s.", self.external_dag_id, context["logical_date"])
        self.defer(
            trigger=EndedTrigger(
                external_dag_id=self.external_dag_id,
                external_task_ids=self.external_task_ids,
                allowed_states=self.allowed_states,
                poke_interval=self.poke_interval,
                logical_dates=[context["logical_date"]],
                missing_seconds=self.missing_seconds,
            ),
            method_name="execute_complete",
            timeout=timedelta(seconds=self.timeout),
        )

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Any) -> Any:
        """Pass, too, if the other layer has not ended in time, or nobody could look (no triggerer is at work)."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralError, AirflowSensorTimeout) as error:
            self.log.warning(
                "%s has not ended its run of %s within %d minutes, or nobody could look (%s); going on with what is "
                "published. `k2 status` names a run that does not end.",
                self.external_dag_id,
                context["logical_date"],
                self.timeout // 60,
                error,
            )
