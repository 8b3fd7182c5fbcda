"""The DAG k2_reconcile: compares both tiers day by day, and heals the cold days that differ."""

from __future__ import annotations

from k2_offload.adapters.settings import load_settings
from k2_offload.adapters.table_file import load_tables
from k2_offload.airflow_tasks.reconcile_dag import build_reconcile_dag

dag = build_reconcile_dag(load_tables(load_settings().tables_file))
