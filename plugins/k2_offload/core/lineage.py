"""What tables are called in lineage, as other producers call them: OpenLineage's naming conventions.

A cold table is the folder that it lives in; its name in the catalog is another name of the same (a symlink).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from k2_offload.core.connections import authority

_BUCKETS = {"s3": "s3", "s3a": "s3", "s3n": "s3", "gs": "gs", "wasbs": "wasbs", "abfss": "abfss"}
"""Schemes whose first part is a bucket, and how it is written."""


@dataclass(frozen=True)
class DatasetName:
    """The name of a dataset, and of the system in which it is unique."""

    namespace: str
    name: str


def name_of_source(host: str, port: int, source: str) -> DatasetName:
    """A table of ClickHouse.

    :param port: of the native protocol
    :param source: ``database.table``
    """
    return DatasetName(f"clickhouse://{authority(host, port)}", source)


def name_of_location(location: str) -> DatasetName:
    """A folder.

    :param location: URI, or a path
    """
    parts = urlsplit(location)
    path = unquote(parts.path).rstrip("/")
    if parts.scheme in _BUCKETS:
        return DatasetName(f"{_BUCKETS[parts.scheme]}://{parts.netloc}", path.lstrip("/") or "/")
    if parts.scheme in ("", "file"):
        return DatasetName("file", path or "/")
    return DatasetName(f"{parts.scheme}://{parts.netloc}", path or "/")


def name_in_catalog(properties: Mapping[str, str], target: str) -> DatasetName | None:
    """A cold table as its catalog knows it: a REST catalog by its address, any other by its warehouse.

    :param properties: the catalog's, as pyiceberg wants them
    :param target: ``namespace.table``
    :returns: ``None`` if the catalog keeps its warehouse to itself
    """
    if properties.get("type") == "rest":
        address = urlsplit(properties["uri"])
        host = address.netloc.rpartition("@")[2]  # a password may stand before it
        return DatasetName(address._replace(netloc=host, query="", fragment="").geturl().rstrip("/"), target)
    if not (warehouse := properties.get("warehouse")):
        return None
    folder = name_of_location(warehouse)
    return DatasetName(f"{folder.namespace}{':' if folder.namespace == 'file' else '/'}{folder.name}", target)
