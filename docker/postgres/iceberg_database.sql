-- The Iceberg catalog, beside Airflow's own database. Run once, when the data folder is new.
CREATE DATABASE iceberg;
