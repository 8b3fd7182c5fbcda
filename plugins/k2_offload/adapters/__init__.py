"""The edges that hold the I/O: ClickHouse, Postgres, Iceberg, Airflow's settings and connections."""
