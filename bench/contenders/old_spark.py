"""What the applications of the replaced method share: a Spark session as it had it, and one JDBC stream of a query.

Neither splits nor options for short jobs: that is what is compared with.
"""

from __future__ import annotations

from pyspark.sql import DataFrame, SparkSession  # noqa: TID253 - of applications for spark-submit

from k2_offload.core.connections import CatalogSettings, ClickHouseEndpoint


def open_session(catalog: CatalogSettings) -> SparkSession:
    """A session that knows the catalog, by its name."""
    builder = SparkSession.builder.config(f"spark.sql.catalog.{catalog.name}", "org.apache.iceberg.spark.SparkCatalog")
    for key, value in catalog.java.items():
        builder = builder.config(f"spark.sql.catalog.{catalog.name}.{key}", value)
    return builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()


def read(spark: SparkSession, endpoint: ClickHouseEndpoint, query: str) -> DataFrame:
    """The rows of a ClickHouse query."""
    return spark.read.jdbc(
        f"jdbc:clickhouse://{endpoint.host}:{endpoint.http_port}/{endpoint.database}?compress=0",
        f"({query}) AS source",
        properties={
            "driver": "com.clickhouse.jdbc.ClickHouseDriver",
            "user": endpoint.user,
            "password": endpoint.password,
            "fetchsize": "100000",
        },
    )
