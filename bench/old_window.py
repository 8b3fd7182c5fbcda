"""What one task of the replaced method runs, for comparison: Spark reads one table's window by JDBC and appends it.

An application for spark-submit: old_window.py SOURCE TARGET TIME_COLUMN PARTITION_COLUMN LOW HIGH. The window is
half-open, in microseconds since 1970. Connections as the offload job gets them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "plugins"))

from pyspark.sql import SparkSession  # noqa: TID253 - an application for spark-submit
from pyspark.sql.functions import days  # noqa: TID253

from k2_offload.core.connections import JobConnections

source, target, time, partition, low, high = sys.argv[1:]
connections = JobConnections.from_json(os.environ[JobConnections.VARIABLE])
catalog, endpoint = connections.catalog, connections.clickhouse
builder = SparkSession.builder.config(f"spark.sql.catalog.{catalog.name}", "org.apache.iceberg.spark.SparkCatalog")
for key, value in catalog.java.items():
    builder = builder.config(f"spark.sql.catalog.{catalog.name}.{key}", value)
spark = builder.config("spark.sql.session.timeZone", "UTC").getOrCreate()
window = f"{time} >= fromUnixTimestamp64Micro({low}, 'UTC') AND {time} < fromUnixTimestamp64Micro({high}, 'UTC')"
rows = spark.read.jdbc(
    f"jdbc:clickhouse://{endpoint.host}:{endpoint.http_port}/{endpoint.database}?compress=0",
    f"(SELECT * FROM {source} WHERE {window} ORDER BY {time}) AS source",
    properties={
        "driver": "com.clickhouse.jdbc.ClickHouseDriver",
        "user": endpoint.user,
        "password": endpoint.password,
        "fetchsize": "100000",
    },
)
name = f"{catalog.name}.{target}"
if spark.catalog.tableExists(name):
    rows.writeTo(name).append()
else:
    spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {name.rpartition('.')[0]}")
    rows.writeTo(name).using("iceberg").partitionedBy(days(partition)).create()
