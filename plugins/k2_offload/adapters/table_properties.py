"""The Iceberg properties of cold tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

from k2_offload.core.tables import TableSpec
from k2_offload.core.transports import TRANSPORTS

if TYPE_CHECKING:
    from pyiceberg.schema import Schema

DELTA_ENCODINGS = {"write.parquet.page-version": "v2"}
"""For what Iceberg's own writers write, compaction above all: differences instead of values for what is nearly unique,
such as times and trade ids, whose dictionary is as large as they are. Spark reads no boolean from such a page."""

_NEEDED = {
    # Also where no transport needs it today: a writer that stages by wap.id would otherwise publish at once.
    "write.wap.enabled": "true",
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "100",
}
_CHOSEN = {
    "format-version": "2",
    "write.parquet.compression-codec": "zstd",
    "write.parquet.compression-level": "3",
    "write.parquet.dict-size-bytes": "65536",
}


def of_new_table(table: TableSpec, schema: Schema) -> dict[str, str]:
    """Those of a cold table that is made."""
    has_boolean = any(str(field.field_type) == "boolean" for field in schema.fields)
    return {
        **_CHOSEN,
        **_NEEDED,
        **({} if has_boolean else DELTA_ENCODINGS),
        **_name_mapping(schema),
        **TRANSPORTS[table.transport].table_properties,
    }


def missing(table: TableSpec, schema: Schema, present: dict[str, str]) -> dict[str, str]:
    """Those that a table of another system lacks; what it says otherwise of its own files stays."""
    wanted = {**_NEEDED, **_name_mapping(schema)}
    added = {key: value for key, value in wanted.items() if key not in present}
    return added | dict(TRANSPORTS[table.transport].table_properties)


def _name_mapping(schema: Schema) -> dict[str, str]:
    from pyiceberg.table.name_mapping import create_mapping_from_schema  # noqa: PLC0415

    # ClickHouse writes no field ids into its Parquet files; readers find the columns by this mapping.
    return {"schema.name-mapping.default": create_mapping_from_schema(schema).model_dump_json()}
