"""Transport ``export``: ClickHouse writes the Parquet files straight into the table's folder; rows pass nobody else."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from urllib.parse import unquote, urlparse

from cold_table import ColdTable
from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.core.connections import JobConnections
from k2_offload.core.errors import ConfigurationError
from k2_offload.core.exactly_once import Snapshot, WindowId
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.plan import PlannedTable
from k2_offload.core.queries import DAY, literal

_SETTINGS = (
    "output_format_parquet_compression_method = 'zstd', output_format_compression_level = 2, "
    "output_format_parquet_string_as_string = 1, "
    # By default every column gets one; they are a third of the file and of the time, for point look-ups by any column.
    "output_format_parquet_write_bloom_filter = 0, "
    # The engine holds whole row groups in memory; by rows alone they grow with the raw messages.
    "output_format_parquet_row_group_size_bytes = 33554432, "
    # ClickHouse would read a folder name like day=2026-01-01 as a column that the rows lack.
    "use_hive_partitioning = 0"
)


class ExportTransport:
    """One file per partition day, in the table's sort order."""

    def __init__(self, connections: JobConnections) -> None:
        self._lake_collection = connections.lake_collection

    def stage(
        self,
        clickhouse: ClickHouse,
        cold: ColdTable,
        planned: PlannedTable,
        window_id: WindowId,
        rows_per_day: Mapping[date, int],
        attempt: str,
    ) -> Snapshot:
        """Export the window and stage its files.

        Files of an attempt that dies are never referenced; orphan-file removal takes them.
        """
        files = []
        for day in rows_per_day:
            uri = f"{cold.location}/data/{planned.partition_field}={day.isoformat()}/{attempt}.parquet"
            select = planned.select_day_sql.replace(DAY, day.isoformat())
            clickhouse.execute(f"INSERT INTO FUNCTION {self._destination(uri)} {select} SETTINGS {_SETTINGS}")
            reached(FaultPoint.FILE_EXPORTED, planned.table)
            files.append(cold.data_file(uri, planned.partition_field, day))
        return cold.stage_files(files, window_id, attempt)

    def _destination(self, uri: str) -> str:
        parts = urlparse(uri)
        path = unquote(parts.path)
        if parts.scheme in ("", "file"):
            return f"file({literal(path)}, 'Parquet')"
        if parts.scheme in ("s3", "s3a"):
            return f"s3({self._lake_collection}, filename = {literal(path.lstrip('/'))}, format = 'Parquet')"
        raise ConfigurationError(
            f"ClickHouse cannot export to {parts.scheme}://; use a file or s3 warehouse, or 'transport: jdbc'"
        )
