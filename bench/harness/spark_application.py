"""The Spark application that stays up, with what a benchmark needs between its measurements.

For spark-submit, started by :mod:`bench.harness.warm_spark`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "include" / "spark_jobs"))

import offload  # noqa: F401 - finds the package
from embedded.warm_application import WarmApplication, serve
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.core.exactly_once import Snapshot
from k2_offload.core.lake import parquet_file
from k2_offload.core.plan import PlannedRows
from k2_offload.core.queries import EXPORT_SETTINGS, of_split
from k2_offload.core.splits import Split
from k2_offload.core.transports import TRANSPORTS, Transport
from offload_job.cold_table_writer import ColdTableWriter, RowsStamp
from offload_job.transports.export import ExportTransport

_PARALLEL = 4
_QUARTER_SECONDS = 900


class QuarterHourExport(ExportTransport):
    """``export``, with a file for each quarter of an hour: what a day of cycles leaves behind, from one window.

    One statement per day instead of 96 makes a history of months in minutes.
    """

    def stage(
        self,
        clickhouse: ClickHouse,
        cold: ColdTableWriter,
        planned: PlannedRows,
        splits: Sequence[Split],
        stamp: RowsStamp,
    ) -> Snapshot:
        """Export the window and stage its files."""
        column = planned.partition_field.removesuffix("_day")
        files: list[Any] = []
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for number, split in enumerate(splits):
                folder = f"{cold.location}/data/{planned.partition_field}={split.day.isoformat()}"
                destination = parquet_file(
                    f"{folder}/{stamp.attempt}-{number}-{{_partition_id}}.parquet", self._connections.lake_collection
                )
                select = of_split(planned.select_split_sql, split)
                quarter = f"toString(intDiv(toUnixTimestamp({column}), {_QUARTER_SECONDS}))"
                clickhouse.execute(
                    f"INSERT INTO FUNCTION {destination} PARTITION BY {quarter} {select} SETTINGS {EXPORT_SETTINGS}"
                )
                written = sorted(Path(unquote(urlparse(folder).path)).glob(f"{stamp.attempt}-{number}-*.parquet"))
                uris = [f"{folder}/{file.name}" for file in written]
                files += pool.map(lambda uri, day=split.day: cold.data_file(uri, planned.partition_field, day), uris)
        return cold.stage_files(files, stamp)


TRANSPORTS["quarter-hours"] = Transport(f"{__name__}:QuarterHourExport")


class BenchApplication(WarmApplication):
    """The job, and SQL by the clock."""

    def timed_sql(self, statement: str) -> tuple[float, list[tuple[Any, ...]]]:
        """Seconds from the statement's text to its last row, and the rows."""
        started = time.perf_counter()
        rows = self.sql(statement)
        return time.perf_counter() - started, rows


if __name__ == "__main__":
    serve(BenchApplication)
