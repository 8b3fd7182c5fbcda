"""The tasks that compare both tiers day by day: ``compare`` plans heals, ``confirm`` looks at what became of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters.log_lines import about
from k2_offload.adapters.retry import with_retries
from k2_offload.airflow_tasks.tell import TellsChanges
from k2_offload.core.dag_ids import RECONCILE_DAG_ID
from k2_offload.core.day_comparison import day_window
from k2_offload.core.errors import InvalidTablesFile
from k2_offload.core.plan import PlannedHeal, group_plans
from k2_offload.core.tables import TableSpec
from k2_offload.work.changes import sealed
from k2_offload.work.combined_view import renew_views
from k2_offload.work.reconcile import Found, reconcile
from k2_offload.work.seals import seal_days
from k2_offload.work.tiers import Tiers, open_tiers

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class CompareOperator(BaseOperator):
    """Compares the days that are due, keeps the results in the ledger, and plans a heal for each day that may have one.

    :returns: arguments of the mapped ``heal`` task, one per Spark application; no secrets
    """

    def execute(self, context: Context) -> list[dict[str, str]]:
        """Compare every table; a service that is down fails the task, which is then retried."""
        outcomes: list[tuple[str, PlannedHeal]] = []
        with open_tiers() as tiers:
            with_retries(tiers.ledger.migrate)
            chosen, days = _chosen(tiers, context)
            going_rows = context["params"]["going_rows"] if days else 0
            budget = _budget(tiers, days)
            for found in _logged(reconcile(tiers, chosen, days, going_rows=going_rows, budget=budget)):
                outcomes += [(found.table.job_group, heal) for heal in found.heals]
        return [{"job_group": plan.job_group, "plan": plan.to_json()} for plan in group_plans(outcomes)]


class ConfirmOperator(TellsChanges, BaseOperator):
    """Compares what was not equal once more, seals days, renews views, and fails if anything is not as it should be."""

    alias = AssetAlias(RECONCILE_DAG_ID)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(outlets=[self.alias], **kwargs)

    def execute(self, context: Context) -> None:
        """Compare and seal every table, and renew its view.

        :raises AirflowFailException: naming each day that still differs, or whose seal is broken, and why
        """
        with open_tiers() as tiers:
            chosen, days = _chosen(tiers, context)
            found = list(_logged(reconcile(tiers, chosen, days, budget=_budget(tiers, days))))
            problems = [problem for each in found for problem in each.problems]
            try:
                sealing = seal_days(tiers, chosen, tiers.task_timeout / 4)
                self.tell(context, [sealed(tiers.tables[seal.table], seal) for seal in sealing.seals])
                problems += [*sealing.problems, *renew_views(tiers, chosen)]
            except Exception as error:
                if problems:
                    raise AirflowFailException("\n".join([*problems, f"Sealing stopped: {error}"])) from error
                raise
        for seal in sealing.seals:
            told = about("seal", seal.table, day_window(seal.day), rows=seal.rows)
            log.info("%s %s: sealed, %d rows", seal.table, seal.day, seal.rows, extra=told)
        if problems:
            raise AirflowFailException("\n".join(dict.fromkeys(problems)))


def _budget(tiers: Tiers, days: list[date]) -> timedelta | None:
    """Half of what a task may take: what is left is for the comparison that has begun, and for planning heals.

    Days that somebody has named are all compared.
    """
    return None if days else tiers.task_timeout / 2


def _chosen(tiers: Tiers, context: Context) -> tuple[list[TableSpec], list[date]]:
    try:
        tables = tiers.tables.select(context["params"]["tables"])
        return tables, [date.fromisoformat(day) for day in context["params"]["days"]]
    except (InvalidTablesFile, ValueError) as error:
        raise AirflowFailException(str(error)) from None


def _logged(found: Iterable[Found]) -> Iterator[Found]:
    for each in found:
        for line in each.lines:
            log.info("%s", line)
        yield each
