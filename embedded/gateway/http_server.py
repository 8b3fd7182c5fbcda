"""The HTTP interface: one thread per client connection."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import socket
import threading
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import chain
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

from embedded.gateway.authentication import USER
from embedded.gateway.engine import Query, Session
from embedded.gateway.errors import (
    NOT_IMPLEMENTED,
    SYNTAX_ERROR,
    UNKNOWN_EXCEPTION,
    UNKNOWN_FORMAT,
    GatewayError,
    gateway_error,
    http_status,
)
from embedded.gateway.http_body import Body, BodyError
from embedded.gateway.http_formats import DEFAULT_FORMAT, can_stream, content_type, has_header, header_length
from embedded.gateway.serving import GatewayServer, Outcome, cancelled_when, limit_sending, logged, next_byte
from embedded.gateway.sql import DataInsert, is_select, quote_string, split_insert, split_output

logger = logging.getLogger(__name__)

# Enough of the body to hold any statement (the engine's max_query_size is a quarter of it).
_HEAD_BYTES = 1 << 20
_PIECE_BYTES = 1 << 20
_MAX_SESSIONS = 1000

_NOT_SETTINGS = frozenset(
    {
        *("query", "database", "default_format", "query_id", "user", "password", "quota_key", "role", "stacktrace"),
        *("session_id", "session_timeout", "session_check", "session_timezone_check", "close_session"),
        *("compress", "decompress", "buffer_size", "wait_end_of_query", "client_protocol_version"),
    }
)


class HttpServer(GatewayServer, HTTPServer):
    """Listens for HTTP clients."""

    def __init__(self, *arguments: Any) -> None:
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._sessions_lock = threading.Lock()
        super().__init__(HttpConnection, *arguments)

    def session(self, session_id: str) -> Session:
        """The session of that name; the least recently used are forgotten beyond a thousand."""
        with self._sessions_lock:
            session = self._sessions.setdefault(session_id, Session())
            self._sessions.move_to_end(session_id)
            while len(self._sessions) > _MAX_SESSIONS:
                self._sessions.popitem(last=False)
            return session


class HttpConnection(BaseHTTPRequestHandler):
    """One client connection, with any number of requests."""

    protocol_version = "HTTP/1.1"
    server: HttpServer
    connection: socket.socket

    def setup(self) -> None:
        """Prepare the socket."""
        super().setup()
        limit_sending(self.connection, self.server.send_timeout_seconds)

    def handle(self) -> None:
        """Serve requests until the client leaves."""
        try:
            super().handle()
        except OSError:
            self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
        """Say nothing per request: queries are logged where they run."""

    def version_string(self) -> str:
        """The Server header."""
        return "ClickHouse (K2 gateway)"

    def do_HEAD(self) -> None:
        """Answer a probe."""
        self._send_text(200, "")

    def do_GET(self) -> None:
        """Run the query of the URL, or answer a probe."""
        path = urlsplit(self.path).path
        if path in ("/ping", "/replicas_status"):  # without the engine: these must not wait behind a query
            self._send_text(200, "Ok.\n")
        elif path == "/":
            self._serve_query()
        else:
            self._send_text(404, f"There is no handle {path}\n")

    def do_POST(self) -> None:
        """Run the query of the URL and the body."""
        self.do_GET()

    def _serve_query(self) -> None:
        try:
            body = Body(self.rfile, self.headers)
        except BodyError as error:
            self.close_connection = True
            self._send_text(400, f"{error}\n")
            return
        self.head_sent = False
        try:
            self._serve(body)
        except GatewayError as error:
            self._send_error(error, body)
        except (BodyError, EOFError) as error:
            logger.warning("http connection from %s closed: %s", self.client_address, error)
            self.close_connection = True
        except OSError:
            raise
        except Exception as error:
            logger.exception("http request from %s failed", self.client_address)
            self._send_error(gateway_error(UNKNOWN_EXCEPTION, f"The gateway failed: {error}."), body)

    def _serve(self, body: Body) -> None:
        parameters = dict(parse_qsl(urlsplit(self.path).query, keep_blank_values=True))
        self._authenticate(parameters)
        for name in ("compress", "decompress"):
            if parameters.get(name, "0") not in ("0", "false"):
                raise gateway_error(
                    NOT_IMPLEMENTED,
                    f"ClickHouse's own block compression is not offered: send {name}=0 (in a JDBC URL: ?compress=0).",
                )
        head = parameters.get("query", "")
        text = head + "\n" if head else ""
        insert = split_insert(text)
        if insert is None:
            # The statement, or its beginning, is in the body; surrogates keep bytes of data that are no text.
            text += body.read(_HEAD_BYTES).decode(errors="surrogateescape")
            insert = split_insert(text)
        query = self._query(text, parameters)
        if not text.strip():
            self._send_text(200, "Ok.\n")
            return
        with logged("http", query) as outcome:
            if insert is None:
                text += body.read_rest().decode(errors="surrogateescape")
                self._answer(replace(query, sql=_checked_text(text)), parameters, outcome)
            else:
                self._insert(query, insert, body)

    def _authenticate(self, parameters: dict[str, str]) -> None:
        user = self.headers.get("X-ClickHouse-User") or parameters.get("user")
        password = self.headers.get("X-ClickHouse-Key") or parameters.get("password")
        scheme, _, credentials = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "basic":
            try:
                basic_user, _, basic_password = base64.b64decode(credentials).decode().partition(":")
                user, password = user or basic_user, password or basic_password
            except (binascii.Error, UnicodeDecodeError):
                pass
        self.server.authentication.check(user or USER, password or "")

    def _query(self, sql: str, parameters: dict[str, str]) -> Query:
        session_id = parameters.get("session_id")
        session = self.server.session(session_id) if session_id else Session()
        if database := parameters.get("database") or self.headers.get("X-ClickHouse-Database"):
            session = replace(session, database=database)
        return Query(
            sql=sql,
            session=session,
            query_id=parameters.get("query_id") or self.headers.get("X-ClickHouse-Query-Id") or str(uuid.uuid4()),
            settings={
                name: value
                for name, value in parameters.items()
                if name not in _NOT_SETTINGS and not name.startswith("param_")
            },
            parameters={
                name.removeprefix("param_"): value for name, value in parameters.items() if name.startswith("param_")
            },
        )

    def _insert(self, query: Query, insert: DataInsert, body: Body) -> None:
        # Nothing reaches the table before the whole body has come: a client that goes away midway inserts nothing.
        with self.server.engine.spool_file() as path:
            with path.open("wb") as file:
                file.write(query.sql[insert.data_start :].encode(errors="surrogateescape"))
                while piece := body.read(_PIECE_BYTES):
                    file.write(piece)
            statement = _checked_text(insert.from_file(str(path)))
            with cancelled_when(self.server.engine, query, self._client_is_gone):
                written_rows = self.server.engine.execute(replace(query, sql=statement))
        self._begin(query, DEFAULT_FORMAT, written_rows, length=0)

    def _answer(self, query: Query, parameters: dict[str, str], outcome: Outcome) -> None:
        output = self.headers.get("X-ClickHouse-Format") or parameters.get("default_format") or DEFAULT_FORMAT
        body, rest = query.sql, ""
        format_names = self.server.engine.format_names
        clause = split_output(query.sql)
        if clause is not None and clause.format_name.lower() in format_names:
            output, body, rest = clause.format_name, clause.body, clause.rest
        if output.lower() not in format_names:
            raise gateway_error(UNKNOWN_FORMAT, f"Unknown format {output}.")
        output = format_names[output.lower()]
        with cancelled_when(self.server.engine, query, self._client_is_gone):
            if is_select(query.sql) and (not can_stream(output) or parameters.get("wait_end_of_query") == "1"):
                self._send_spooled(query, body, rest, output, outcome)
            else:
                self._send_streamed(replace(query, sql=body + rest), output, outcome)

    def _send_spooled(self, query: Query, body: str, rest: str, output: str, outcome: Outcome) -> None:
        engine = self.server.engine
        with engine.spool_file() as path:
            target = f"INTO OUTFILE {quote_string(str(path))} TRUNCATE COMPRESSION 'none'"
            engine.execute(replace(query, sql=f"{body}\n{target} FORMAT {output} {rest}"))
            self._begin(query, output, length=path.stat().st_size)
            with path.open("rb") as file:
                while piece := file.read(_PIECE_BYTES):
                    self.wfile.write(piece)
                    outcome.data_bytes += len(piece)

    def _send_streamed(self, query: Query, output: str, outcome: Outcome) -> None:
        with closing(self.server.engine.run(query, output)) as chunks:
            first = next(chunks, None)
            if first is None:
                # Only a query run as a whole tells what its format writes for no rows.
                first = self.server.engine.run_whole(query, output)
            self._begin(query, output, first.written_rows)
            header_bytes = 0
            for chunk in chain([first], chunks):
                self._send_piece(chunk.data[header_bytes:])
                outcome.add(chunk)
                if header_bytes == 0 and has_header(output):
                    header_bytes = header_length(output, chunk.data)
        self.wfile.write(b"0\r\n\r\n")

    def _send_piece(self, data: bytes) -> None:
        if data:
            self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _client_is_gone(self) -> bool:
        return next_byte(self.connection) == b""

    def _begin(self, query: Query, output: str, written_rows: int = 0, length: int | None = None) -> None:
        """Send the head of a successful answer, ``length`` bytes long or in pieces."""
        self.send_response(200)
        self.send_header("Content-Type", content_type(output))
        self.send_header("X-ClickHouse-Server-Display-Name", self.server.engine.host_name)
        self.send_header("X-ClickHouse-Query-Id", quote(query.query_id, safe=" "))
        self.send_header("X-ClickHouse-Format", output)
        self.send_header("X-ClickHouse-Timezone", self.server.engine.timezone)
        self.send_header("X-ClickHouse-Summary", json.dumps({"written_rows": str(written_rows)}))
        if length is None:
            self.send_header("Transfer-Encoding", "chunked")
        else:
            self.send_header("Content-Length", str(length))
        self.end_headers()
        self.head_sent = True

    def _send_error(self, error: GatewayError, body: Body) -> None:
        text = f"Code: {error.code}. {error.message} (version {self.server.engine.version} (official build))\n"
        if self.head_sent:
            # Too late for a status: the text goes where the rows went, and the answer is left without its end.
            self.close_connection = True
            self._send_piece(text.encode())
            return
        body.skip_rest()
        self._send_text(http_status(error.code), text, {"X-ClickHouse-Exception-Code": str(error.code)})

    def _send_text(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        data = text.encode(errors="replace")
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=UTF-8")
        self.send_header("X-ClickHouse-Server-Display-Name", self.server.engine.host_name)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def _checked_text(text: str) -> str:
    if any("\udc80" <= character <= "\udcff" for character in text):
        raise gateway_error(SYNTAX_ERROR, "The query is not valid UTF-8.")
    return text
