"""What this project replaces, for comparison: Spark reads one JDBC stream, sorted by time, and appends it.

An application for spark-submit: old_method.py SOURCE TARGET. Connections as the offload job gets them.
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

source, target = sys.argv[1:]
connections = JobConnections.from_json(os.environ[JobConnections.VARIABLE])
catalog = connections.catalog
spark = old_spark.open_session(catalog)
columns = (
    "exchange_timestamp, toInt64(sequence_number) AS sequence_number, exchange, symbol, price, quantity, quote_volume, "
    "side, trade_id, ingested_at"
)
query = f"SELECT {columns} FROM {source} ORDER BY exchange_timestamp, sequence_number"
rows = old_spark.read(spark, connections.clickhouse, query)
name = f"{catalog.name}.{target}"
spark.sql(f"CREATE NAMESPACE IF NOT EXISTS {name.rpartition('.')[0]}")
rows.writeTo(name).using("iceberg").partitionedBy(days("exchange_timestamp")).create()
