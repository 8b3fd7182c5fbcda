"""The DAG k2_maintenance: rewrites days of many files, expires snapshots, removes orphan files."""

from __future__ import annotations

from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.airflow_tasks.maintenance_dag import build_maintenance_dag

dag = build_maintenance_dag(load_tables(load_settings().tables_file))
