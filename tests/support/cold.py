"""The cold tier as another program sees it: through pyiceberg alone."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager

from pyiceberg.catalog import Catalog, load_catalog
from pyiceberg.table import Table

from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings


@contextmanager
def cold_catalog() -> Iterator[Catalog]:
    """The Iceberg catalog that the settings of the moment lead to; closed at the end."""
    settings = connections.catalog_settings(load_settings())
    with closing(load_catalog(settings.name, **settings.pyiceberg)) as catalog:
        yield catalog


def load_cold_table(table: str) -> Table:
    """``cold.TABLE`` as it is now, to look at; its catalog is closed."""
    with cold_catalog() as catalog:
        return catalog.load_table(f"cold.{table}")


def cold_rows(table: str) -> Counter:
    """The rows of ``cold.TABLE`` as a multiset, in Python's exact types."""
    return Counter(tuple(row.values()) for row in load_cold_table(table).scan().to_arrow().to_pylist())
