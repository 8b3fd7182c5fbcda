"""The layers' DAGs with a cycle every minute, for the section ``minutes``."""

from __future__ import annotations

from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.airflow_tasks.layer_dag import build_dag
from k2_offload.core.dag_ids import dag_id
from k2_offload.core.tables import LAYERS

tables = load_tables(load_settings().tables_file)
for layer in LAYERS:
    globals()[dag_id(layer)] = build_dag(layer, tables, schedule="* * * * *")
