"""The transports: ways to bring a window's rows into the cold table's storage.

A new one is a module with a class that has the methods of :class:`offload_job.transport.Transport`, and one line here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True)
class Transport:
    """What planning and submitting must know of a transport; the rest is in its own module.

    :param implementation: ``module:Class``, as the Spark job imports it
    :param max_file_rows: a file never holds more, whatever the table file says; ``None`` for no such limit
    :param short: whether moving a small window takes seconds; chooses the options of Java's virtual machine
    :param writes_binary: whether it can write Iceberg's ``binary`` beside ``string``
    :param table_properties: Iceberg properties that a cold table must have for this transport. They are set when the
        table is created; a table without them is refused
    :param clickhouse_writes: whether ClickHouse writes into the lake itself; ``k2 validate`` tries that
    :param reads_over_http: whether Spark reads from ClickHouse's HTTP port; ``k2 validate`` asks that
    """

    implementation: str
    max_file_rows: int | None = None
    short: bool = True
    writes_binary: bool = False
    table_properties: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    clickhouse_writes: bool = False
    reads_over_http: bool = False

    def limit_file_rows(self, wanted: int) -> int:
        """How many rows a file may hold at most.

        :param wanted: what the table file asks for
        """
        return wanted if self.max_file_rows is None else min(wanted, self.max_file_rows)


_SAFE_SPARK_WRITES = MappingProxyType(
    {
        # Without it Iceberg's Spark writer ignores spark.wap.id and commits to main at once.
        "write.wap.enabled": "true",
        # Spark's writer stages with Iceberg's own commit. Tried again after a lost reply, that would publish what it
        # staged: see ColdTableWriter in include/spark_jobs/offload_job.
        "commit.retry.num-retries": "0",
    }
)

TRANSPORTS: dict[str, Transport] = {
    # ClickHouse writes the files. It marks every String of a file as text, or none of them; most readers then refuse a
    # column that is text in the file and binary in the table.
    "export": Transport("offload_job.transports.export:ExportTransport", clickhouse_writes=True),
    # Spark reads and writes: one task and one file per million rows, so that a backlog keeps several tasks busy.
    "jdbc": Transport(
        "offload_job.transports.jdbc:JdbcTransport", 1_000_000, False, True, _SAFE_SPARK_WRITES, reads_over_http=True
    ),
}
"""By the name in the table file's key ``transport``."""
