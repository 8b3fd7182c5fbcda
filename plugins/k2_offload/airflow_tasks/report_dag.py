"""The DAG that reports on the day before."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param

from k2_offload.adapters.settings import load_settings
from k2_offload.airflow_tasks.notify import on_failure
from k2_offload.airflow_tasks.params import in_utc, task_defaults
from k2_offload.airflow_tasks.report import ReportOperator
from k2_offload.core.dag_ids import REPORT_DAG_ID

_DOC = Path(__file__).with_suffix(".md")


def build_report_dag(schedule: str | None = "50 0 * * *") -> DAG:
    """The DAG.

    :param schedule: daily, in UTC, when the day before is over and its last windows have moved; ``None`` for none
    """
    with DAG(
        dag_id=REPORT_DAG_ID,
        description="What became of every table on the day before",
        schedule=in_utc(schedule),
        catchup=False,
        max_active_runs=1,
        on_failure_callback=on_failure(),
        default_args=task_defaults(load_settings().task_timeout_seconds),
        tags=["k2", "report"],
        doc_md=_DOC.read_text(),
        params={
            "day": Param(
                None,
                type=["null", "string"],
                format="date",
                title="Day",
                description="Which day (UTC) to report on; none means the day before the run's own time.",
            ),
        },
    ) as dag:
        ReportOperator(task_id="report")
    return dag
