"""One DAG per layer, generated from the table file: k2_offload_bronze, k2_offload_silver, k2_offload_gold."""

from __future__ import annotations

from airflow.sdk import get_parsing_context

from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.airflow_tasks.dag_ids import dag_id
from k2_offload.airflow_tasks.layer_dag import build_dag
from k2_offload.core.tables import LAYERS

tables = load_tables(load_settings().tables_file)
wanted = get_parsing_context().dag_id

for layer in LAYERS:
    if wanted in (None, dag_id(layer)) and tables.in_layer(layer):
        globals()[dag_id(layer)] = build_dag(layer, tables)
