"""The task of ``k2_maintenance`` that removes from ClickHouse what is proven to be cold."""

from __future__ import annotations

from typing import Any

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters.retry import with_retries
from k2_offload.airflow_tasks.params import chosen_tables
from k2_offload.work.retention import remove_proven
from k2_offload.work.tiers import open_tiers


class RemoveProvenOperator(BaseOperator):
    """Goes on with partitions that are held, and moves away those that are proven, of tables with that retention."""

    def execute(self, context: Any) -> None:
        """Do so; a dry run only looks.

        :raises AirflowFailException: naming what a person has to look at; another attempt would not help
        """
        params = context["params"]
        with open_tiers() as tiers:
            with_retries(tiers.ledger.migrate)
            chosen = chosen_tables(tiers, context)
            done = remove_proven(tiers, chosen, dry_run=params["dry_run"], budget=tiers.task_timeout / 2)
        for each in done.states:
            self.log.info("%s %s: %s %s", each.storage, each.days, each.state, each.reason)
        if done.problems:
            raise AirflowFailException("\n".join(done.problems))
