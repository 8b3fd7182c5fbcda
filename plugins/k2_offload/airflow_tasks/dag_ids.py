"""The names of the DAGs, for whoever has to find one."""

from __future__ import annotations

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
