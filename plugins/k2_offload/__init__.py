"""K2 offload: moves new rows from ClickHouse to Apache Iceberg, exactly once.

``core`` is pure; ``adapters`` talk to ClickHouse, Postgres, Iceberg and Airflow's configuration;
``operators``, ``sensors`` and ``dag_factory`` are what Airflow runs; ``cli`` is the ``k2`` command.
"""
