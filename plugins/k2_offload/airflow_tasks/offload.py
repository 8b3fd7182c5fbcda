"""The ``offload`` task: one Spark application that moves the windows of one plan."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

from airflow.sdk import AssetAlias
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters import spark_submit
from k2_offload.airflow_tasks.spark_application import SparkApplicationOperator
from k2_offload.airflow_tasks.tell import TellsChanges
from k2_offload.core.dag_ids import RECONCILE_DAG_ID
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.plan import Plan
from k2_offload.core.transports import TRANSPORTS
from k2_offload.work.changes import Change, find_changes
from k2_offload.work.tiers import open_tiers

log = logging.getLogger(__name__)


class OffloadOperator(TellsChanges, SparkApplicationOperator):
    """Submits ``include/spark_jobs/offload.py`` with one plan.

    :param job_group: names the application
    :param plan: :class:`~k2_offload.core.plan.Plan` as JSON, from ``plan``
    """

    alias = AssetAlias(RECONCILE_DAG_ID)
    """For heals; what became of windows is told by whoever commits."""

    def __init__(self, *, job_group: str, plan: str, **kwargs: Any) -> None:
        super().__init__(application=spark_submit.OFFLOAD, name=f"k2-offload-{job_group}", **kwargs)
        self.job_group = job_group
        self.plan = plan

    def execute(self, context: Any) -> None:
        """Move and heal, then fail with the tables that were refused; what is published stays published.

        :raises AirflowFailException: if a table was refused; another attempt would not help
        """
        try:
            plan = Plan.from_json(self.plan)
        except ConfigurationError as error:
            raise AirflowFailException(
                f"{error}. It was made by another version of this package. Nothing was moved and no row is lost: the "
                "next run plans again, or clear this run's `plan`."
            ) from None
        for refused in plan.refused:
            log.error("%s", refused.reason)
        if plan.windows or plan.heals:
            short = all(TRANSPORTS[rows.transport].short for rows in (*plan.windows, *plan.heals))
            parallel = ["--parallel-tables", str(self.settings.parallel_tables)]
            self.submit(context, self.plan, parallel, short=short)
        if plan.heals:
            self.tell(context, _healed(plan))
        if plan.refused:
            raise AirflowFailException("\n".join(refused.reason for refused in plan.refused))


def _healed(plan: Plan) -> Iterator[Change]:
    with open_tiers() as tiers:
        for name in dict.fromkeys(heal.table for heal in plan.heals):
            wanted = {heal.heal_id for heal in plan.heals if heal.table == name}
            yield from find_changes(tiers, tiers.tables[name], wanted)
