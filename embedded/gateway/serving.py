"""What both protocols do with a query around the engine: watch the client, log one line, describe columns."""

from __future__ import annotations

import json
import logging
import socket
import socketserver
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

from embedded.gateway.authentication import Authentication
from embedded.gateway.engine import Chunk, Engine, Query
from embedded.gateway.errors import QUERY_WAS_CANCELLED, GatewayError
from embedded.gateway.sql import DataInsert, keyword

logger = logging.getLogger(__name__)

_WATCH_SECONDS = 0.1


@dataclass
class Outcome:
    """What a query gave its client, for the log."""

    rows: int = 0
    data_bytes: int = 0

    def add(self, chunk: Chunk) -> None:
        """Count a piece that was sent."""
        self.rows += chunk.rows
        self.data_bytes += len(chunk.data)


class GatewayServer(socketserver.ThreadingTCPServer):
    """A server that knows its clients and can send them away.

    :param connection: serves one of them
    :param send_timeout_seconds: a client that takes none of its result for so long loses its connection.
    """

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        connection: type[socketserver.BaseRequestHandler],
        address: tuple[str, int],
        engine: Engine,
        authentication: Authentication,
        send_timeout_seconds: int,
    ) -> None:
        self.engine = engine
        self.authentication = authentication
        self.send_timeout_seconds = send_timeout_seconds
        self._clients: set[socket.socket] = set()
        super().__init__(address, connection)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Remember the client and serve it."""
        self._clients.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Forget the client, which has been served."""
        self._clients.discard(request)
        super().shutdown_request(request)

    def disconnect_clients(self) -> None:
        """End all connections, so that no thread waits for a client any more."""
        for client in list(self._clients):
            with suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


def limit_sending(connection: socket.socket, timeout_seconds: int) -> None:
    """Let a write fail when the client has taken nothing for ``timeout_seconds``; reading may wait for ever.

    That bounds how long a client that stalls while reading holds its query (and, where queries take turns, the
    engine). Spooling results to disk instead would let a forgotten ``SELECT`` of a big table fill the disk.
    """
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", timeout_seconds, 0))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


@contextmanager
def cancelled_when(engine: Engine, query: Query, wants_to_stop: Callable[[], bool]) -> Iterator[None]:
    """While the body runs, ask ``wants_to_stop`` several times a second, and cancel the query once it says so."""
    done = threading.Event()

    def watch() -> None:
        while not done.wait(_WATCH_SECONDS):
            if wants_to_stop():
                engine.cancel(query)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def next_byte(connection: socket.socket) -> bytes | None:
    """The next byte the client has sent, left unread; ``None`` when there is none yet, empty when it has gone away."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return None
    except OSError:
        return b""


@contextmanager
def logged(protocol: str, query: Query) -> Iterator[Outcome]:
    """Log one line when the query has ended: never its text, which may hold rows or passwords."""
    started, outcome, code = time.monotonic(), Outcome(), 0
    try:
        yield outcome
    except GatewayError as error:
        code = error.code
        raise
    except OSError:
        code = QUERY_WAS_CANCELLED
        raise
    finally:
        logger.info(
            "%s %s id=%s database=%s ms=%.0f rows=%d bytes=%d code=%d",
            protocol,
            keyword(query.sql)[:20],
            query.query_id,
            query.session.database,
            (time.monotonic() - started) * 1000,
            outcome.rows,
            outcome.data_bytes,
            code,
        )


def describe(engine: Engine, query: Query, select: str) -> list[tuple[str, str]]:
    """Names and types of the columns that ``select`` gives, without running it."""
    description = replace(query, sql=f"DESCRIBE TABLE ({select}\n)")
    lines = b"".join(chunk.data for chunk in engine.run(description, "JSONCompactEachRow")).splitlines()
    return [(str(row[0]), str(row[1])) for row in map(json.loads, lines)]


def describe_insert(engine: Engine, query: Query, insert: DataInsert) -> list[tuple[str, str]]:
    """Names and types of the columns an INSERT expects."""
    return describe(engine, query, f"SELECT {insert.columns} FROM {insert.target}")  # noqa: S608 - the client's SQL
