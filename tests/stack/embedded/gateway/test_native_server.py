from __future__ import annotations

import datetime as dt
import socket
import threading
import time
import uuid
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from clickhouse_driver.errors import ServerException  # type: ignore[import-untyped]
from hypothesis import given, settings
from hypothesis import strategies as st

from .conftest import Gateway

SLOW = "SELECT count() FROM numbers(100000000000) WHERE cityHash64(number) = 1"
UTC = dt.UTC


def is_parallel(gateway: Gateway) -> bool:
    return not gateway.query("SELECT version()").startswith("25.")


def seconds_until(condition: Any, limit_seconds: float = 10.0) -> float:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < limit_seconds, "it did not happen in time"
        time.sleep(0.05)
    return time.monotonic() - started


def running_queries(gateway: Gateway) -> int:
    return int(gateway.query("SELECT count() FROM system.processes WHERE query NOT LIKE '%system.processes%'"))


def test_rows_come_with_names_and_types(gateway: Gateway) -> None:
    assert gateway.client().execute("SELECT 1 AS a, 'x' AS b", with_column_types=True) == (
        [(1, "x")],
        [("a", "UInt8"), ("b", "String")],
    )


@pytest.mark.parametrize("sql", ["SELECT 1 AS a WHERE 0", "SELECT toUInt8(number) AS a FROM numbers(3) LIMIT 0"])
def test_names_and_types_come_without_rows_too(gateway: Gateway, sql: str) -> None:
    assert gateway.client().execute(sql, with_column_types=True) == ([], [("a", "UInt8")])


def test_a_format_clause_does_not_disturb_the_protocol(gateway: Gateway) -> None:
    assert gateway.client().execute("SELECT 1 FORMAT JSON") == [(1,)]


def test_statements_other_than_select(gateway: Gateway, database: str) -> None:
    client = gateway.client(database=database)
    assert client.execute("CREATE TABLE t (a UInt8) ENGINE = MergeTree ORDER BY a") == []
    assert client.execute("SHOW TABLES") == [("t",)]
    client.execute("INSERT INTO t SELECT number FROM numbers(3)")
    client.execute("INSERT INTO t VALUES (7), (8)")
    assert client.execute("SELECT sum(a) FROM t") == [(18,)]


def test_every_type_the_project_uses_goes_in_and_out_unchanged(gateway: Gateway, database: str) -> None:
    client = gateway.client(database=database)
    client.execute(
        "CREATE TABLE t (id UInt64, at DateTime64(6, 'UTC'), price Decimal(38, 18), exchange LowCardinality(String), "
        "note Nullable(String), tags Array(LowCardinality(String)), pairs Map(String, UInt64), kind Enum8('a' = 1), "
        "uuid UUID, d Date) ENGINE = MergeTree ORDER BY id"
    )
    rows = [
        (
            2**64 - 1 - index,
            dt.datetime(2026, 11, 20, 1, 2, 3, index, UTC),
            Decimal("12345678901234567890.123456789012345678") + index,
            f"exchange {index % 300}",
            None if index % 3 else "naïve 'quote' \\ \0",
            ["x", str(index)],
            {"k": index},
            "a",
            uuid.UUID(int=index),
            dt.date(2026, 11, 20),
        )
        for index in range(1000)
    ]
    assert client.execute("INSERT INTO t VALUES", rows, settings={"insert_block_size": 64}) == 1000
    assert client.execute("SELECT * FROM t ORDER BY id DESC") == rows


def test_an_insert_of_named_columns_leaves_the_others_to_their_defaults(gateway: Gateway, database: str) -> None:
    client = gateway.client(database=database)
    client.execute("CREATE TABLE t (a UInt8, b String DEFAULT 'd', c UInt8) ENGINE = Memory")
    client.execute("INSERT INTO t (c, a) VALUES", [(1, 2)])
    assert client.execute("SELECT * FROM t") == [(2, "d", 1)]


def test_no_rows_insert_nothing(gateway: Gateway, database: str) -> None:
    client = gateway.client(database=database)
    client.execute("CREATE TABLE t (a UInt8) ENGINE = Memory")
    client.execute("INSERT INTO t VALUES", [])
    assert client.execute("SELECT count() FROM t") == [(0,)]


