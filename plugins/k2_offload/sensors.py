"""Layer order: a layer waits until the one below has run for the same quarter of an hour."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.providers.standard.sensors.external_task import ExternalTaskSensor


class UpstreamLayerSensor(ExternalTaskSensor):
    """Waits for the upstream DAG's run of the same logical date; a manual run passes at once.

    A manual run has no counterpart upstream to wait for. It is safe all the same: no window passes the watermark of
    the tables it is made of (:func:`k2_offload.core.windows.upstream_limit`). ``airflow dags test`` runs are manual
    too; a deferred sensor would hang there.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(
            allowed_states=["success"],
            failed_states=["failed"],
            deferrable=True,
            poke_interval=2,
            timeout=timedelta(minutes=14).total_seconds(),
            retries=0,
            **kwargs,
        )

    def execute(self, context: Any) -> Any:
        """Wait, or pass if the run was not made by the schedule."""
        if context["dag_run"].run_type != "scheduled":
            self.log.info("A %s run waits for no other run.", context["dag_run"].run_type)
            return None
        return super().execute(context)
