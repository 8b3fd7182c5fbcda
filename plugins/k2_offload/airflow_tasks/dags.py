"""All DAGs of a table file."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from airflow.sdk import DAG, get_parsing_context

from k2_offload.adapters.table_file import load_tables
from k2_offload.core.dag_ids import (
    BACKFILL_DAG_ID,
    MAINTENANCE_DAG_ID,
    RECONCILE_DAG_ID,
    REPORT_DAG_ID,
    dag_id,
)
from k2_offload.core.tables import LAYERS, Tables


def build_dags(tables_file: Path) -> dict[str, DAG]:
    """By id: one per layer that has tables, those that compare, tidy, backfill and report; only what Airflow asks for.

    :raises InvalidTablesFile: if the table file is wrong
    """
    tables = load_tables(tables_file)
    builders: dict[str, Callable[[], DAG]] = {
        dag_id(layer): partial(_build_layer, layer, tables) for layer in LAYERS if tables.in_layer(layer)
    }
    builders[RECONCILE_DAG_ID] = partial(_build_reconcile, tables)
    builders[MAINTENANCE_DAG_ID] = partial(_build_maintenance, tables)
    builders[BACKFILL_DAG_ID] = partial(_build_backfill, tables)
    builders[REPORT_DAG_ID] = _build_report
    wanted = get_parsing_context().dag_id
    return {name: build() for name, build in builders.items() if wanted in (None, name)}


# Each with its own imports: Airflow loads the file anew for every task, and a task needs those of its own DAG only.


def _build_layer(layer: str, tables: Tables) -> DAG:
    from k2_offload.airflow_tasks.layer_dag import build_dag  # noqa: PLC0415

    return build_dag(layer, tables)


def _build_reconcile(tables: Tables) -> DAG:
    from k2_offload.airflow_tasks.reconcile_dag import build_reconcile_dag  # noqa: PLC0415

    return build_reconcile_dag(tables)


def _build_maintenance(tables: Tables) -> DAG:
    from k2_offload.airflow_tasks.maintenance_dag import build_maintenance_dag  # noqa: PLC0415

    return build_maintenance_dag(tables)


def _build_backfill(tables: Tables) -> DAG:
    from k2_offload.airflow_tasks.backfill_dag import build_backfill_dag  # noqa: PLC0415

    return build_backfill_dag(tables)


def _build_report() -> DAG:
    from k2_offload.airflow_tasks.report_dag import build_report_dag  # noqa: PLC0415

    return build_report_dag()
