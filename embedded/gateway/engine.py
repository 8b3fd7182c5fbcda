"""The ClickHouse engine in this process (chDB): one data path, many clients.

Every query runs on a clean session: the client's database, its own ``SET`` statements, then the settings and parameters
sent with the query, and none of it survives the query. chDB 4 (ClickHouse 26.x) keeps a session per connection, so each
query gets a connection of its own (about a millisecond), queries run in parallel, and ``KILL QUERY`` stops them. Older
chDB has one session for the whole process: there queries take turns, what a query has changed is set back after it, and
a cancelled query stops at its next block.
"""

from __future__ import annotations

import logging
import shutil
import tempfile
import threading
from collections.abc import Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chdb.state.sqlitelike import Connection

from embedded.gateway.errors import (
    BAD_ARGUMENTS,
    QUERY_WAS_CANCELLED,
    SETTING_CONSTRAINT_VIOLATION,
    SYNTAX_ERROR,
    from_engine,
    gateway_error,
)
from embedded.gateway.sql import (
    is_select,
    keyword,
    quote_identifier,
    quote_string,
    set_statement,
    single_statement,
    tokens,
)

logger = logging.getLogger(__name__)

# What every query starts from, and a client's own settings override.
_BASE_SETTINGS = {
    "implicit_select": "0",  # chDB would run "1 + 1" as a query; a server does not
    "storage_file_read_method": "pread",  # chDB would map files, which count as its memory
    "max_partitions_per_insert_block": "0",  # of days; as docker/clickhouse/k2_users.xml
    "min_insert_block_size_bytes": str(32 << 20),  # a server's 256 MiB take three times the memory, and longer
}
# Settings that forbid changing settings: on a session that all clients share they could never be set back.
_ONE_WAY_SETTINGS = frozenset({"readonly", "allow_ddl"})
_POLL_SECONDS = 0.1
_FIRST_PARALLEL_VERSION = 26


@dataclass
class Session:
    """What a client's connection remembers between its queries.

    :ivar database: the current database; a ``USE`` statement changes it.
    :ivar statements: the client's own ``SET`` statements, replayed before each of its queries.
    """

    database: str = "default"
    statements: list[str] = field(default_factory=list)


@dataclass(eq=False)
class Query:
    """One statement on its way through the engine.

    :ivar query_id: names the query in the log and, as ``log_comment``, in ``system.processes``.
    :ivar settings: by name, values as text; they apply to this query only.
    :ivar parameters: values of ``{name:Type}`` placeholders, escaped as in TSV.
    """

    sql: str
    session: Session
    query_id: str
    settings: Mapping[str, str] = field(default_factory=dict)
    parameters: Mapping[str, str] = field(default_factory=dict)
    cancelled: threading.Event = field(default_factory=threading.Event)

    @property
    def comment(self) -> str:
        """The query's ``log_comment`` inside the engine: the client's own, if any, and the query id."""
        return " ".join(filter(None, (self.settings.get("log_comment"), self.query_id)))


@dataclass(frozen=True)
class Chunk:
    """A piece of a result in the format asked for: with ``Native``, one block when the query is streamed.

    :ivar written_rows: rows the statement has inserted; always 0 on ClickHouse 25.8, which does not tell.
    """

    data: bytes
    rows: int
    written_rows: int = 0


