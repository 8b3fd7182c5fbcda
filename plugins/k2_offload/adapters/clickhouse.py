"""ClickHouse over its native protocol. Used by the tasks, the CLI and the Spark job alike."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import date, datetime, timedelta
from functools import cached_property
from itertools import starmap
from typing import Any

from k2_offload.adapters.authorities import check_authorities
from k2_offload.core import queries
from k2_offload.core.connections import ClickHouseEndpoint, authority
from k2_offload.core.cuts import CUT_STEPS, Counts
from k2_offload.core.errors import (
    InvalidSource,
    OffloadError,
    Overloaded,
    Refused,
    StoreFailed,
    StoreNotTrusted,
    StoreRefused,
    Unreachable,
    is_certificate_refusal,
    is_store_refusal,
)
from k2_offload.core.limits import (
    CONNECT_SECONDS,
    LONGEST_REPLICA_DELAY_SECONDS,
    SHORTEST_CONNECT_SECONDS,
    STORE_ATTEMPTS,
)
from k2_offload.core.sql import RESERVED
from k2_offload.core.tables import TableSpec
from k2_offload.core.ttl import Removal, Storage, removals
from k2_offload.core.type_mapping import Column, is_number, is_time, map_column
from k2_offload.core.windows import Window, from_micros, to_micros

# At its import the driver would make a dictionary of all days since 1900, which takes 0.1 s. The name is its own.
os.environ.setdefault("CLICKHOUSE_DRIVER_LASY_DATE_LUT", "on demand")

ALL_OR_AN_ERROR = {
    "skip_unavailable_shards": 0,
    "fallback_to_stale_replicas_for_distributed_queries": 0,
    "max_replica_delay_for_distributed_queries": LONGEST_REPLICA_DELAY_SECONDS,
    "read_overflow_mode": "throw",
    "result_overflow_mode": "throw",
    "group_by_overflow_mode": "throw",
    "sort_overflow_mode": "throw",
    "distinct_overflow_mode": "throw",
    "timeout_overflow_mode": "throw",
    "set_overflow_mode": "throw",
    "join_overflow_mode": "throw",
    "transfer_overflow_mode": "throw",
    "read_overflow_mode_leaf": "throw",
    "timeout_overflow_mode_leaf": "throw",
    "additional_table_filters": "{}",
    "apply_deleted_mask": 1,
    "apply_patch_parts": 1,
    "use_query_cache": 0,
    "limit": 0,
    "offset": 0,
}
"""Whatever the user's profile says: an answer with less than all rows, with deleted ones or of before is none."""

_SETTINGS = {**ALL_OR_AN_ERROR, "s3_retry_attempts": STORE_ATTEMPTS}
"""By default ClickHouse asks a store 500 times, longer than a task lives."""

_REFUSED = {81, 192, 193, 497, 516}
"""Codes for: no such database, no such user, wrong password, not granted, authentication failed."""

_OVERLOADED = {159, 202, 209, 210, 241, 279, 369}
"""Codes for what may pass: timeout, too many queries, lost network between servers, memory, no replica."""

_STORE_FAILED = 499

_TTL_OF_COLUMN = 6
"""Where ``DESCRIBE TABLE`` has it in a row."""

MERGE_TREE = re.compile(r"\w*MergeTree\b")
"""A storage's engine."""

_READS = re.compile(r"^\W*(Read\w+.*?)\s*$", re.MULTILINE)
_READS_MERGE_TREE = re.compile(r"ReadFromMergeTree \((.+)\)")
"""In ClickHouse's plan of a query."""

_TREE_TABLE = re.compile(r"\s*TABLE(?:_FUNCTION)? id: (?:.*\btable_name: ([^,]+)(?:,|$))?")
"""In ClickHouse's tree of a query."""


