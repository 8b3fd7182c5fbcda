"""The DAG that keeps cold tables in shape, and looks at their sealed days."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param

from k2_offload.airflow_tasks.maintenance import MaintainOperator, VerifySealsOperator
from k2_offload.airflow_tasks.notify import on_failure
from k2_offload.airflow_tasks.params import in_utc, tables_param, task_defaults
from k2_offload.airflow_tasks.retention import RemoveProvenOperator
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.dag_ids import MAINTENANCE_DAG_ID
from k2_offload.core.limits import MAINTENANCE_SECONDS
from k2_offload.core.tables import Tables

_DOC = Path(__file__).with_suffix(".md")

_SCHEDULE = "22 3 * * *"
"""Daily, in UTC, off the quarter hours and off the half hours' comparisons."""


def build_maintenance_dag(tables: Tables) -> DAG:
    """The DAG."""
    with DAG(
        dag_id=MAINTENANCE_DAG_ID,
        description="Fewer files, fewer snapshots, no orphan files in the cold tables",
        schedule=in_utc(_SCHEDULE),
        catchup=False,
        max_active_runs=1,
        on_failure_callback=on_failure(),
        default_args=task_defaults(MAINTENANCE_SECONDS),
        tags=["k2", "maintenance"],
        doc_md=_DOC.read_text(),
        params={
            "tables": tables_param("tidy", tables.by_name),
            "dry_run": Param(
                False, type="boolean", title="Dry run", description="Only look, and say what would be done."
            ),
        },
    ) as dag:
        with_runner(MaintainOperator)(task_id="maintain")
        VerifySealsOperator(task_id="verify_seals")
        RemoveProvenOperator(task_id="remove_proven")  # verifies each day by itself
    return dag
