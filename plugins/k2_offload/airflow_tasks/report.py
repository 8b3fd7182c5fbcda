"""The daily report: a DAG of one task."""

from __future__ import annotations

import logging
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow.sdk import DAG, BaseOperator, Param
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters.settings import load_settings
from k2_offload.airflow_tasks.dag_ids import REPORT_DAG_ID
from k2_offload.airflow_tasks.notify import on_failure
from k2_offload.airflow_tasks.params import task_defaults
from k2_offload.core.errors import InvalidCondition, OffloadError
from k2_offload.work.report import check_day, read_report, yesterday
from k2_offload.work.report_page import write
from k2_offload.work.tiers import open_tiers

if TYPE_CHECKING:
    from airflow.sdk import Context

log = logging.getLogger(__name__)

_DOC = Path(__file__).with_suffix(".md")


class ReportOperator(BaseOperator):
    """Reports on a day, in the log, and in a file if a folder is set."""

    def execute(self, context: Context) -> None:
        """Read everything; what cannot be read is missing, with the reason, and another attempt is made.

        :raises AirflowFailException: if the day is none, or has not begun
        :raises OffloadError: once what there is has been written, if a part is missing
        """
        with open_tiers() as tiers:
            chosen, now = context["params"]["day"], tiers.now()
            try:
                bounds = check_day(date.fromisoformat(chosen) if chosen else yesterday(now), now)
            except (InvalidCondition, ValueError) as error:
                raise AirflowFailException(str(error)) from None
            report = read_report(tiers, list(tiers.tables.by_name.values()), bounds)
        note = report.note
        if folder := load_settings().report_folder:
            file = Path(folder) / f"k2-{report.day}.html"
            write(report, file)
            note += f"\n\n{file}"
        for line in note.splitlines():
            log.info("%s", line)
        if report.incomplete:
            raise OffloadError(f"The report lacks a part of: {', '.join(report.incomplete)}; the reason is above.")


def build_report_dag(schedule: str | None = "50 0 * * *") -> DAG:
    """The DAG.

    :param schedule: daily, when the day before is over and its last windows have moved; ``None`` for none
    """
    defaults: dict[str, Any] = task_defaults(load_settings().task_timeout_seconds)
    with DAG(
        dag_id=REPORT_DAG_ID,
        description="What became of every table on the day before",
        schedule=schedule,
        catchup=False,
        max_active_runs=1,
        on_failure_callback=on_failure(),
        default_args=defaults,
        tags=["k2", "report"],
        doc_md=_DOC.read_text(),
        params={
            "day": Param(
                None,
                type=["null", "string"],
                format="date",
                title="Day",
                description="Which day (UTC) to report on; none means yesterday.",
            ),
        },
    ) as dag:
        ReportOperator(task_id="report")
    return dag
