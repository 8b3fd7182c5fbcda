"""What one would script today, for comparison: an Arrow table from ClickHouse, appended by pyiceberg.

pyiceberg_script.py SOURCE TARGET. Connections as the offload job gets them.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))

import clickhouse_connect
from pyiceberg.catalog import load_catalog

from k2_offload.core.job_connections import JobConnections

source, target = sys.argv[1:]
endpoint = JobConnections.from_json(os.environ[JobConnections.VARIABLE]).clickhouse
client = clickhouse_connect.get_client(host=endpoint.host, port=endpoint.http_port, database=endpoint.database)
rows = client.query_arrow(
    f"SELECT * REPLACE (toInt64(sequence_number) AS sequence_number) FROM {source} ORDER BY symbol, exchange_timestamp",
    settings={"output_format_arrow_low_cardinality_as_dictionary": 0, "output_format_arrow_string_as_string": 1},
)
catalog = load_catalog("demo", type="sql", uri=os.environ["K2_BENCH_URI"], warehouse=os.environ["K2_BENCH_WAREHOUSE"])
catalog.create_namespace_if_not_exists(target.partition(".")[0])
catalog.create_table(target, rows.schema, properties={"write.parquet.compression-codec": "zstd"}).append(rows)
