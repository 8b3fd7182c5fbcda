"""The task that compares the offsets of messages, where ClickHouse keeps them."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters.broker import BROKER_CONNECTION, open_broker
from k2_offload.adapters.retry import with_retries
from k2_offload.airflow_tasks.params import chosen_tables
from k2_offload.core.errors import OffloadError, Unreachable
from k2_offload.work.offsets import compare_due
from k2_offload.work.tiers import open_tiers

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)


class CompareOffsetsOperator(BaseOperator):
    """Compares the messages of all chosen bronze tables: broker against ClickHouse against Iceberg."""

    def execute(self, context: Context) -> None:
        """Compare them, about once an hour; a service that is down fails the task, which is then retried.

        :raises AirflowFailException: naming each range of offsets that is missing
        """
        problems = []
        with open_tiers() as tiers:
            with_retries(tiers.ledger.migrate)
            chosen = chosen_tables(tiers, context)
            try:
                for report in compare_due(tiers, chosen, open_broker):
                    if not report.kept:
                        log.info("%s: ClickHouse keeps no offsets of its messages", report.table)
                        continue
                    log.info("%s: %d partitions compared", report.table, report.partitions)
                    if not report.broker_asked:
                        log.warning(
                            "%s: there is no connection '%s', so the broker was not asked, and messages after the last "
                            "one that ClickHouse has were not looked for",
                            report.table,
                            BROKER_CONNECTION,
                        )
                    problems += [f"{report.table}: {found}" for found in (*report.losses, *report.problems)]
                    for note in report.notes:
                        log.info("%s: %s", report.table, note)
                    for found in report.findings:
                        if not found.kind.lost:
                            log.warning("%s: %s", report.table, found)
            except Unreachable:
                raise
            except OffloadError as error:
                problems.append(str(error))
        if problems:
            told = f"Look at them with `k2 verify --offsets`. {len(problems)} findings:"
            raise AirflowFailException("\n".join([told, *problems]))