@pytest.mark.parametrize(
    ("sql", "code", "name"),
    [
        ("SELECT * FROM nowhere", 60, "UNKNOWN_TABLE"),
        ("SELEC 1", 62, "SYNTAX_ERROR"),
        ("SELECT 1; SELECT 2", 62, "SYNTAX_ERROR"),
        ("SELECT throwIf(number = 200000) FROM numbers(1000000)", 395, "FUNCTION_THROW_IF_VALUE_IS_NON_ZERO"),
        ("DROP TABLE nowhere", 60, "UNKNOWN_TABLE"),
    ],
)
def test_errors_carry_code_and_name_and_leave_the_connection_usable(
    gateway: Gateway, sql: str, code: int, name: str
) -> None:
    client = gateway.client()
    with pytest.raises(ServerException, match=name) as raised:
        client.execute(sql)
    assert raised.value.code == code
    assert client.execute("SELECT 1") == [(1,)]


def test_a_failed_insert_says_why_and_leaves_the_connection_usable(gateway: Gateway, database: str) -> None:
    client = gateway.client(database=database)
    with pytest.raises(ServerException) as raised:
        client.execute("INSERT INTO nowhere VALUES", [(1,)])
    assert raised.value.code == 60
    client.execute("CREATE TABLE t (a UInt8, CONSTRAINT small CHECK a < 5) ENGINE = Memory")
    with pytest.raises(ServerException) as raised:
        client.execute("INSERT INTO t VALUES", [(1,), (9,)])
    assert raised.value.code == 469
    assert client.execute("SELECT count() FROM t") == [(0,)]


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@settings(max_examples=50, deadline=None)
def test_a_setting_reaches_the_engine_as_sent(gateway: Gateway, value: str) -> None:
    rows = gateway.client().execute("SELECT getSetting('format_csv_null_representation')",
                                    settings={"format_csv_null_representation": value})  # fmt: skip
    assert rows == [(value,)]


def test_settings_last_for_one_query_and_one_client(gateway: Gateway) -> None:
    first, second = gateway.client(settings={"max_block_size": 77}), gateway.client()
    sql = "SELECT getSetting('max_block_size')"
    assert first.execute(sql) == [(77,)]
    assert second.execute(sql) != [(77,)]
    second.execute("SET max_block_size = 88")
    assert second.execute(sql) == [(88,)]
    assert second.execute(sql, settings={"max_block_size": 99}) == [(99,)]
    assert second.execute(sql) == [(88,)]
    assert gateway.client().execute(sql) not in ([(77,)], [(88,)], [(99,)])


def test_an_unknown_setting_is_an_error_only_if_it_is_important(gateway: Gateway) -> None:
    assert gateway.client(settings={"no_such": 1}).execute("SELECT 1") == [(1,)]
    with pytest.raises(ServerException) as raised:
        gateway.client(settings={"no_such": 1}, settings_is_important=True).execute("SELECT 1")
    assert raised.value.code == 115


def test_each_connection_has_its_own_database(gateway: Gateway, database: str) -> None:
    mine, other = gateway.client(database=database), gateway.client()
    assert mine.execute("SELECT currentDatabase()") == [(database,)]
    assert other.execute("SELECT currentDatabase()") == [("default",)]
    other.execute("USE system")
    assert other.execute("SELECT currentDatabase()") == [("system",)]
    assert mine.execute("SELECT currentDatabase()") == [(database,)]


def test_an_unknown_database_is_named(gateway: Gateway) -> None:
    with pytest.raises(ServerException, match="no_such_database") as raised:
        gateway.client(database="no_such_database`; DROP DATABASE default; --").execute("SELECT 1")
    assert raised.value.code == 81


def test_external_tables_and_compression_are_declined_in_words(gateway: Gateway) -> None:
    client = gateway.client()
    table = {"name": "ext", "structure": [("x", "Int32")], "data": [{"x": 1}]}
    with pytest.raises(ServerException, match="External tables") as raised:
        client.execute("SELECT * FROM ext", external_tables=[table])
    assert raised.value.code == 48
    assert client.execute("SELECT 1") == [(1,)]


