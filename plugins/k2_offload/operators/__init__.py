"""The Airflow tasks of one cycle: plan, offload, commit."""
