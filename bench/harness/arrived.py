"""Cold tables that a benchmark has filled: what arrived, and away with it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing

from pyiceberg.catalog import load_catalog
from pyiceberg.manifest import DataFile

from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings


def take_out(target: str) -> Sequence[DataFile]:
    """Drop a cold table with its files.

    :param target: ``namespace.table``
    :returns: the data files it had
    """
    settings = connections.catalog_settings(load_settings())
    with closing(load_catalog(settings.name, **settings.pyiceberg)) as catalog:
        table = catalog.load_table(target)
        files = [task.file for task in table.scan().plan_files()]
        catalog.drop_table(target)
    shutil.rmtree(table.location().removeprefix("file://"))
    return files
