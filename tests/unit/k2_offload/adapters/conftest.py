"""A catalog that lives in this process, and its files in a folder: the real pyiceberg."""

from __future__ import annotations

from contextlib import closing

import pytest
from pyiceberg.catalog import load_catalog

from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.core.connections import CatalogSettings


@pytest.fixture
def lake(tmp_path, monkeypatch):
    """pyiceberg's own catalog for tests, which every connection of this test shares."""
    shared = load_catalog("test", type="in-memory", warehouse=tmp_path.as_uri())
    monkeypatch.setattr("pyiceberg.catalog.load_catalog", lambda *_, **__: shared)
    return shared


@pytest.fixture
def catalog(lake):  # noqa: ARG001 - connects to it
    with closing(ColdCatalog(CatalogSettings("lake", "test", {}, {}))) as catalog:
        yield catalog
