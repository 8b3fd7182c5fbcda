"""What one task of the replaced method runs, for comparison: Spark reads one table's window by JDBC and appends it.

An application for spark-submit: old_window.py SOURCE TARGET TIME_COLUMN PARTITION_COLUMN LOW HIGH. The window is
half-open, in microseconds since 1970. Connections as the offload job gets them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))

from pyspark.sql.functions import days  # noqa: TID253 - an application for spark-submit

from bench.contenders import old_spark
from k2_offload.core.job_connections import JobConnections

source, target, time, partition, low, high = sys.argv[1:]
connections = JobConnections.from_json(os.environ[JobConnections.VARIABLE])
catalog = connections.catalog
spark = old_spark.open_session(catalog)
window = f"{time} >= fromUnixTimestamp64Micro({low}, 'UTC') AND {time} < fromUnixTimestamp64Micro({high}, 'UTC')"
query = f"SELECT * FROM {source} WHERE {window} ORDER BY {time}"
rows = old_spark.read(spark, connections.clickhouse, query)
name = f"{catalog.name}.{target}"
if spark.catalog.tableExists(name):
    rows.writeTo(name).append()
else:
    spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {name.rpartition('.')[0]}")
    rows.writeTo(name).using("iceberg").partitionedBy(days(partition)).create()