def test_several_clients_at_once(gateway: Gateway, database: str) -> None:
    gateway.client(database=database).execute("CREATE TABLE t (client UInt8, n UInt32) ENGINE = MergeTree ORDER BY n")

    def work(number: int) -> None:
        client = gateway.client(database=database)
        for batch in range(5):
            client.execute("INSERT INTO t VALUES", [(number, batch * 100 + row) for row in range(100)])
            assert client.execute("SELECT count() FROM t WHERE client = %(n)s", {"n": number}) == [(100 * batch + 100,)]
        done.append(number)

    done: list[int] = []
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(8))


def test_a_long_query_keeps_nobody_waiting(gateway: Gateway) -> None:
    if not is_parallel(gateway):
        pytest.xfail("ClickHouse 25.8 runs one query at a time inside one process")
    client = gateway.client()

    def run() -> None:
        with suppress(EOFError, OSError):  # it is disconnected before its query ends
            client.execute(SLOW)

    thread = threading.Thread(target=run)
    thread.start()
    seconds_until(lambda: running_queries(gateway) == 1)
    assert gateway.client().execute("SELECT 1") == [(1,)]
    # Not `disconnect`: the client takes its connection apart itself, in its thread, when it finds it closed.
    client.connection.socket.shutdown(socket.SHUT_RDWR)
    seconds_until(lambda: running_queries(gateway) == 0)
    thread.join()


def test_ping_does_not_wait_behind_a_query(gateway: Gateway) -> None:
    slow = "SELECT sum(cityHash64(number)) FROM numbers(1000000000) SETTINGS max_threads = 1"
    thread = threading.Thread(target=gateway.client().execute, args=(slow,))
    thread.start()
    time.sleep(0.3)
    assert thread.is_alive()
    started = time.monotonic()
    assert gateway.get("/ping") == (200, "Ok.\n")
    assert time.monotonic() - started < 0.5
    assert thread.is_alive()
    thread.join()


def test_cancel_stops_a_query_and_keeps_the_connection(gateway: Gateway) -> None:
    client = gateway.client()
    rows = client.execute_iter("SELECT number FROM system.numbers", settings={"max_block_size": 1000})
    assert next(rows) == (0,)
    client.cancel()
    assert gateway.client().execute("SELECT 1") == [(1,)]


def test_a_client_that_goes_away_during_a_result_frees_the_engine(gateway: Gateway) -> None:
    client = gateway.client()
    rows = client.execute_iter("SELECT number FROM system.numbers", settings={"max_block_size": 1000})
    assert next(rows) == (0,)
    client.disconnect()
    assert gateway.client().execute("SELECT 1") == [(1,)]
    seconds_until(lambda: running_queries(gateway) == 0)


def test_a_client_that_goes_away_during_an_insert_inserts_nothing(gateway: Gateway, database: str) -> None:
    client = gateway.client(database=database)
    client.execute("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")

    def rows() -> Any:
        for number in range(10_000):
            yield (number,)
        raise InterruptedError

    with pytest.raises(InterruptedError):
        client.execute("INSERT INTO t VALUES", rows(), settings={"insert_block_size": 100})
    client.disconnect()
    time.sleep(0.3)
    other = gateway.client(database=database)
    assert other.execute("SELECT count() FROM t") == [(0,)]
    assert other.execute("INSERT INTO t VALUES", [(1,)]) == 1


def test_clickhouse_driver_pings(gateway: Gateway) -> None:
    connection = gateway.client().connection
    connection.connect()
    assert connection.ping()


@given(st.binary(min_size=1, max_size=200))
@settings(max_examples=50, deadline=None)
def test_bytes_that_are_no_packets_end_only_their_connection(gateway: Gateway, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.native_port), timeout=10) as broken:
        broken.sendall(data)
        broken.shutdown(socket.SHUT_WR)
        while broken.recv(1 << 16):
            pass
    assert gateway.client().execute("SELECT 1") == [(1,)]


def test_an_unknown_packet_is_answered_in_words(gateway: Gateway) -> None:
    client = gateway.client()
    client.execute("SELECT 1")
    client.connection.socket.sendall(b"\x2a")
    with pytest.raises(ServerException, match="packet 42") as raised:
        client.receive_packet()
    assert raised.value.code == 101
