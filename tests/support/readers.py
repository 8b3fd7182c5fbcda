"""Readers of cold tables that others have written, each asked as its users ask it."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any

from k2_offload.core.lake import iceberg_table
from k2_offload.core.sql import quote
from tests.support.workbench import Workbench

Rows = list[dict[str, Any]]
Reader = Callable[[Workbench, str, Sequence[str]], Rows]
"""The columns of ``cold.TABLE``, as the reader shows them to Python."""


def _pyiceberg(workbench: Workbench, table: str, columns: Sequence[str]) -> Rows:
    return workbench.cold_table(table).scan(selected_fields=tuple(columns)).to_arrow().to_pylist()


def _polars(workbench: Workbench, table: str, columns: Sequence[str]) -> Rows:
    import polars as pl  # noqa: PLC0415 - of all tests, one asks for the readers

    os.environ.setdefault("POLARS_ICEBERG_PLANNER", "pyiceberg")  # what it takes anyway; it would warn
    return pl.scan_iceberg(workbench.cold_table(table)).select(columns).collect().to_dicts()


def connect_duckdb() -> Any:
    """DuckDB with its reader of Iceberg, which it would download otherwise."""
    import duckdb  # noqa: PLC0415
    import duckdb_extension_avro  # noqa: PLC0415
    import duckdb_extension_iceberg  # noqa: PLC0415

    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    for package in (duckdb_extension_avro, duckdb_extension_iceberg):
        [extension] = Path(package.__file__).parent.rglob("*.duckdb_extension")
        connection.load_extension(str(extension))
    return connection


def _duckdb(workbench: Workbench, table: str, columns: Sequence[str]) -> Rows:
    names = ", ".join(f'"{name}"' for name in columns)
    with closing(connect_duckdb()) as connection:
        source = f"iceberg_scan('{workbench.cold_table(table).metadata_location}')"
        return connection.execute(f"SELECT {names} FROM {source}").to_arrow_table().to_pylist()


def _datafusion(workbench: Workbench, table: str, columns: Sequence[str]) -> Rows:
    import datafusion  # noqa: PLC0415

    context = datafusion.SessionContext()
    context.register_table("cold", workbench.cold_table(table))
    names = ", ".join(f'"{name}"' for name in columns)
    return context.sql(f"SELECT {names} FROM cold").to_arrow_table().to_pylist()


def _spark(workbench: Workbench, table: str, columns: Sequence[str]) -> Rows:
    names = ", ".join(map(quote, columns))
    rows = workbench.spark.ask("sql", f"SELECT {names} FROM {workbench.cold_catalog.name}.cold.{table}")
    return [dict(zip(columns, map(_aware, row), strict=True)) for row in rows]


def _aware(value: object) -> object:
    return value.astimezone(UTC) if isinstance(value, datetime) else value  # Spark's are of this machine's zone


def _clickhouse(workbench: Workbench, table: str, columns: Sequence[str]) -> Rows:
    cold = workbench.cold_table(table)
    expressions = {name: name for name in columns}
    for field in cold.schema().fields:
        if field.name in columns and str(field.field_type) == "timestamptz":
            expressions[field.name] = f"toUnixTimestamp64Micro({field.name})"  # the driver makes floats of times
    return clickhouse_rows(workbench, iceberg_table(cold.location(), cold.metadata_location, ""), expressions)


def clickhouse_rows(workbench: Workbench, source: str, expressions: Mapping[str, str]) -> Rows:
    """Rows of a table or table function of ClickHouse; every String as bytes.

    :param expressions: what to show, by name
    """
    selected = ", ".join(expressions.values())
    with workbench.stack.clickhouse_client(settings={"strings_as_bytes": True}) as client:
        return [dict(zip(expressions, row, strict=True)) for row in client.execute(f"SELECT {selected} FROM {source}")]


READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "pyiceberg": _pyiceberg,
        "Polars": _polars,
        "DuckDB": _duckdb,
        "DataFusion": _datafusion,
        "Spark": _spark,
        "ClickHouse": _clickhouse,
    }
)
"""By the name in docs/compatibility.md."""
