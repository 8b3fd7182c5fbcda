"""What a browser or Prometheus asks, inside of Airflow's API server: the page "Cold tier", and the metrics."""
