"""A REST catalog that accepts connections and stays silent is given up."""

from __future__ import annotations

import logging
import socket
import time

import pytest

from k2_offload.adapters import rest_catalog
from k2_offload.adapters.cold_catalog import ColdCatalog
from k2_offload.core.connections import ConnectionFields, read_catalog
from k2_offload.core.errors import Unreachable


@pytest.fixture
def silent():
    """A port that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.mark.parametrize("login", [None, "offload"], ids=["without a token", "with a token"])
def test_a_silent_rest_catalog_is_given_up(silent, monkeypatch, caplog, login):
    monkeypatch.setattr(rest_catalog, "CATALOG_SECONDS", 0.3)
    fields = ConnectionFields("k2_iceberg", f"http://127.0.0.1:{silent}", None, login, login, None, {})
    started = time.monotonic()
    with pytest.raises(Unreachable, match=r"'k2_iceberg'.*timed out"):
        ColdCatalog(read_catalog(fields)).ping()
    assert time.monotonic() - started < 10
    logging.getLogger("urllib3.connectionpool").warning("Retrying (Retry(total=2))")
    assert "Retrying" not in caplog.text, "the error says it once, and better"
