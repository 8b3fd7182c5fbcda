"""The ``plan`` task: opens or resumes one window per table."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.core.errors import InvalidTablesFile, OffloadError, Unreachable
from k2_offload.core.plan import PlannedTable, group_plans
from k2_offload.persistence import persist
from k2_offload.session import open_cycle

if TYPE_CHECKING:
    from airflow.sdk import Context


class PlanOffloadOperator(BaseOperator):
    """Opens one window per table in the ledger, or resumes the one that is open.

    Tables are isolated: one that cannot be planned becomes an ``offload`` task of its own that fails with the reason,
    while the others move.

    :param layer: whose tables to plan; the run's parameter ``tables`` may choose some of them
    :returns: arguments of the mapped ``offload`` task, one per Spark application; no secrets
    """

    def __init__(self, *, layer: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer

    def execute(self, context: Context) -> list[dict[str, str]]:
        """Plan every table; a service that is down fails the task, which is then retried."""
        planned: list[tuple[str, PlannedTable]] = []
        refused: list[dict[str, str]] = []
        with open_cycle(context["run_id"]) as cycle:
            try:
                tables = cycle.tables.select(context["params"]["tables"], self.layer)
            except InvalidTablesFile as error:
                raise AirflowFailException(str(error)) from None
            persist(cycle.ledger.create_schema)
            for table in tables:
                try:
                    entry = persist(partial(cycle.plan, table))
                except Unreachable:
                    raise
                except OffloadError as error:
                    self.log.error("%s", error)
                    cycle.mark_failed(table)
                    refused.append({"job_group": table.name, "refusal": str(error)})
                else:
                    if entry is not None:
                        planned.append((table.job_group, entry))
        plans = [{"job_group": plan.job_group, "plan": plan.to_json()} for plan in group_plans(planned)]
        return plans + refused
