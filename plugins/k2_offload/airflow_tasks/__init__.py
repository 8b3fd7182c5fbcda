"""What Airflow runs: the tasks of one cycle, the wait for the layer below, and the DAG that they make up."""
