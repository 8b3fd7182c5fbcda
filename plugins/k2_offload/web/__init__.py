"""What Airflow's API server shows: the page "Cold tier"."""
