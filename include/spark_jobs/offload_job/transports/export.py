"""Transport ``export``: ClickHouse writes the Parquet files straight into the table's folder; rows pass nobody else."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.log_lines import about
from k2_offload.adapters.replicas import open_planned
from k2_offload.core.connections import is_cluster
from k2_offload.core.exactly_once import Snapshot
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.lake import parquet_file
from k2_offload.core.plan import PlannedRows
from k2_offload.core.queries import EXPORT_SETTINGS, of_split
from k2_offload.core.splits import Split
from offload_job.cold_table_writer import ColdTableWriter, RowsStamp
from offload_job.export_task import TRY, Export, Exported, file_of, run_export
from offload_job.spark_cluster import SparkCluster
from offload_job.steps import Steps

log = logging.getLogger(__name__)

_PARALLEL_FOOTERS = 8


class ExportTransport:
    """One file per split, in the table's sort order.

    :param master: where that is a cluster, it runs the exports of a window that one file cannot hold; otherwise
        threads of this process do
    """

    def __init__(self, connections: JobConnections, master: str) -> None:
        self._connections = connections
        self._cluster = SparkCluster(connections.clickhouse) if is_cluster(master) else None

    def stage(
        self,
        clickhouse: ClickHouse,
        cold: ColdTableWriter,
        planned: PlannedRows,
        splits: Sequence[Split],
        stamp: RowsStamp,
    ) -> Snapshot:
        """Export the window and stage its files.

        Files of an attempt that is killed are never referenced; orphan-file removal takes them.
        """
        exports = self._exports(cold, planned, splits, stamp.attempt)
        written = [file_of(export, 0) for export in exports]  # also those whose reply is lost
        with cold.removing_unnamed(stamp.attempt, written):
            steps, rows = Steps(log, planned.table, stamp.window), sum(split.rows for split in splits)
            files = self._export(clickhouse, cold, planned, splits, exports, written)
            steps.done("export", f"exported {rows} rows, {len(files)} files", rows=rows, files=len(files))
            return cold.stage_files(files, stamp)

    def _export(
        self,
        clickhouse: ClickHouse,
        cold: ColdTableWriter,
        planned: PlannedRows,
        splits: Sequence[Split],
        exports: Sequence[Export],
        written: list[str],
    ) -> list[Any]:
        def register(split: Split, exported: Exported) -> Any:
            reached(FaultPoint.FILE_EXPORTED, planned.table)
            return cold.data_file(exported.uri, planned.partition_field, split.day)

        def export_and_register(split: Split, export: Export) -> Any:
            with closing(open_planned(self._connections.clickhouse, planned)) as own:
                exported = run_export(export, 0, own)
            log.info("%s: %s", planned.table, exported, extra=about("export", planned.table))
            return register(split, exported)

        at_once = min(planned.parallel_exports, len(splits))
        # The two small files of a window across midnight are not worth a Spark context.
        if self._cluster is not None and sum(split.rows for split in splits) > planned.max_file_rows:
            exported = self._cluster.run(planned, exports, written)
            for each in exported:
                log.info("%s: %s", planned.table, each, extra=about("export", planned.table))
            with ThreadPoolExecutor(_PARALLEL_FOOTERS) as pool:
                return list(pool.map(register, splits, exported))
        if at_once > 1:
            with ThreadPoolExecutor(at_once) as pool:
                return list(pool.map(export_and_register, splits, exports))
        return [
            register(split, run_export(export, 0, clickhouse)) for split, export in zip(splits, exports, strict=True)
        ]

    def _exports(
        self, cold: ColdTableWriter, planned: PlannedRows, splits: Sequence[Split], attempt: str
    ) -> list[Export]:
        exports = []
        for number, split in enumerate(splits):
            file = f"{planned.partition_field}={split.day.isoformat()}/{attempt}-{number}-{TRY}.parquet"
            uri = f"{cold.location}/data/{file}"
            select = of_split(planned.select_split_sql, split)
            destination = parquet_file(uri, self._connections.lake_collection)
            statement = f"INSERT INTO FUNCTION {destination} {select} SETTINGS {EXPORT_SETTINGS}"
            exports.append(Export(uri, statement))
        return exports
