"""Transport ``jdbc``: Spark reads the window from ClickHouse in parallel and writes the files itself.

For a ClickHouse server that cannot write to the lake's storage. Iceberg's writer stages the snapshot, by the same
write-audit-publish properties that ``export`` sets by hand.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from threading import Lock
from typing import TYPE_CHECKING, Any
from urllib.parse import quote as url_quote

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.clickhouse_connection import ALL_OR_AN_ERROR
from k2_offload.core.connections import authority
from k2_offload.core.errors import Refused, is_certificate_refusal
from k2_offload.core.exactly_once import WINDOW_PROPERTY, Snapshot
from k2_offload.core.fault_points import FaultPoint, reached
from k2_offload.core.job_connections import JobConnections
from k2_offload.core.plan import PlannedColumn, PlannedRows
from k2_offload.core.queries import ask_whether_text, of_split
from k2_offload.core.splits import Split
from k2_offload.core.sql import quote, spark_name
from offload_job.cold_table_writer import ColdTableWriter, RowsStamp
from offload_job.java_errors import SERVICE, certificate_words
from offload_job.session import start_session

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

_ALIAS = "k2_column_"
"""With a number, what Spark calls a column: it quotes names in another way than ClickHouse, backslashes above all."""


class JdbcTransport:
    """Each split of the window is read, and written as a file, by one task."""

    def __init__(self, connections: JobConnections, master: str) -> None:  # noqa: ARG002 - Spark knows its master
        self._connections = connections
        self._spark: SparkSession | None = None
        self._starting = Lock()

    def stage(
        self,
        clickhouse: ClickHouse,
        cold: ColdTableWriter,
        planned: PlannedRows,
        splits: Sequence[Split],
        stamp: RowsStamp,
    ) -> Snapshot:
        """Read the window through Spark and stage what it wrote."""
        from py4j.protocol import Py4JJavaError  # noqa: PLC0415 - comes with Spark

        if not splits:
            return cold.stage_files([], stamp)
        # A session of its own: spark.wap.id is a setting of the session, and tables run side by side.
        spark = self._session().newSession()
        spark.conf.set("spark.wap.id", stamp.wap_id)
        frames = (self._read(spark, planned, split, clickhouse.host) for split in splits)
        rows = reduce(lambda left, right: left.unionAll(right), frames)
        catalog = spark_name(self._connections.catalog.name)
        writer = rows.writeTo(f"{catalog}.{planned.target}")
        for key, value in stamp.summary.items():
            if key != WINDOW_PROPERTY:  # Iceberg's writer takes that one from the session
                writer.option(f"snapshot-property.{key}", value)
        # A task's rows are of one day and come sorted: Spark would read them twice to shuffle and sort them again.
        writer.option("use-table-distribution-and-ordering", "false")
        try:
            writer.append()
        except Py4JJavaError as error:
            if words := certificate_words(str(error)):
                at_store = "awssdk" in str(error)
                service = SERVICE if at_store else "ClickHouse"
                connection = self._connections.catalog if at_store else self._connections.clickhouse
                raise Refused(service, connection.connection_id, words) from error
            # Where an answer breaks off, the driver takes the reason for rows: ask without it.
            for split in splits:
                clickhouse.execute(ask_whether_text(planned.select_split_sql, split, planned.cut_on))
            raise
        reached(FaultPoint.STAGED, planned.table)
        return cold.staged_by(stamp.attempt)

    def _read(self, spark: SparkSession, planned: PlannedRows, split: Split, host: str) -> DataFrame:
        from py4j.protocol import Py4JJavaError  # noqa: PLC0415 - comes with Spark

        select = of_split(planned.select_split_sql, split)
        names = ", ".join(f"{_portable(column)} AS {_ALIAS}{n}" for n, column in enumerate(planned.columns))
        endpoint = self._connections.clickhouse
        server = authority(host, endpoint.http_port)  # the one that has counted
        database = url_quote(endpoint.database, safe="")
        properties = {
            "driver": "com.clickhouse.jdbc.ClickHouseDriver",
            "user": endpoint.user,
            "password": endpoint.password,
            **{f"clickhouse_setting_{name}": str(value) for name, value in ALL_OR_AN_ERROR.items()},
            **({"sslrootcert": endpoint.ca_certs} if endpoint.ca_certs else {}),
        }
        try:
            frame = spark.read.jdbc(
                url=f"jdbc:clickhouse://{server}/{database}?ssl={str(endpoint.secure).lower()}&compress=0",
                table=f"(SELECT {names} FROM ({select})) AS k2_rows",
                properties=properties,
            )
        except Py4JJavaError as error:  # it has asked for the types of the columns
            if is_certificate_refusal(str(error)):
                reason = "the certificate of its HTTP port is not accepted"
                raise Refused("ClickHouse", endpoint.connection_id, reason) from error
            raise
        return frame.select(*_restored(planned.columns))

    def _session(self) -> SparkSession:
        with self._starting:
            if self._spark is None:
                self._spark = start_session(self._connections.catalog)
            return self._spark


def _portable(column: PlannedColumn) -> str:
    """Times and dates travel as integers: drivers disagree about time zones, but not about numbers."""
    name = quote(column.name)
    if column.iceberg_type == "timestamptz":
        return f"toUnixTimestamp64Micro({name})"
    if column.iceberg_type == "date":
        return f"toInt32({name})"
    if column.iceberg_type.startswith("decimal"):
        return f"toString({name})"
    if _is_bytes(column):
        return f"hex({name})"
    return name


def _restored(columns: tuple[PlannedColumn, ...]) -> Iterator[Any]:
    from pyspark.sql import functions

    for number, column in enumerate(columns):
        value = functions.col(f"{_ALIAS}{number}")
        if column.iceberg_type == "timestamptz":
            value = functions.timestamp_micros(value)
        elif column.iceberg_type == "date":
            value = functions.date_from_unix_date(value.cast("int"))
        elif _is_bytes(column):
            value = functions.unhex(value)
        elif column.iceberg_type in ("int", "long", "float", "double", "boolean") or "decimal" in column.iceberg_type:
            value = value.cast({"long": "bigint"}.get(column.iceberg_type, column.iceberg_type))
        yield value.alias(column.name)


def _is_bytes(column: PlannedColumn) -> bool:
    return column.iceberg_type.startswith(("binary", "fixed"))
