"""The DAG that keeps the cold tier equal to the warm one: compare → heal (mapped) → confirm.

Beside it, the offsets of messages are compared.
"""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param

from k2_offload.adapters.settings import load_settings
from k2_offload.airflow_tasks.notify import on_failure
from k2_offload.airflow_tasks.offload import OffloadOperator
from k2_offload.airflow_tasks.offsets import CompareOffsetsOperator
from k2_offload.airflow_tasks.params import in_utc, tables_param, task_defaults
from k2_offload.airflow_tasks.reconcile import CompareOperator, ConfirmOperator
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.dag_ids import RECONCILE_DAG_ID
from k2_offload.core.tables import Tables

_DOC = Path(__file__).with_suffix(".md")

_SCHEDULE = "7,37 * * * *"
"""In UTC, off the quarter hours, and so that a late row is cold within an hour."""


def build_reconcile_dag(tables: Tables) -> DAG:
    """The DAG."""
    with DAG(
        dag_id=RECONCILE_DAG_ID,
        description="Compares both tiers day by day, and heals the cold days that differ",
        schedule=in_utc(_SCHEDULE),
        catchup=False,
        max_active_runs=1,
        on_failure_callback=on_failure(),
        default_args=task_defaults(load_settings().task_timeout_seconds),
        tags=["k2", "reconcile"],
        doc_md=_DOC.read_text(),
        params={
            "tables": tables_param("compare", tables.by_name),
            "days": Param(
                [],
                type="array",
                title="Days",
                description="Which partition days (YYYY-MM-DD) to compare; none means those that are due.",
                items={"type": "string", "format": "date"},
            ),
            "going_rows": Param(
                0,
                type="integer",
                minimum=0,
                title="Rows that may go",
                description="With days: how many cold rows of each may go that ClickHouse lacks.",
            ),
        },
    ) as dag:
        compare = CompareOperator(task_id="compare")
        heal = (
            with_runner(OffloadOperator)
            .partial(task_id="heal", max_active_tis_per_dagrun=1, outlets=[OffloadOperator.alias])
            .expand_kwargs(compare.output)
        )
        CompareOffsetsOperator(task_id="compare_offsets")
        heal >> ConfirmOperator(task_id="confirm", trigger_rule="all_done", retries=0)
    return dag
