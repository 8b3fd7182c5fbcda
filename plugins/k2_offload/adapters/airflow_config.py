"""The package's settings and connections, from Airflow's own configuration."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from k2_offload.adapters.ledger import Ledger
from k2_offload.core.connections import (
    Catalog,
    ClickHouseEndpoint,
    ConnectionFields,
    JobConnections,
    catalog,
    clickhouse_endpoint,
    spark_master,
)
from k2_offload.core.errors import ConfigurationError, InvalidTablesFile
from k2_offload.core.tables import Tables, parse_tables

_SECTION = "k2_offload"
_PROJECT = Path(__file__).parents[3]

_LIBPQ = {
    "connect_timeout": 10,
    "keepalives_idle": 30,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": 60_000,
}
"""So that a server that has vanished is noticed within about a minute; the connection's extra may say otherwise."""

_TRANSACTION_LIMITS = """
SET LOCAL lock_timeout = '60s';
SET LOCAL idle_in_transaction_session_timeout = '10min';
"""
"""So that a client that has vanished frees the table it holds, and nobody waits for it for ever."""


@dataclass(frozen=True)
class Settings:
    """Section ``[k2_offload]`` of ``airflow.cfg`` (or ``AIRFLOW__K2_OFFLOAD__…``); see docs/configuration.md."""

    tables_file: Path
    ledger_conn_id: str
    clickhouse_conn_id: str
    catalog_conn_id: str
    spark_conn_id: str
    spark_binary: str
    spark_python: str
    spark_jars: str
    spark_class_archive: str
    lake_collection: str
    parallel_tables: int


def load_settings() -> Settings:
    """Read the section; every key has a default that suits a deployment with Airflow's usual folders.

    :raises ConfigurationError: if one is not what it should be
    """
    from airflow.configuration import conf  # noqa: PLC0415 - the CLI answers --help without loading Airflow

    def get(key: str, default: str) -> str:
        return conf.get(_SECTION, key, fallback=default) or default

    return Settings(
        tables_file=Path(get("tables_file", str(_PROJECT / "include" / "tables.yaml"))),
        ledger_conn_id=get("ledger_conn_id", "k2_ledger"),
        clickhouse_conn_id=get("clickhouse_conn_id", "k2_clickhouse"),
        catalog_conn_id=get("catalog_conn_id", "k2_iceberg"),
        spark_conn_id=get("spark_conn_id", "k2_spark"),
        spark_binary=get("spark_binary", "spark-submit"),
        spark_python=get("spark_python", "python3"),
        spark_jars=get("spark_jars", ""),
        spark_class_archive=get("spark_class_archive", ""),
        lake_collection=get("lake_collection", "k2_lake"),
        parallel_tables=_at_least_one("parallel_tables", get("parallel_tables", "4")),
    )


def _at_least_one(key: str, text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise ConfigurationError(
            f"[{_SECTION}] {key} is '{text}', not a whole number of at least 1. Nothing was moved. Correct it in "
            f"airflow.cfg or AIRFLOW__{_SECTION.upper()}__{key.upper()}; then run `k2 validate`."
        )
    return int(text)


def load_tables(settings: Settings) -> Tables:
    """Read and validate the table file.

    :raises InvalidTablesFile: with the file's name, if it is missing or wrong
    """
    try:
        return parse_tables(settings.tables_file.read_text())
    except OSError as error:
        raise InvalidTablesFile(f"{settings.tables_file}: {error.strerror}") from None
    except InvalidTablesFile as error:
        raise InvalidTablesFile(f"{settings.tables_file}: {error}") from None


def load_clickhouse(settings: Settings) -> ClickHouseEndpoint:
    """Where ClickHouse is.

    :raises ConfigurationError: if the connection is missing or incomplete
    """
    return clickhouse_endpoint(_fields(settings.clickhouse_conn_id))


def load_catalog(settings: Settings) -> Catalog:
    """Where the Iceberg catalog is.

    :raises ConfigurationError: if the connection is missing or incomplete
    """
    return catalog(_fields(settings.catalog_conn_id))


def load_job_connections(settings: Settings) -> JobConnections:
    """All that the Spark application reaches; holds secrets."""
    return JobConnections(load_clickhouse(settings), load_catalog(settings), settings.lake_collection)


def load_spark_master(settings: Settings) -> str:
    """Where Spark runs, as Airflow's Spark provider reads it.

    :raises ConfigurationError: if the connection is missing or names no master
    """
    connection = _connection(settings.spark_conn_id)
    return spark_master(settings.spark_conn_id, connection.conn_type, connection.host, connection.port)


def load_ledger(settings: Settings) -> Ledger:
    """The ledger, reached with Airflow's PostgresHook."""
    from airflow.providers.postgres.hooks.postgres import PostgresHook  # noqa: PLC0415 - costs half a second

    check_connection(settings.ledger_conn_id)
    hook = PostgresHook(postgres_conn_id=settings.ledger_conn_id)
    hook.connection.extra = json.dumps(_LIBPQ | hook.connection.extra_dejson)

    def connect() -> Any:
        connection = hook.get_conn()
        try:
            with connection.cursor() as cursor:
                cursor.execute(_TRANSACTION_LIMITS)
        except BaseException:
            connection.close()
            raise
        return connection

    return Ledger(connect, settings.ledger_conn_id)


def check_connection(connection_id: str) -> None:
    """Make sure that the connection exists; some hooks fall back to a default that nobody wants.

    :raises ConfigurationError: if it does not
    """
    _connection(connection_id)


def _fields(connection_id: str) -> ConnectionFields:
    connection = _connection(connection_id)
    return ConnectionFields(
        connection_id=connection_id,
        host=connection.host,
        port=connection.port,
        login=connection.login,
        password=connection.password,
        schema=connection.schema,
        extra=connection.extra_dejson,
    )


def _connection(connection_id: str) -> Any:
    from airflow.sdk import BaseHook  # noqa: PLC0415
    from airflow.sdk.exceptions import AirflowNotFoundException  # noqa: PLC0415

    try:
        return BaseHook.get_connection(connection_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"Airflow connection '{connection_id}' does not exist. Nothing was moved. Add it "
            f"(`airflow connections add {connection_id} …`, see docs/configuration.md), then run `k2 validate`."
        ) from None
