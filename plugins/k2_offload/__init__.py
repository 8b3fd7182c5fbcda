"""K2 offload: moves new rows from ClickHouse to Apache Iceberg, exactly once.

``core`` is pure and knows the standard library only; ``adapters`` talk to ClickHouse, Postgres, Iceberg and Airflow's
configuration; ``work`` is what is done with them; ``airflow_tasks`` is what Airflow runs, ``cli`` the ``k2`` command.
Each knows only those before it.

A DAG file takes :func:`airflow_dags`, and nothing else of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.sdk import DAG

__all__ = ["__version__", "airflow_dags"]

__version__ = "0.1.0"


def airflow_dags() -> dict[str, DAG]:
    """All DAGs of the table file, by id.

    This is a whole DAG file::

        from k2_offload import airflow_dags

        globals().update(airflow_dags())

    While Airflow loads one DAG to run a task of it, that one alone is made. The name has both words that Airflow looks
    for before it loads a file (``dag`` and ``airflow``).

    :raises ConfigurationError: if the settings are wrong, or this Airflow is too old
    :raises InvalidTablesFile: if the table file is wrong
    """
    from k2_offload.adapters.settings import load_settings  # noqa: PLC0415 - importing the package loads nothing

    tables_file = load_settings().tables_file  # an Airflow that is too old is refused here, and not by an import below
    from k2_offload.airflow_tasks.dags import build_dags  # noqa: PLC0415

    return build_dags(tables_file)
