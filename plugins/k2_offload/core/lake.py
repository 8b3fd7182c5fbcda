"""How ClickHouse reaches the lake's storage: table functions for one Parquet file and for one Iceberg table."""

from __future__ import annotations

from posixpath import relpath
from urllib.parse import quote, unquote, urlparse

from k2_offload.core.errors import ConfigurationError
from k2_offload.core.sql import literal


def parquet_file(uri: str, lake_collection: str) -> str:
    """A table function that writes one Parquet file.

    :param uri: where the file will be
    :param lake_collection: named collection for object stores
    :raises ConfigurationError: for a storage that ClickHouse cannot write
    """
    parts = urlparse(uri)
    if parts.scheme in ("", "file"):
        return f"file({literal(unquote(parts.path))}, 'Parquet')"
    if parts.scheme in ("s3", "s3a"):
        return f"s3({lake_collection}, filename = {literal(_encoded(parts.path))}, format = 'Parquet')"
    raise ConfigurationError(
        f"ClickHouse cannot export to {parts.scheme}://; use a file or s3 warehouse, or 'transport: jdbc'"
    )


def iceberg_table(location: str, metadata_location: str, lake_collection: str) -> str:
    """A table function that reads an Iceberg table as one metadata file describes it.

    :param location: URI of the table's folder
    :param metadata_location: URI of the metadata file the catalog calls current, below that folder; without it
        ClickHouse would take the newest file, also one whose commit the catalog refused
    :param lake_collection: named collection for object stores
    :raises ConfigurationError: for a storage that ClickHouse cannot read
    """
    table, metadata = urlparse(location), urlparse(metadata_location)
    if table.scheme in ("", "file"):
        folder = unquote(table.path)
        return f"icebergLocal({literal(folder)}, {_pinned(unquote(metadata.path), folder)})"
    if table.scheme in ("s3", "s3a"):
        filename = literal(_encoded(table.path))
        return f"icebergS3({lake_collection}, filename = {filename}, {_pinned(metadata.path, table.path)})"
    raise ConfigurationError(f"ClickHouse cannot read {table.scheme}://, so the two tiers cannot be compared there")


def _encoded(path: str) -> str:
    """An object's key as ClickHouse wants it, as in an URL; Iceberg's libraries take what stands there as it is.

    Braces stay: a file's name may hold a placeholder, see :func:`k2_offload.core.sql.placeholder`.
    """
    return quote(path.lstrip("/"), safe="/={}")


def _pinned(metadata: str, folder: str) -> str:
    return f"SETTINGS iceberg_metadata_file_path = {literal(relpath(metadata, folder))}"
