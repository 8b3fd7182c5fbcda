"""The DAG that brings what was skipped: one task, run by hand."""

from __future__ import annotations

from pathlib import Path

from airflow.sdk import DAG, Param

from k2_offload.airflow_tasks.backfill import BackfillOperator
from k2_offload.airflow_tasks.notify import on_failure
from k2_offload.airflow_tasks.params import tables_param, task_defaults
from k2_offload.airflow_tasks.spark_application import with_runner
from k2_offload.core.dag_ids import BACKFILL_DAG_ID
from k2_offload.core.limits import BACKFILL_SECONDS
from k2_offload.core.tables import Tables

_DOC = Path(__file__).with_suffix(".md")


def build_backfill_dag(tables: Tables) -> DAG:
    """The DAG; it has no schedule."""
    with DAG(
        dag_id=BACKFILL_DAG_ID,
        description="Brings into the cold tables what was left out of them on purpose",
        schedule=None,
        catchup=False,
        max_active_runs=1,
        on_failure_callback=on_failure(),
        default_args=task_defaults(BACKFILL_SECONDS),
        tags=["k2", "backfill"],
        doc_md=_DOC.read_text(),
        params={
            "tables": tables_param("fill", tables.by_name),
            "from": Param(
                "", type="string", title="From", description="A time (ISO 8601, UTC); from the first if empty."
            ),
            "to": Param("", type="string", title="To", description="Half-open; up to the watermark if empty."),
            "max_rows": Param(
                0, type="integer", minimum=0, title="Rows of one window", description="0: as the table file says."
            ),
            "newest_first": Param(
                False, type="boolean", title="Newest first", description="The TTL takes the oldest rows first."
            ),
            "accept_fewer": Param(
                False,
                type="boolean",
                title="Accept fewer rows",
                description="Also where ClickHouse does not show all rows that were left out, or none.",
            ),
            "accept_null": Param(
                False,
                type="boolean",
                title="Accept NULL",
                description="Also below the time from which on a column is not filled any more; it comes as NULL.",
            ),
            "dry_run": Param(False, type="boolean", title="Dry run", description="Only count what is left out."),
        },
    ) as dag:
        with_runner(BackfillOperator)(task_id="backfill")
    return dag
