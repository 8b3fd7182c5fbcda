"""The names of the DAGs, for whoever has to find one."""

from __future__ import annotations

from k2_offload.core.tables import LAYERS, Tables

RECONCILE_DAG_ID = "k2_reconcile"
"""The DAG that compares both tiers."""

MAINTENANCE_DAG_ID = "k2_maintenance"
"""The DAG that tidies cold tables."""

REPORT_DAG_ID = "k2_report"
"""The DAG that reports on the day before."""
BACKFILL_DAG_ID = "k2_backfill"
"""The DAG that brings what was skipped."""


def dag_id(layer: str) -> str:
    """The id of a layer's DAG."""
    return f"k2_offload_{layer}"


def layer_dag_ids(tables: Tables) -> list[str]:
    """The DAGs that move rows: one for each layer that has tables."""
    return [dag_id(layer) for layer in LAYERS if tables.in_layer(layer)]


def watched_dag_ids(tables: Tables) -> list[str]:
    """The DAGs of a table file whose runs matter."""
    return [*layer_dag_ids(tables), RECONCILE_DAG_ID, MAINTENANCE_DAG_ID, REPORT_DAG_ID]
