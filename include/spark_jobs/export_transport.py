"""Transport ``export``: ClickHouse writes the Parquet files straight into the table's folder; rows pass nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlparse

from cold_table import ColdTable
from export_task import Export, Exported, run_export
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.core.connections import JobConnections
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.exactly_once import Snapshot, WindowId
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.plan import PlannedTable
from k2_offload.core.queries import EXPORT_SETTINGS, literal, of_split
from k2_offload.core.splits import Split

if TYPE_CHECKING:
    from spark_cluster import SparkCluster

_PARALLEL_FOOTERS = 8


class ExportTransport:
    """One file per split, in the table's sort order.

    :param cluster: runs the exports of a window that one file cannot hold; without one, threads of this process do
    """

    def __init__(self, connections: JobConnections, cluster: SparkCluster | None = None) -> None:
        self._connections = connections
        self._cluster = cluster

    def stage(
        self,
        clickhouse: ClickHouse,
        cold: ColdTable,
        planned: PlannedTable,
        window_id: WindowId,
        splits: Sequence[Split],
        attempt: str,
    ) -> Snapshot:
        """Export the window and stage its files.

        Files of an attempt that dies are never referenced; orphan-file removal takes them.
        """
        exports = self._exports(cold, planned, splits, attempt)

        def register(split: Split, exported: Exported) -> Any:
            reached(FaultPoint.FILE_EXPORTED, planned.table)
            return cold.data_file(exported.uri, planned.partition_field, split.day)

        def export_and_register(split: Split, export: Export) -> Any:
            with closing(ClickHouse(self._connections.clickhouse)) as own:
                exported = run_export(export, 0, own)
            _say(planned, exported)
            return register(split, exported)

        at_once = min(planned.parallel_exports, len(splits))
        # The two small files of a window across midnight are not worth a Spark context.
        if self._cluster is not None and sum(split.rows for split in splits) > planned.max_file_rows:
            exported = self._cluster.run(exports)
            for each in exported:
                _say(planned, each)
            with ThreadPoolExecutor(_PARALLEL_FOOTERS) as pool:
                files = list(pool.map(register, splits, exported))
        elif at_once > 1:
            with ThreadPoolExecutor(at_once) as pool:
                files = list(pool.map(export_and_register, splits, exports))
        else:
            files = [
                register(split, run_export(export, 0, clickhouse))
                for split, export in zip(splits, exports, strict=True)
            ]
        return cold.stage_files(files, window_id, attempt)

    def _exports(self, cold: ColdTable, planned: PlannedTable, splits: Sequence[Split], attempt: str) -> list[Export]:
        exports = []
        for number, split in enumerate(splits):
            file = f"{planned.partition_field}={split.day.isoformat()}/{attempt}-{number}-{Export.TRY}.parquet"
            uri = f"{cold.location}/data/{file}"
            select = of_split(planned.select_split_sql, split)
            statement = f"INSERT INTO FUNCTION {self._destination(uri)} {select} SETTINGS {EXPORT_SETTINGS}"
            exports.append(Export(uri, statement))
        return exports

    def _destination(self, uri: str) -> str:
        parts = urlparse(uri)
        path = unquote(parts.path)
        if parts.scheme in ("", "file"):
            return f"file({literal(path)}, 'Parquet')"
        if parts.scheme in ("s3", "s3a"):
            collection = self._connections.lake_collection
            return f"s3({collection}, filename = {literal(path.lstrip('/'))}, format = 'Parquet')"
        raise ConfigurationError(
            f"ClickHouse cannot export to {parts.scheme}://; use a file or s3 warehouse, or 'transport: jdbc'"
        )


def _say(planned: PlannedTable, exported: Exported) -> None:
    print(f"{planned.table}: {exported}\n", end="", flush=True)
