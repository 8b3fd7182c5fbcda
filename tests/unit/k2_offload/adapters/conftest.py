"""A catalog that lives in this process, its files in a folder (the real pyiceberg), and a ClickHouse that answers."""

from __future__ import annotations

from contextlib import closing

import clickhouse_driver
import pytest
from pyiceberg.catalog import load_catalog

from k2_offload.adapters.clickhouse import ClickHouse
from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.core.connections import CatalogSettings
from tests.unit.k2_offload.adapters.driver import ENDPOINT, Client


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


@pytest.fixture
def answering(monkeypatch):
    """A ClickHouse whose driver answers with rows, or with an error."""

    def connect(answer):
        monkeypatch.setattr(clickhouse_driver, "Client", lambda **_: Client(answer))
        return ClickHouse(ENDPOINT)

    return connect
