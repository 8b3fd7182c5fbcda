"""The ``plan`` task: opens or resumes one window per table."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters.retry import with_retries
from k2_offload.core.errors import InvalidTablesFile, OffloadError, Unreachable
from k2_offload.core.plan import PlannedWindow, RefusedTable, group_plans
from k2_offload.core.tables import TableSpec
from k2_offload.work.cycle import mark_failed, plan
from k2_offload.work.tiers import Tiers, open_tiers

if TYPE_CHECKING:
    from airflow.sdk import Context


class PlanOffloadOperator(BaseOperator):
    """Opens one window per table in the ledger, or resumes the one that is open.

    Tables are isolated: one that cannot be planned is part of the plan as refused, and its ``offload`` task fails with
    the reason once the others have moved.

    :param layer: whose tables to plan; the run's parameter ``tables`` may choose some of them
    :returns: arguments of the mapped ``offload`` task, one per Spark application; no secrets
    """

    def __init__(self, *, layer: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.layer = layer

    def execute(self, context: Context) -> list[dict[str, str]]:
        """Plan every table; a service that is down fails the task, which is then retried."""
        outcomes: list[tuple[str, PlannedWindow | RefusedTable]] = []
        with open_tiers() as tiers:
            try:
                tables = tiers.tables.select(context["params"]["tables"], self.layer)
            except InvalidTablesFile as error:
                raise AirflowFailException(str(error)) from None
            with_retries(tiers.ledger.migrate)
            upstream_watermarks: dict[str, datetime] = {}
            for table in tables:
                try:
                    window = with_retries(partial(plan, tiers, table, context["run_id"], upstream_watermarks))
                except Unreachable:
                    raise
                except OffloadError as error:
                    self.log.error("%s", error)
                    outcomes.append((table.job_group, self._refuse(tiers, table, str(error))))
                except Exception:  # one table's surprise must not stop the others
                    self.log.exception("%s: unexpected", table.name)
                    reason = (
                        f"{table.name}: it could not be planned, for an unexpected reason that is in the log of task "
                        "`plan`. Nothing was moved and no row is lost; the next run tries again."
                    )
                    outcomes.append((table.job_group, self._refuse(tiers, table, reason)))
                else:
                    if window is not None:
                        outcomes.append((table.job_group, window))
        return [{"job_group": each.job_group, "plan": each.to_json()} for each in group_plans(outcomes)]

    def _refuse(self, tiers: Tiers, table: TableSpec, reason: str) -> RefusedTable:
        try:
            mark_failed(tiers, table, reason)
        except Unreachable:
            raise
        except OffloadError as error:  # whoever holds the row writes what became of the table
            self.log.warning("%s", error)
        return RefusedTable(table.name, reason)