class Engine:
    """The engine and its data path; every method may be called from any thread.

    :param data_path: folder of the engine's data, created when missing. One process at a time can use it.
    :param config_file: ClickHouse's configuration (XML), if there is any
    :raises GatewayError: when the engine cannot open the data path, for example because another process uses it.
    """

    def __init__(self, data_path: Path, config_file: Path | None = None) -> None:
        if "?" in f"{data_path}{config_file}":
            raise gateway_error(BAD_ARGUMENTS, "The engine takes what follows a question mark in a path for options.")
        data_path.mkdir(parents=True, exist_ok=True)
        self._spool = data_path / "gateway_spool"
        self._address = str(data_path.resolve()) + (f"?config-file={config_file.resolve()}" if config_file else "")
        self._main = self._connect()
        # What a crashed predecessor spooled; only now is it certain that no other process is using the data path.
        shutil.rmtree(self._spool, ignore_errors=True)
        self._spool.mkdir()
        self._turn = threading.Lock()
        self._running: set[Query] = set()
        self._closing = False

        self.version, self.timezone, self.host_name = self._row("SELECT version(), timezone(), hostName()")
        self.queries_run_in_parallel = int(self.version.split(".")[0]) >= _FIRST_PARALLEL_VERSION
        self.setting_names = frozenset(self._column("SELECT name FROM system.settings"))
        self.format_names = {name.lower(): name for name in self._column("SELECT name FROM system.formats")}
        self._initial_settings = self._changed_settings()

    def _connect(self) -> Any:
        try:
            return Connection(self._address)
        except RuntimeError as error:
            raise from_engine(error) from None

    def _column(self, sql: str) -> list[str]:
        return bytes(self._main.query(sql, "TSVRaw").bytes()).decode().removesuffix("\n").split("\n")

    def _row(self, sql: str) -> list[str]:
        return self._column(sql)[0].split("\t")

    def _changed_settings(self) -> dict[str, str]:
        rows = self._column("SELECT name, value FROM system.settings WHERE changed FORMAT TSV")
        return dict(row.split("\t", 1) for row in rows)

    @contextmanager
    def spool_file(self) -> Iterator[Path]:
        """The path of a new empty file below the data path, for rows too many to hold in memory; removed afterwards."""
        with tempfile.NamedTemporaryFile(dir=self._spool) as file:
            yield Path(file.name)

    def run(self, query: Query, output_format: str) -> Generator[Chunk, None, None]:
        """Run one statement; the result comes in pieces while the engine is working, nothing is held in memory.

        A streamed result repeats the format's header in each piece, so only formats without header, or a caller that
        strips it, may ask for more than one. Closing the iterator early cancels the query.

        :raises GatewayError: what the engine says, or code 394 when ``query.cancelled`` was set.
        """
        return self._run(query, output_format, stream=True)

    def _run(self, query: Query, output_format: str, *, stream: bool) -> Generator[Chunk, None, None]:
        statement = single_statement(query.sql)
        if statement is None:
            raise gateway_error(SYNTAX_ERROR, "Syntax error: Multi-statements are not allowed.")
        kind = keyword(statement)
        self._check_one_way_settings(query, kind)
        with self._connection(query) as connection:
            try:
                connection.query(self._preparation(query))
                if query.cancelled.is_set():
                    raise _cancelled()
                if stream and is_select(statement):
                    yield from self._stream(connection, statement, output_format, query)
                else:
                    result = connection.query(statement, output_format)
                    self._remember(connection, query.session, kind, statement)
                    written_rows = result.rows_written() if self.queries_run_in_parallel else 0
                    yield Chunk(bytes(result.bytes()), result.rows_read(), written_rows)
            except RuntimeError as error:
                raise from_engine(error) from None

    def run_whole(self, query: Query, output_format: str) -> Chunk:
        """Run one statement and give its whole result, one document in the format asked for.

        :raises GatewayError: as :meth:`run`.
        """
        with closing(self._run(query, output_format, stream=False)) as chunks:
            return next(chunks)

    def execute(self, query: Query) -> int:
        """Run a statement whose result nobody needs; the number of rows written, as far as the engine tells it.

        :raises GatewayError: as :meth:`run`.
        """
        return self.run_whole(query, "Null").written_rows

    def _check_one_way_settings(self, query: Query, kind: str) -> None:
        if self.queries_run_in_parallel:
            return
        named = {name.lower() for name in query.settings}
        if kind == "SET":
            named |= {token.text.strip('`"').lower() for token in tokens(query.sql)}
        for name in sorted(named & _ONE_WAY_SETTINGS):
            raise gateway_error(
                SETTING_CONSTRAINT_VIOLATION,
                f"Setting {name} cannot be set on ClickHouse {self.version} here: all clients share one session, "
                "and it could not be set back. Leave it out, or use the embedded ClickHouse 26.9.",
            )

    def _preparation(self, query: Query) -> str:
        parameters = {f"param_{name}": value for name, value in query.parameters.items()}
        settings = _BASE_SETTINGS | dict(query.settings) | {"log_comment": query.comment}
        statements = [f"USE {quote_identifier(query.session.database)}", *query.session.statements]
        return ";\n".join([*statements, *(set_statement(values) for values in (parameters, settings) if values)])

    def _stream(
        self, connection: Any, statement: str, output_format: str, query: Query
    ) -> Generator[Chunk, None, None]:
        stream = connection.send_query(statement, output_format)
        try:
            for piece in stream:
                if query.cancelled.is_set():
                    raise _cancelled()
                yield Chunk(bytes(piece.bytes()), piece.rows_read())
        finally:
            stream.cancel()

    def _remember(self, connection: Any, session: Session, kind: str, statement: str) -> None:
        if kind == "USE":
            session.database = (
                bytes(connection.query("SELECT currentDatabase()", "TSVRaw").bytes()).decode().rstrip("\n")
            )
        elif kind == "SET":
            session.statements.append(statement)

    @contextmanager
    def _connection(self, query: Query) -> Iterator[Any]:
        if self._closing:
            raise gateway_error(QUERY_WAS_CANCELLED, "The gateway is stopping.")
        self._running.add(query)
        try:
            with (
                self._own_connection() if self.queries_run_in_parallel else self._shared_connection(query) as connection
            ):
                yield connection
        finally:
            self._running.discard(query)

    @contextmanager
    def _own_connection(self) -> Iterator[Any]:
        connection = self._connect()
        try:
            yield connection
        finally:
            connection.close()

    @contextmanager
    def _shared_connection(self, query: Query) -> Iterator[Any]:
        while not self._turn.acquire(timeout=_POLL_SECONDS):
            if query.cancelled.is_set():
                raise _cancelled()
        try:
            yield self._main
        finally:
            try:
                self._main.query(self._reset_statement())
            finally:
                self._turn.release()

    def _reset_statement(self) -> str:
        changed = self._changed_settings()
        back_to_default = [
            f"{quote_identifier(name)} = DEFAULT" for name in changed.keys() - self._initial_settings.keys()
        ]
        back_to_initial = [
            f"{quote_identifier(name)} = {quote_string(value)}" for name, value in self._initial_settings.items()
        ]
        return "USE default; SET " + ", ".join(back_to_default + back_to_initial)

    def cancel(self, query: Query) -> None:
        """Ask the engine to stop ``query``; harmless when it has ended, and safe to repeat."""
        query.cancelled.set()
        if self.queries_run_in_parallel:
            # The engine gives queries ids of its own and tells them to nobody: find ours by its comment.
            self._main.query(f"KILL QUERY WHERE Settings['log_comment'] = {quote_string(query.comment)} ASYNC")

    def close(self, patience_seconds: float = 10.0) -> None:
        """Cancel what is running, wait for it, then stop background work and release the data path."""
        self._closing = True
        waited_seconds = 0.0
        while self._running and waited_seconds < patience_seconds:
            for query in list(self._running):
                self.cancel(query)
            threading.Event().wait(_POLL_SECONDS)
            waited_seconds += _POLL_SECONDS
        if self._running:
            logger.warning("stopping with %d queries that did not end when cancelled", len(self._running))
        self._main.close()
        shutil.rmtree(self._spool, ignore_errors=True)


def _cancelled() -> Exception:
    return gateway_error(QUERY_WAS_CANCELLED, "Query was cancelled.")
