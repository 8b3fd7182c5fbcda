"""Many rows in and out while the gateway's memory stays as it was."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from urllib.parse import urlencode

from .conftest import Gateway

ROWS = 5_000_000
ROW_BYTES = 440
ALLOWED_GROWTH_BYTES = 1 << 30  # half of the data; blocks in flight and merges need some memory


class _Peak:
    """The gateway's highest memory use while the body of a ``with`` runs."""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway, self.bytes, self._done = gateway, 0, threading.Event()

    def __enter__(self) -> _Peak:
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._done.wait(0.1):
            self.bytes = max(self.bytes, self.gateway.rss_bytes())


def _pieces(row: bytes, rows_per_piece: int = 50_000) -> Iterator[bytes]:
    for _ in range(ROWS // rows_per_piece):
        yield row * rows_per_piece


def test_five_million_rows_in_and_out_in_flat_memory(gateway: Gateway, database: str) -> None:
    gateway.query("CREATE TABLE t (a String) ENGINE = MergeTree ORDER BY tuple()", database=database)
    before = gateway.rss_bytes()
    with _Peak(gateway) as peak:
        path = "/?" + urlencode({"database": database, "query": "INSERT INTO t FORMAT TSV"})
        assert gateway.request("POST", path, _pieces(b"x" * ROW_BYTES + b"\n"))[0] == 200
    assert peak.bytes - before < ALLOWED_GROWTH_BYTES

    assert gateway.query("SELECT count(), sum(length(a)) FROM t", database=database) == f"{ROWS}\t{ROWS * ROW_BYTES}\n"
    with _Peak(gateway) as peak:
        for output_format in ("RowBinaryWithNamesAndTypes", "JSONCompact", "TSV"):
            connection = http.client.HTTPConnection("127.0.0.1", gateway.http_port, timeout=60)
            connection.request("POST", f"/?database={database}", f"SELECT * FROM t FORMAT {output_format}")
            response, length = connection.getresponse(), 0
            while piece := response.read(1 << 20):
                length += len(piece)
            connection.close()
    assert length == ROWS * (ROW_BYTES + 1)
    assert peak.bytes - before < ALLOWED_GROWTH_BYTES

    with _Peak(gateway) as peak:
        rows = gateway.client(database=database).execute_iter("SELECT a FROM t LIMIT 1000000", chunk_size=65536)
        assert sum(len(chunk) for chunk in rows) == 1_000_000
    assert peak.bytes - before < ALLOWED_GROWTH_BYTES
