"""All DAGs of the table file: one for each layer, k2_reconcile, k2_backfill, k2_maintenance and k2_report."""

from k2_offload import airflow_dags

globals().update(airflow_dags())
