"""The names of the DAGs, for whoever has to find one."""

from __future__ import annotations


def dag_id(layer: str) -> str:
    """The id of a layer's DAG."""
    return f"k2_offload_{layer}"
