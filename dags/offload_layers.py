"""All DAGs of the table file: k2_offload_bronze, k2_offload_silver, k2_offload_gold, k2_reconcile, k2_maintenance."""

from k2_offload import airflow_dags

globals().update(airflow_dags())
