"""Loads the Java classes that an offload job loads; run with ``-XX:ArchiveClassesAtExit`` it makes the class archive.

    spark-submit --conf spark.driver.extraJavaOptions=-XX:ArchiveClassesAtExit=FILE --driver-class-path <jars> THIS

It registers and publishes a file in a table of its own, in a folder that goes afterwards, and knocks at a catalog that
is not there. See :func:`k2_offload.adapters.spark_submit.class_archive_command`.
"""

from __future__ import annotations

import tempfile
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import offload_job  # noqa: F401 - brings k2_offload along
from k2_offload.core.exactly_once import Stamp, WindowId
from k2_offload.core.windows import Window
from offload_job.cold_table_writer import ColdTableWriter
from offload_job.jvm import Jvm, java_map, start_jvm
from offload_job.publishing import publish_window

_DAY = datetime(2026, 1, 1, tzinfo=UTC)


def publish_a_file(jvm: Jvm, warehouse: Path) -> None:
    """Every step of a job with one file, in a catalog that is a folder."""
    iceberg = jvm.org.apache.iceberg
    catalog = _load_catalog(jvm, {"type": "hadoop", "warehouse": warehouse.as_uri()})
    schema = iceberg.SchemaParser.fromJson(
        '{"type": "struct", "schema-id": 0, "fields": ['
        '{"id": 1, "name": "at", "required": false, "type": "timestamptz"},'
        '{"id": 2, "name": "symbol", "required": false, "type": "string"}]}'
    )
    spec = iceberg.PartitionSpec.builderFor(schema).day("at").build()
    identifier = iceberg.catalog.TableIdentifier.parse("archive.trades")
    mapping = iceberg.mapping.NameMappingParser.toJson(iceberg.mapping.MappingUtil.create(schema))
    properties = java_map(jvm, {"schema.name-mapping.default": mapping})
    table = catalog.createTable(identifier, schema, spec, properties)
    uri = f"{table.location()}/data/at_day=2026-01-01/file.parquet"
    row = iceberg.shaded.org.apache.avro.generic.GenericData.Record(
        iceberg.avro.AvroSchemaUtil.convert(schema, "trades")
    )
    row.put("at", int(_DAY.timestamp() * 1_000_000))
    row.put("symbol", "BTC/USDT")
    file = iceberg.parquet.Parquet.write(table.io().newOutputFile(uri)).schema(schema).named("trades").build()
    file.add(row)
    file.close()
    cold = ColdTableWriter(jvm, catalog, "archive.trades", "trades", "archive")
    window_id = WindowId(cold.uuid, Window(_DAY, _DAY.replace(day=2)))
    for attempt in ("first", "second"):
        cold.published()
        staged = cold.stage_files([cold.data_file(uri, "at_day", _DAY.date())], Stamp(window_id, "at", attempt))
        publish_window(cold, staged.snapshot_id)


def knock(jvm: Jvm) -> None:
    """Load the classes of the catalogs that a deployment has, and of their drivers, where nobody answers."""
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415 - comes with Spark

    for properties in (
        {"catalog-impl": "org.apache.iceberg.jdbc.JdbcCatalog", "uri": "jdbc:postgresql://127.0.0.1:1/none"},
        {"type": "rest", "uri": "http://127.0.0.1:1"},
    ):
        with suppress(Py4JJavaError):
            _load_catalog(jvm, {**properties, "warehouse": "file:///nowhere"})


def _load_catalog(jvm: Jvm, properties: dict[str, str]) -> Any:
    configuration = jvm.org.apache.hadoop.conf.Configuration()
    return jvm.org.apache.iceberg.CatalogUtil.buildIcebergCatalog("archive", java_map(jvm, properties), configuration)


def main() -> None:
    """Do all of it once."""
    jvm = start_jvm()
    with tempfile.TemporaryDirectory() as folder:
        publish_a_file(jvm, Path(folder))
    knock(jvm)


if __name__ == "__main__":
    main()
