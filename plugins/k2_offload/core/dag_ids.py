"""The names of the DAGs, for whoever has to find one."""

from __future__ import annotations

from k2_offload.core.limits import BACKFILL_SECONDS, MAINTENANCE_SECONDS
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


LAYER_DAGS = tuple(map(dag_id, LAYERS))
"""Those that move rows, by the schedule of the settings; each after the one before."""


def attempt_seconds(dag: str, task_seconds: int) -> int:
    """How long one attempt of a task of this DAG may take.

    :param task_seconds: what the settings say of the others
    """
    return {BACKFILL_DAG_ID: BACKFILL_SECONDS, MAINTENANCE_DAG_ID: MAINTENANCE_SECONDS}.get(dag, task_seconds)


def watched_dags(tables: Tables) -> dict[str, frozenset[str]]:
    """The DAGs of a table file whose runs matter, and the tables that a whole run of each is for."""
    layers = {dag_id(layer): frozenset(table.name for table in tables.in_layer(layer)) for layer in LAYERS}
    everything = dict.fromkeys((RECONCILE_DAG_ID, MAINTENANCE_DAG_ID, REPORT_DAG_ID), frozenset(tables.by_name))
    return {name: chosen for name, chosen in layers.items() if chosen} | everything
