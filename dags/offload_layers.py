"""All DAGs of the table file: k2_offload_bronze, _silver and _gold, k2_reconcile, k2_maintenance, k2_report."""

from k2_offload import airflow_dags

globals().update(airflow_dags())
