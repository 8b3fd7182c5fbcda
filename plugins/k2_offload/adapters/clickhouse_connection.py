"""A connection to ClickHouse over its native protocol, and its errors in this project's words."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from itertools import starmap
from typing import Any

from k2_offload.adapters.authorities import check_authorities
from k2_offload.core.connections import ClickHouseEndpoint, authority
from k2_offload.core.errors import (
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


class ClickHouseConnection:
    """One connection to ClickHouse: to the first of its servers that answers, and to the next one if that goes away.

    A server is chosen between statements, never within one: what was sent to a server that went away is not sent to
    another by itself.

    :param endpoint: where it listens
    :param check: of each server that this connects to, before that is asked anything else; it may refuse it
    :raises Unreachable: by every method, if the server does not answer or drops the connection
    :raises Refused: by every method, if it does not let the user in
    :raises Overloaded: by every method, if it has too much to do
    """

    def __init__(
        self,
        endpoint: ClickHouseEndpoint,
        check: Callable[[ClickHouseConnection], None] | None = None,
    ) -> None:
        self._endpoint = endpoint
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
        self._connect_checked(client)
        try:
            return client.execute(sql)
        except _NotConnectedError:  # any more; nothing was sent
            self._connect_checked(client)
            return client.execute(sql)

    def _connect_checked(self, client: Any) -> None:
        if self._check is None or self._checking or client.connection.connected:
            return
        self._checking = True
        try:
            self._check(self)
        except BaseException:
            client.disconnect()
            raise
        finally:
            self._checking = False

    def close(self) -> None:
        """End the connection."""
        if "_client" in self.__dict__:
            self._client.disconnect()


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
