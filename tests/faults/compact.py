"""A compaction as people run it: Iceberg's own Spark procedure. spark-submit … compact.py NAMESPACE.TABLE…"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))

from pyspark.sql import SparkSession  # noqa: TID253 - this is an application for spark-submit

from k2_offload.core.connections import JobConnections

catalog = JobConnections.from_json(os.environ[JobConnections.VARIABLE]).catalog
builder = SparkSession.builder.config(f"spark.sql.catalog.{catalog.name}", "org.apache.iceberg.spark.SparkCatalog")
for key, value in catalog.java.items():
    builder = builder.config(f"spark.sql.catalog.{catalog.name}.{key}", value)
spark = builder.config(
    "spark.sql.extensions", "org.apache.iceberg.spark.extensions.IcebergSparkSessionExtensions"
).getOrCreate()
for table in sys.argv[1:]:
    [result] = spark.sql(
        f"CALL {catalog.name}.system.rewrite_data_files(table => '{table}', options => map('rewrite-all', 'true'))"
    ).collect()
    print(f"compacted {table}: {result.rewritten_data_files_count} files", flush=True)
