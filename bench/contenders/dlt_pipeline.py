"""What one would load with dlt, for comparison: Arrow batches from ClickHouse into its Iceberg destination.

dlt_pipeline.py SOURCE FOLDER. Connections as the offload job gets them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))

import clickhouse_connect
import dlt

from k2_offload.core.job_connections import JobConnections

if TYPE_CHECKING:
    from pyarrow import RecordBatch

source, folder = sys.argv[1:]
endpoint = JobConnections.from_json(os.environ[JobConnections.VARIABLE]).clickhouse
os.environ.update(
    RUNTIME__DLTHUB_TELEMETRY="false",
    NORMALIZE__PARQUET_NORMALIZER__ADD_DLT_LOAD_ID="false",
    DATA_WRITER__COMPRESSION="zstd",
)


def trades() -> Iterator[RecordBatch]:
    """The table, in the engine's own batches."""
    client = clickhouse_connect.get_client(
        host=endpoint.host, port=endpoint.http_port, username=endpoint.user, password=endpoint.password
    )
    query = f"SELECT * REPLACE (toInt64(sequence_number) AS sequence_number) FROM {endpoint.database}.{source}"
    settings = {"output_format_arrow_low_cardinality_as_dictionary": 0, "output_format_arrow_string_as_string": 1}
    with client.query_arrow_stream(query, settings=settings) as batches:
        yield from batches


pipeline = dlt.pipeline(
    "k2_bench",
    pipelines_dir=f"{folder}/state",
    destination=dlt.destinations.filesystem(Path(folder).as_uri()),
    dataset_name="bench",
)
pipeline.run(dlt.resource(trades, write_disposition="append", table_format="iceberg"))
