"""A Spark application that stays up, for what a benchmark needs between its measurements.

For spark-submit, started by :mod:`bench.harness.warm_spark`. It answers requests over a connection: ``("sql",
statement)`` with seconds and rows, ``("move", plan)`` with whether all of it is published; what goes wrong comes back
as an exception.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from multiprocessing.connection import Client, Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "plugins"))
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "include" / "spark_jobs"))

import offload  # noqa: F401 - finds the package
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.core.connections import JobConnections
from k2_offload.core.exactly_once import Snapshot, WindowId
from k2_offload.core.lake import parquet_file
from k2_offload.core.plan import Plan, PlannedWindow
from k2_offload.core.queries import EXPORT_SETTINGS, of_split
from k2_offload.core.splits import Split
from k2_offload.core.transports import TRANSPORTS, Transport
from offload_job.application import Job, run
from offload_job.cold_table_writer import ColdTableWriter
from offload_job.jvm import end_with_parent, start_jvm
from offload_job.session import start_session
from offload_job.transports.export import ExportTransport

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

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
        planned: PlannedWindow,
        window_id: WindowId,
        splits: Sequence[Split],
        attempt: str,
    ) -> Snapshot:
        """Export the window and stage its files."""
        column = planned.partition_field.removesuffix("_day")
        files: list[Any] = []
        with ThreadPoolExecutor(_PARALLEL) as pool:
            for number, split in enumerate(splits):
                folder = f"{cold.location}/data/{planned.partition_field}={split.day.isoformat()}"
                destination = parquet_file(
                    f"{folder}/{attempt}-{number}-{{_partition_id}}.parquet", self._connections.lake_collection
                )
                select = of_split(planned.select_split_sql, split)
                quarter = f"toString(intDiv(toUnixTimestamp({column}), {_QUARTER_SECONDS}))"
                clickhouse.execute(
                    f"INSERT INTO FUNCTION {destination} PARTITION BY {quarter} {select} SETTINGS {EXPORT_SETTINGS}"
                )
                written = sorted(Path(unquote(urlparse(folder).path)).glob(f"{attempt}-{number}-*.parquet"))
                uris = [f"{folder}/{file.name}" for file in written]
                files += pool.map(lambda uri, day=split.day: cold.data_file(uri, planned.partition_field, day), uris)
        return cold.stage_files(files, window_id, attempt)


TRANSPORTS["quarter-hours"] = Transport(f"{__name__}:QuarterHourExport")


class WarmJob(Job):
    """The job, with a session for SQL."""

    def answer(self, kind: str, text: str) -> object:
        """What a request asks for."""
        if kind == "move":
            return run(self, Plan.from_json(text), _PARALLEL)
        started = time.perf_counter()
        rows = self._session.sql(text).collect()
        return time.perf_counter() - started, [tuple(row) for row in rows]

    @cached_property
    def _session(self) -> SparkSession:
        # Not cached: the job commits behind the session's back.
        return start_session(self.connections.catalog, procedures=True, cached=False)


def _requests(connection: Connection) -> Iterator[tuple[str, str]]:
    while True:
        try:
            yield connection.recv()
        except EOFError:
            return


def main() -> None:
    """Answer until the other side hangs up."""
    end_with_parent()
    connection = Client(os.environ["K2_BENCH_SOCKET"], authkey=bytes.fromhex(os.environ["K2_BENCH_KEY"]))
    job = WarmJob(JobConnections.from_json(os.environ[JobConnections.VARIABLE]), start_jvm())
    for request in _requests(connection):
        try:
            answer = job.answer(*request)
        except Exception as error:  # noqa: BLE001 - for the other side to raise
            answer = RuntimeError(f"{type(error).__name__}: {str(error)[:4000]}")
        connection.send(answer)


if __name__ == "__main__":
    main()
