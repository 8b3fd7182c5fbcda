"""What Airflow's connections say, for each side that needs them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from k2_offload.adapters.settings import Settings
from k2_offload.core.connections import (
    CatalogSettings,
    ClickHouseEndpoint,
    ConnectionFields,
    DockerEndpoint,
    is_cluster,
    read_catalog,
    read_clickhouse,
    read_docker,
    read_spark_master,
)
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.job_connections import JobConnections


def clickhouse_endpoint(settings: Settings, query_seconds: int | None = None) -> ClickHouseEndpoint:
    """Where ClickHouse is.

    :param query_seconds: how long to wait for an answer; as long as a task may take when left out. ClickHouse gives up
        a second earlier, so that a slow query is not taken for a server that is away
    :raises ConfigurationError: if the connection is missing or incomplete
    """
    endpoint = read_clickhouse(_fields(settings.clickhouse_conn_id))
    if query_seconds is None:
        return replace(endpoint, query_seconds=settings.task_timeout_seconds)
    return replace(endpoint, query_seconds=query_seconds, longest_query_seconds=query_seconds - 1)


def catalog_settings(settings: Settings) -> CatalogSettings:
    """Where the Iceberg catalog is.

    :raises ConfigurationError: if the connection is missing or incomplete
    """
    return read_catalog(_fields(settings.catalog_conn_id))


def job_connections(settings: Settings) -> JobConnections:
    """All that the Spark application reaches; holds secrets.

    :raises ConfigurationError: if a connection is missing or incomplete
    """
    return JobConnections(clickhouse_endpoint(settings), catalog_settings(settings), settings.lake_collection)


def docker_endpoint(settings: Settings) -> DockerEndpoint:
    """Where the Docker engine is.

    :raises ConfigurationError: if the connection is missing or incomplete
    """
    return read_docker(_fields(settings.docker_conn_id))


def spark_master(settings: Settings) -> str:
    """Where Spark runs, as Airflow's Spark provider reads it.

    :raises ConfigurationError: if the connection is missing, or names no master that can be used
    """
    connection = get_connection(settings.spark_conn_id)
    return read_spark_master(
        settings.spark_conn_id,
        connection.conn_type,
        connection.host,
        connection.port,
        connection.extra_dejson.get("deploy-mode"),
    )


def container_master(settings: Settings) -> str:
    """Where Spark runs, seen from a container.

    :raises ConfigurationError: if the connection is missing, or names a master that cannot be used
    """
    master = spark_master(settings)
    if is_cluster(master) and not master.startswith("spark://"):
        raise ConfigurationError(
            f"connection '{settings.spark_conn_id}' names master {master}, and a container knows nothing of that "
            "cluster's configuration. Nothing was moved and no row is lost. Put local[2] or spark://… into its host, "
            "or set [k2_offload] runner to spark-submit; then run `k2 validate`."
        )
    return master


def get_connection(connection_id: str) -> Any:
    """An Airflow connection that exists; some hooks fall back to a default that nobody wants.

    :raises ConfigurationError: if it does not
    """
    from airflow.sdk import BaseHook  # noqa: PLC0415
    from airflow.sdk.exceptions import AirflowNotFoundException  # noqa: PLC0415

    try:
        return BaseHook.get_connection(connection_id)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"Airflow connection '{connection_id}' does not exist. Nothing was moved. Add it "
            f"(`airflow connections add {connection_id} …`, see docs/configuration.md), then run `k2 validate`."
        ) from None


def _fields(connection_id: str) -> ConnectionFields:
    connection = get_connection(connection_id)
    return ConnectionFields(
        connection_id=connection_id,
        host=connection.host,
        port=connection.port,
        login=connection.login,
        password=connection.password,
        schema=connection.schema,
        extra=connection.extra_dejson,
    )
