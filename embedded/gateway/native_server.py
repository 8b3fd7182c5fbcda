"""The native protocol's server: one thread per client connection."""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import uuid
from contextlib import AbstractContextManager, closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from embedded.gateway import native_protocol as protocol
from embedded.gateway.engine import Chunk, Query, Session
from embedded.gateway.errors import (
    NOT_IMPLEMENTED,
    UNEXPECTED_PACKET_FROM_CLIENT,
    UNKNOWN_EXCEPTION,
    GatewayError,
    gateway_error,
)
from embedded.gateway.native_columns import RecordingReader, check_type, read_blocks
from embedded.gateway.serving import (
    GatewayServer,
    Outcome,
    cancelled_when,
    describe,
    describe_insert,
    limit_sending,
    logged,
    next_byte,
)
from embedded.gateway.sql import DataInsert, is_select, split_insert, split_output

logger = logging.getLogger(__name__)

_READ_BUFFER_BYTES = 1 << 18


class NativeServer(GatewayServer):
    """Listens for native-protocol clients."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(NativeConnection, *arguments)


class NativeConnection(socketserver.BaseRequestHandler):
    """One client, from its Hello until it leaves or sends something that is no packet."""

    server: NativeServer
    request: socket.socket

    def setup(self) -> None:
        """Prepare the socket and its reader."""
        limit_sending(self.request, self.server.send_timeout_seconds)
        self.reader = RecordingReader(self.request, _READ_BUFFER_BYTES)
        self.session = Session()

    def handle(self) -> None:
        """Serve packets until the connection ends; whatever is wrong with it is the end of this connection only."""
        try:
            if self._greet():
                while self._serve_packet():
                    pass
        except (EOFError, OSError):
            pass
        except protocol.ProtocolError as error:
            logger.warning("native connection from %s closed: %s", self.client_address, error)
            self._try_to_send(gateway_error(UNEXPECTED_PACKET_FROM_CLIENT, f"Unexpected packet from client: {error}."))
        except Exception as error:
            logger.exception("native connection from %s closed", self.client_address)
            self._try_to_send(gateway_error(UNKNOWN_EXCEPTION, f"The gateway failed: {error}."))

    def _try_to_send(self, error: GatewayError) -> None:
        with suppress(OSError):
            self.request.sendall(protocol.exception_packet(error))

    def _greet(self) -> bool:
        packet_type = protocol.read_packet_type(self.reader)
        if packet_type != protocol.HELLO:
            raise protocol.ProtocolError(f"packet {packet_type} before Hello")
        hello = protocol.read_hello(self.reader)
        if hello.revision < protocol.REVISION:
            raise protocol.ProtocolError(f"client revision {hello.revision} is older than {protocol.REVISION}")
        try:
            self.server.authentication.check(hello.user, hello.password)
        except GatewayError as error:
            self._try_to_send(error)
            return False
        self.session.database = hello.database or self.session.database
        engine = self.server.engine
        self.request.sendall(protocol.hello_packet(engine.version, engine.timezone, engine.host_name))
        return True

    def _serve_packet(self) -> bool:
        packet_type = protocol.read_packet_type(self.reader)
        if packet_type == protocol.PING:
            self.request.sendall(protocol.pong_packet())
        elif packet_type == protocol.QUERY:
            return self._serve_query(protocol.read_query(self.reader))
        elif packet_type != protocol.CANCEL:  # a Cancel that comes after the end of its query
            raise protocol.ProtocolError(f"packet {packet_type} where Query or Ping was expected")
        return True

    def _serve_query(self, packet: protocol.QueryPacket) -> bool:
        query = Query(
            sql=packet.sql,
            session=self.session,
            query_id=packet.query_id or str(uuid.uuid4()),
            settings={
                name: setting.value
                for name, setting in packet.settings.items()
                if setting.important or name in self.server.engine.setting_names
            },
        )
        try:
            with logged("native", query) as outcome:
                if packet.compressed:
                    raise gateway_error(NOT_IMPLEMENTED, "Compression is not offered: connect with compression=False.")
                self._refuse_external_tables()
                insert = split_insert(query.sql)
                if insert is None:
                    self._answer(query, outcome)
                elif query.sql[insert.data_start :].strip():
                    self._insert_inline(query, insert)
                else:
                    self._insert_blocks(query, insert)
        except GatewayError as error:
            if not query.cancelled.is_set():
                self.request.sendall(protocol.exception_packet(error))
                return not packet.compressed  # the blocks that follow could not be read
        self.request.sendall(protocol.end_of_stream_packet())
        return True

    def _watched(self, query: Query) -> AbstractContextManager[None]:
        return cancelled_when(self.server.engine, query, self._wants_to_stop)

    def _wants_to_stop(self) -> bool:
        return next_byte(self.request) in (b"", bytes([protocol.CANCEL]))

    def _refuse_external_tables(self) -> None:
        with Path(os.devnull).open("wb") as nowhere:
            is_first = True
            while not protocol.read_data_packet(self.reader, nowhere).ends_the_data:
                is_first = False
        if not is_first:
            raise gateway_error(NOT_IMPLEMENTED, "External tables are not offered: join with a table instead.")

    def _answer(self, query: Query, outcome: Outcome) -> None:
        engine = self.server.engine
        clause = split_output(query.sql)
        if clause is not None and clause.format_name.lower() in engine.format_names:
            query = replace(query, sql=clause.body + clause.rest)  # here results are always blocks
        with self._watched(query):
            if is_select(query.sql):
                self._stream(query, outcome)
            else:
                self._send_whole(engine.run_whole(query, "Native"), outcome)
        self.request.sendall(protocol.progress_packet(outcome.rows, outcome.data_bytes))

    def _stream(self, query: Query, outcome: Outcome) -> None:
        with closing(self.server.engine.run(query, "Native")) as chunks:
            for chunk in chunks:
                if outcome.data_bytes == 0:
                    self._send_header(_columns_of(chunk.data))
                self.request.sendall(protocol.data_packet(chunk.data))
                outcome.add(chunk)
        if outcome.data_bytes == 0:
            self._send_header(describe(self.server.engine, query, query.sql))

    def _send_whole(self, result: Chunk, outcome: Outcome) -> None:
        for columns, block in read_blocks(result.data):
            if outcome.data_bytes == 0:
                self._send_header(columns)
            self.request.sendall(protocol.data_packet(block))
            outcome.data_bytes += len(block)
        outcome.rows += result.rows

    def _send_header(self, columns: list[tuple[str, str]]) -> None:
        """Send the block without rows that goes before the rows: clients take names and types from it."""
        self.request.sendall(protocol.data_packet(protocol.header_block(columns)))

    def _insert_inline(self, query: Query, insert: DataInsert) -> None:
        with self.server.engine.spool_file() as path, self._watched(query):
            path.write_text(query.sql[insert.data_start :])
            self.server.engine.execute(replace(query, sql=insert.from_file(str(path))))

    def _insert_blocks(self, query: Query, insert: DataInsert) -> None:
        engine = self.server.engine
        columns = describe_insert(engine, query, insert)
        for _, type_name in columns:
            check_type(type_name)
        self._send_header(columns)
        # Nothing reaches the table before the last block has come: a client that goes away midway inserts nothing.
        with engine.spool_file() as path:
            row_count = 0
            with path.open("wb") as file:
                while not (block := protocol.read_data_packet(self.reader, file)).ends_the_data:
                    row_count += block.row_count
            if row_count:
                native = replace(insert, input_format="Native")
                with self._watched(query):
                    engine.execute(replace(query, sql=native.from_file(str(path))))


def _columns_of(block: bytes) -> list[tuple[str, str]]:
    try:
        return next(read_blocks(block))[0]
    except GatewayError:
        return []  # a type of unknown extent; the block itself names its columns too
