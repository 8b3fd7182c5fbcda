"""K2 offload: moves new rows from ClickHouse to Apache Iceberg, exactly once.

``core`` is pure and knows the standard library only; ``adapters`` talk to ClickHouse, Postgres, Iceberg and Airflow's
configuration; ``work`` is what is done with them; ``airflow_tasks`` is what Airflow runs, ``cli`` the ``k2`` command.
Each knows only those before it.
"""
