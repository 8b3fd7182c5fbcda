"""The tasks of ``k2_maintenance``: one Spark application that tidies cold tables, and a look at sealed days."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from airflow.sdk import AssetAlias, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

from k2_offload.adapters import spark_submit
from k2_offload.adapters.retry import with_retries
from k2_offload.airflow_tasks.params import chosen_tables
from k2_offload.airflow_tasks.spark_application import SparkApplicationOperator
from k2_offload.airflow_tasks.tell import TellsChanges
from k2_offload.core.dag_ids import MAINTENANCE_DAG_ID
from k2_offload.core.errors import OffloadError
from k2_offload.core.maintenance import Tidied
from k2_offload.core.maintenance_plan import report_from_json
from k2_offload.core.tables import TableSpec
from k2_offload.work.changes import Change, find_rewrites, seen_snapshots
from k2_offload.work.maintenance import begin, plan_all, record
from k2_offload.work.tiers import Tiers, open_tiers
from k2_offload.work.verify_seals import verify_due

log = logging.getLogger(__name__)


class MaintainOperator(TellsChanges, SparkApplicationOperator):
    """Submits ``include/spark_jobs/maintain.py``, and keeps in the ledger what it has done."""

    alias = AssetAlias(MAINTENANCE_DAG_ID)

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(application=spark_submit.MAINTAIN, name="k2-maintenance", outlets=[self.alias], **kwargs)

    def execute(self, context: Any) -> None:
        """Tidy every chosen table; a failure is told at the end, after what else could be done.

        :raises AirflowFailException: if a table cannot be looked at, or an audit has found a difference; another
            attempt would not help
        """
        params = context["params"]
        with open_tiers() as tiers:
            with_retries(tiers.ledger.migrate)
            chosen = chosen_tables(tiers, context)
            plan, problems = plan_all(tiers, chosen, dry_run=params["dry_run"])
            for problem in problems:
                log.error("%s", problem)
            before = _seen_before(tiers, [tiers.tables[planned.table] for planned in plan.tables])
            begin(tiers, plan)
        if plan.tables:
            with tempfile.TemporaryDirectory(prefix="k2-maintenance-") as folder:
                report = Path(folder) / "report.json"
                try:
                    self.submit(context, plan.to_json(), short=False, report=report)
                except Exception as error:
                    if not problems:
                        raise
                    kind = AirflowFailException if isinstance(error, AirflowFailException) else AirflowException
                    raise kind("\n".join([*problems, str(error)])) from error
                finally:
                    if report.exists():
                        self._record(report_from_json(report.read_text()), dry_run=plan.dry_run)
            self.tell(context, _rewritten(before))
        if problems:
            raise AirflowFailException("\n".join(problems))

    def _record(self, report: Sequence[Tidied], *, dry_run: bool) -> None:
        with open_tiers() as tiers:
            for problem in record(tiers, report, dry_run=dry_run):
                log.error("%s", problem)
        # Whatever else there is: another attempt may find nothing to rewrite, be green, and leave nobody to tell.
        if differences := [difference for done in report for difference in done.differences]:
            raise AirflowFailException("\n".join(differences))


def _seen_before(tiers: Tiers, tables: Sequence[TableSpec]) -> list[tuple[TableSpec, frozenset[int]]]:
    """The snapshots of tables; what cannot be looked at now is not told of."""
    found = []
    for table in tables:
        try:
            found.append((table, seen_snapshots(tiers, table)))
        except OffloadError as error:
            log.warning("%s", error)
    return found


def _rewritten(before: Sequence[tuple[TableSpec, frozenset[int]]]) -> Iterator[Change]:
    with open_tiers() as tiers:
        for table, known in before:
            yield from find_rewrites(tiers, table, known)


class VerifySealsOperator(BaseOperator):
    """Verifies some sealed days of all chosen tables, those first that were not looked at for the longest time."""

    def execute(self, context: Any) -> None:
        """Read them; a dry run does not.

        :raises AirflowFailException: naming each broken seal; another attempt would not help
        """
        params = context["params"]
        if params["dry_run"]:
            return
        with open_tiers() as tiers:
            with_retries(tiers.ledger.migrate)
            chosen = chosen_tables(tiers, context)
            findings = verify_due(tiers, chosen, tiers.task_timeout / 2)
        if findings:
            raise AirflowFailException("\n".join(findings))
