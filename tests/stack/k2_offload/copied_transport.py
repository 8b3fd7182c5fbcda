"""A transport that only tests know: ClickHouse writes beside the lake, and the job copies the files into it.

One class, and one line of the registry. Run by spark-submit, this file is the real job with that line added.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlparse

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "include" / "spark_jobs"))

from k2_offload.core.lake import parquet_file
from k2_offload.core.queries import EXPORT_SETTINGS, of_split
from k2_offload.core.transports import TRANSPORTS, Transport


class CopiedTransport:
    def __init__(self, connections, _master):
        self._collection = connections.lake_collection

    def stage(self, clickhouse, cold, planned, splits, stamp):
        files = []
        for number, split in enumerate(splits):
            name = f"{stamp.attempt}-{number}.parquet"
            beside = Path(tempfile.gettempdir()) / name
            select = of_split(planned.select_split_sql, split)
            destination = parquet_file(beside.as_uri(), self._collection)
            clickhouse.execute(f"INSERT INTO FUNCTION {destination} {select} SETTINGS {EXPORT_SETTINGS}")
            uri = f"{cold.location}/data/{planned.partition_field}={split.day.isoformat()}/{name}"
            inside = Path(unquote(urlparse(uri).path))
            inside.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(beside, inside)
            files.append(cold.data_file(uri, planned.partition_field, split.day))
        return cold.stage_files(files, stamp)


TRANSPORT = Transport("copied_transport:CopiedTransport", 300, table_properties={"k2.test.copied": "yes"})

if __name__ == "__main__":
    from offload_job.application import main

    TRANSPORTS["copied"] = TRANSPORT
    sys.exit(main())
