"""What a browser or Prometheus asks, inside of Airflow's API server."""