class ClickHouse:
    """One connection to ClickHouse: to the first of its servers that answers, and to the next one if that goes away.

    A server is chosen between statements, never within one: what was sent to a server that went away is not sent to
    another by itself.

    :param endpoint: where it listens
    :param clock: in place of the server's, where time is played
    :param check: of each server that this connects to, before that is asked anything else; it may refuse it
    :raises Unreachable: by every method, if the server does not answer or drops the connection
    :raises Refused: by every method, if it does not let the user in
    :raises Overloaded: by every method, if it has too much to do
    """

    def __init__(
        self,
        endpoint: ClickHouseEndpoint,
        clock: Callable[[], datetime] | None = None,
        check: Callable[[ClickHouse], None] | None = None,
    ) -> None:
        self._endpoint = endpoint
        self._clock = clock
        self._check = check
        self._checking = False

    @cached_property
    def _client(self) -> Any:
        # Here, because DAG files import this module and must parse fast, and because `commit` never asks ClickHouse.
        import clickhouse_driver  # noqa: PLC0415

        endpoint = self._endpoint
        check_authorities(endpoint.connection_id, endpoint.ca_certs)
        seconds = endpoint.longest_query_seconds
        limit = {} if seconds is None else {"max_execution_time": seconds}
        client = clickhouse_driver.Client(
            host=endpoint.host,
            port=endpoint.native_port,
            alt_hosts=",".join(starmap(authority, endpoint.alternatives)) or None,
            user=endpoint.user,
            password=endpoint.password,
            database=endpoint.database,
            secure=endpoint.secure,
            ca_certs=endpoint.ca_certs or None,
            connect_timeout=_seconds_for_each(endpoint),
            send_receive_timeout=endpoint.query_seconds,
            client_name="k2-offload",
            settings=_SETTINGS | limit,
        )
        _limit_greeting(client.connection, _seconds_for_each(endpoint))
        if self._check is not None:
            _connect_only_if(client.connection, lambda: self._checking)
        return client

    @property
    def host(self) -> str:
        """The server that this is connected to; the first one before that."""
        return str(getattr(self._client.connection, "host", None) or self._endpoint.host)

    @property
    def address(self) -> str:
        """Host and native port of the first server."""
        return authority(*self._endpoint.servers[0])

    @property
    def servers(self) -> int:
        """How many servers the connection names."""
        return len(self._endpoint.servers)

    def each(self) -> list[ClickHouse]:
        """The servers, in their order: each by a connection to it alone, which the caller closes."""
        alone = replace(self._endpoint, alternatives=())
        return [ClickHouse(replace(alone, host=host, native_port=port)) for host, port in self._endpoint.servers]

    def execute(self, sql: str) -> list[tuple[Any, ...]]:
        """Run one query and return its rows.

        :raises OffloadError: with the server's own words if it refuses the query
        """
        client = self._client
        from clickhouse_driver import errors  # noqa: PLC0415 - see above

        try:
            rows: list[tuple[Any, ...]] = self._ask(client, sql)
        except (OSError, EOFError, errors.NetworkError, errors.SocketTimeoutError) as error:
            client.disconnect()
            reason = str(error) or type(error).__name__
            if self._endpoint.alternatives:
                reason = f"{reason} (its servers are {', '.join(starmap(authority, self._endpoint.servers))})"
            kind = Refused if is_certificate_refusal(reason) else Unreachable
            raise kind("ClickHouse", self._endpoint.connection_id, reason) from error
        except errors.ServerException as error:
            client.disconnect()
            message = str(error.message).split("Stack trace:")[0].strip()
            if error.code in _REFUSED:
                raise Refused("ClickHouse", self._endpoint.connection_id, message) from error
            if error.code in _OVERLOADED:
                raise Overloaded(error.code, message) from error
            if error.code == _STORE_FAILED:
                if is_certificate_refusal(message):
                    raise StoreNotTrusted(message) from error
                raise (StoreRefused if is_store_refusal(message) else StoreFailed)(message) from error
            raise OffloadError(f"ClickHouse refused a query (code {error.code}): {message}") from error
        return rows

    def _ask(self, client: Any, sql: str) -> Any:
        if self._check is None or self._checking:
            return client.execute(sql)
        self._connect_checked(client, self._check)
        try:
            return client.execute(sql)
        except _NotConnectedError:  # any more; nothing was sent
            self._connect_checked(client, self._check)
            return client.execute(sql)

    def _connect_checked(self, client: Any, check: Callable[[ClickHouse], None]) -> None:
        if client.connection.connected:
            return
        self._checking = True
        try:
            check(self)
        except BaseException:
            client.disconnect()
            raise
        finally:
            self._checking = False

    def close(self) -> None:
        """End the connection."""
        if "_client" in self.__dict__:
            self._client.disconnect()

    def now(self) -> datetime:
        """The server's clock."""
        if self._clock is not None:
            return self._clock()
        [(micros,)] = self.execute("SELECT toUnixTimestamp64Micro(now64(6))")
        return from_micros(micros)

    def columns(self, table: TableSpec) -> tuple[Column, ...]:
        """The source's stored columns in their order, mapped to Iceberg.

        :raises InvalidSource: if the table or a column named in the table file is missing, the timestamp is no time,
            or rows may be in no partition
        :raises UnsupportedType: if a column cannot be mapped
        """
        types = self.column_types(table)
        if not types:
            raise InvalidSource(
                f"{table.name}: ClickHouse has no table {table.source}. Nothing was moved. "
                "Correct 'source' in the table file or create the table; then run `k2 validate`."
            )
        for key in ("timestamp_column", "partition_column"):
            self._check_time(table, key, types)
        reserved = next((column for column in types if column.startswith(RESERVED)), None)
        if reserved is not None:
            raise InvalidSource(
                f"{table.name}: {table.source} has a column '{reserved}', and names that begin with {RESERVED} are "
                "those of this package's own queries. Nothing was moved and no row is lost. Rename the column, or "
                "let 'source' be a view that calls it something else; then run `k2 validate`."
            )
        for column in (*table.sort_columns, *table.key_columns, *table.binary, table.version_column):
            if column is not None:
                _check_exists(table, column, types)
        if table.sequence_column is not None:
            self._check_number(table, table.sequence_column, types)
        columns = tuple(
            map_column(table.name, column, kind, binary=column in table.binary) for column, kind in types.items()
        )
        _check_partitioned(table, columns)
        return columns

    def column_types(self, table: TableSpec) -> dict[str, str]:
        """ClickHouse's own types of the source's stored columns, in their order; none if there is no such table."""
        return dict(self.execute(queries.column_types(table)))

    def known_counts(self, tables: Sequence[TableSpec]) -> dict[str, int]:
        """How many rows the sources have, by the table's name, where ClickHouse knows that without counting.

        It does not for views, and for those that merge rows with equal keys nobody does.
        """
        counts = dict(self.execute(queries.known_counts(tables)))
        return {each.name: counts[each.source] for each in tables if each.source in counts and not each.final}

    def newest_row(
        self, table: TableSpec, since: datetime | None = None, before: datetime | None = None
    ) -> datetime | None:
        """Newest timestamp of the source in ``[since, before)``, open where not given; ``None`` if there is none.

        :raises InvalidSource: if a timestamp is NULL: such a row is in no window
        """
        sql = queries.newest_row(table, to_micros(since) if since else 0, to_micros(before) if before else None)
        [(newest_micros, null_times)] = self.execute(sql)
        if null_times:
            raise InvalidSource(
                f"{table.name}: {null_times} rows of {table.source} have NULL in '{table.timestamp_column}'; they "
                "are in no window and would never be moved. Nothing was moved. Give them a time, or point 'source' "
                "at a view that does (or that leaves them out); then run `k2 validate`."
            )
        return None if newest_micros is None else from_micros(newest_micros)

    def oldest_row(self, table: TableSpec, since: datetime, before: datetime) -> datetime | None:
        """Oldest timestamp of the source in ``[since, before)``; ``None`` if there is none."""
        [(micros,)] = self.execute(queries.oldest_row(table, to_micros(since), to_micros(before)))
        return None if micros is None else from_micros(micros)

    def storage(self, table: TableSpec) -> Storage | None:
        """The table that holds the source's rows, also behind a view; ``None`` if that, or its TTL, cannot be known."""
        engine = self.engine(table.source)
        name = table.source
        if not MERGE_TREE.match(engine):
            named, others = self.reads(table)
            if len(named) != 1 or others:
                return None
            name = min(named)
            engine = self.engine(name)
        removed = removals(engine) if MERGE_TREE.match(engine) else None
        return None if removed is None else Storage(name, tuple(removed))

    def column_ttls(self, name: str) -> dict[str, Removal]:
        """The rules of a table that remove values in rows that stay, by column."""
        described = self.execute(queries.describe_columns(name))
        return {row[0]: Removal(row[_TTL_OF_COLUMN]) for row in described if row[_TTL_OF_COLUMN]}

    def read_by(self, table: TableSpec) -> set[str]:
        """The MergeTree tables that the source is read from, as ClickHouse's plan of the query names them.

        :raises InvalidSource: if it is read from anything else (Distributed, Buffer, Merge), which may hide such tables
        """
        named, others = self.reads(table)
        if others or not named:
            raise InvalidSource(f"{table.source} is read by {', '.join(sorted(others)) or 'no step that is known'}.")
        return named

    def reads(self, table: TableSpec) -> tuple[set[str], set[str]]:
        """What reads the source in ClickHouse's plan of the query: MergeTree tables, and steps of any other kind."""
        select = queries.select_all(table)
        steps = set(_READS.findall("\n".join(line for (line,) in self.execute(f"EXPLAIN {select}"))))
        found = {step: name[1] for step in steps if (name := _READS_MERGE_TREE.fullmatch(step))}
        named, others = set(found.values()), steps - found.keys()
        empty = {step for step in others if step.startswith("ReadNothing")}  # the plan does not name empty tables
        if not empty:
            return named, others
        more, unknown = self._named_in(select)
        return named | more, others - empty | unknown

    def _named_in(self, select: str) -> tuple[set[str], set[str]]:
        """The MergeTree tables that a query names, also through views; and what else it reads."""
        named, others = set(), set()
        for (line,) in self.execute(f"EXPLAIN QUERY TREE run_passes = 1 {select}"):
            if not (found := _TREE_TABLE.match(line)):
                continue
            name = found[1] or ""
            [(engine, view)] = self.execute(queries.engine_and_select(name)) or [("", "")]
            if engine == "View":
                more, unknown = self._named_in(view)
                named |= more
                others |= unknown
            elif MERGE_TREE.fullmatch(engine):
                named.add(name)
            else:
                others.add(line.strip())
        return named, others

    def engine(self, name: str) -> str:
        """A table's engine in full; empty if there is no such table."""
        found = self.execute(queries.engine(name))
        return str(found[0][0]) if found else ""

    def first_expiry(self, table: TableSpec, storage: Storage, since: datetime) -> datetime | None:
        """When the TTL may remove the first row at or above a time; ``None`` if it removes none."""
        [expiries] = self.execute(queries.first_expiry(table, storage, to_micros(since)))
        return min((from_micros(micros) for micros in expiries if micros is not None), default=None)

    def kept_for(self, table: TableSpec, storage: Storage, row: datetime) -> timedelta:
        """How long the TTL keeps a row of a time.

        :raises OffloadError: if that depends on other columns than the timestamp and the partition column
        """
        [expiries] = self.execute(queries.expiry_of(table, storage, to_micros(row)))
        return min(map(from_micros, expiries)) - row

    def count_outside(self, table: TableSpec, before: datetime, future: datetime) -> tuple[int, int]:
        """Rows of times that no window will hold for long: below ``before``, and at or above ``future``."""
        [(early, late)] = self.execute(queries.count_outside(table, to_micros(before), to_micros(future)))
        return int(early), int(late)

    def count_left_out(self, table: TableSpec, old_column: str, since: datetime, below: datetime) -> int:
        """Rows at or above one time on the column that windows were cut on, and below another on the one of now."""
        [(rows,)] = self.execute(queries.count_left_out(table, old_column, to_micros(since), to_micros(below)))
        return int(rows)

    def count(self, table: TableSpec) -> int:
        """All rows of the source."""
        [(rows,)] = self.execute(queries.count(table))
        return int(rows)

    def rows_per_step(self, table: TableSpec, window: Window, step: timedelta) -> Counts:
        """How many rows the window holds, by steps of a length."""
        rows, sequences = {}, {}
        for micros, count, sequence in self.execute(queries.rows_per_step(table, window, step)):
            start = from_micros(micros)
            rows[start] = count
            if sequence is not None:
                sequences[start] = int(sequence)
        return Counts(rows, sequences)

    def count_within(self, table: TableSpec, window: Window) -> int:
        """How many rows the window holds."""
        return self.rows_per_step(table, window, CUT_STEPS[0]).total

    def rows_per_day(self, sql: str) -> dict[date, int]:
        """Rows by partition day, from :func:`k2_offload.core.queries.rows_per_day`."""
        return {day: count for day, count in self.execute(sql)}  # noqa: C416 - rows are untyped tuples

    def rows_per_slot(self, sql: str) -> dict[datetime, int]:
        """Rows by slot of the partition column, from :func:`k2_offload.core.queries.rows_per_slot`."""
        return {from_micros(micros): count for micros, count in self.execute(sql)}

    def _check_time(self, table: TableSpec, key: str, types: Mapping[str, str]) -> None:
        column: str = getattr(table, key)
        _check_exists(table, column, types)
        if not is_time(types[column]):
            raise InvalidSource(
                f"{table.name}: {key} '{column}' is {types[column]}, not a time (DateTime or DateTime64). "
                "Nothing was moved. Correct the table file; then run `k2 validate`."
            )

    def _check_number(self, table: TableSpec, column: str, types: Mapping[str, str]) -> None:
        _check_exists(table, column, types)
        if not is_number(types[column]):
            raise InvalidSource(
                f"{table.name}: sequence_column '{column}' is {types[column]}, not a number. Nothing was moved. Name "
                "another column in the table file, or none; then run `k2 validate`."
            )


