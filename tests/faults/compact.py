"""A compaction as people run it: Iceberg's own Spark procedure. spark-submit … compact.py NAMESPACE.TABLE…"""

from __future__ import annotations

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "include" / "spark_jobs"))

from k2_offload.core.connections import JobConnections
from offload_job.session import start_session

catalog = JobConnections.from_json(os.environ[JobConnections.VARIABLE]).catalog
spark = start_session(catalog, procedures=True)
for table in sys.argv[1:]:
    [result] = spark.sql(
        f"CALL {catalog.name}.system.rewrite_data_files(table => '{table}', options => map('rewrite-all', 'true'))"
    ).collect()
    print(f"compacted {table}: {result.rewritten_data_files_count} files", flush=True)
