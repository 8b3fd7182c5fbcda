"""One DAG per layer, generated from the table file: k2_offload_bronze, k2_offload_silver, k2_offload_gold."""

from __future__ import annotations

from airflow.sdk import get_parsing_context

from k2_offload.adapters.airflow_config import load_settings, load_tables
from k2_offload.core.tables import LAYERS
from k2_offload.dag_factory import build_dag, dag_id

settings = load_settings()
tables = load_tables(settings)
wanted = get_parsing_context().dag_id

for layer in LAYERS:
    if wanted in (None, dag_id(layer)) and tables.in_layer(layer):
        globals()[dag_id(layer)] = build_dag(layer, tables, settings)