def _seconds_for_each(endpoint: ClickHouseEndpoint) -> float:
    """How long to wait for one server, so that all together take no longer than one may."""
    return max(CONNECT_SECONDS / len(endpoint.servers), SHORTEST_CONNECT_SECONDS)


def _limit_greeting(connection: Any, seconds: float) -> None:
    """Let who accepts a connection and says nothing, or hangs up (a balancer without servers), count as down.

    The driver would wait for the greeting as long as for a query, and try no other server after it was hung up.
    """
    receive = connection.receive_hello

    def receive_hello() -> None:
        with connection.timeout_setter(seconds):
            try:
                receive()
            except EOFError:
                raise ConnectionAbortedError("closed before the server's greeting") from None

    connection.receive_hello = receive_hello


class _NotConnectedError(ConnectionError):
    """The connection was lost between two statements, where the driver would take another server in silence."""


def _connect_only_if(connection: Any, may_connect: Callable[[], bool]) -> None:
    connect = connection.connect

    def connect_if() -> None:
        if not may_connect():
            raise _NotConnectedError("the connection was lost")
        connect()

    connection.connect = connect_if


def _check_exists(table: TableSpec, column: str, types: Mapping[str, str]) -> None:
    if column not in types:
        raise InvalidSource(
            f"{table.name}: {table.source} has no column '{column}'; it has: {', '.join(types)}. Nothing was moved. "
            "Correct the table file; then run `k2 validate`."
        )


def _check_partitioned(table: TableSpec, columns: Sequence[Column]) -> None:
    # A timestamp that is NULL is refused where rows are read; a window holds none.
    may_be_null = {column.name for column in columns if column.nullable} - {table.timestamp_column}
    if table.partition_column in may_be_null:
        raise InvalidSource(
            f"{table.name}: partition_column '{table.partition_column}' may be NULL in {table.source}, and a row "
            "without it is in no partition. Nothing was moved and no row is lost. Make the column one that is never "
            f"NULL, or point 'source' at a view that selects ifNull({table.partition_column}, "
            f"{table.timestamp_column}) AS {table.partition_column}; then run `k2 validate`."
        )
