from __future__ import annotations

import gzip
import http.client
import json
import socket
import subprocess
import time
from pathlib import Path
from urllib.parse import quote, urlencode

import clickhouse_connect
import pyarrow as pa  # noqa: TID253 - no command starts here
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyiceberg.catalog.sql import SqlCatalog

from .conftest import Gateway


def test_curl(gateway: Gateway, database: str) -> None:
    url = f"http://127.0.0.1:{gateway.http_port}/?database={database}"

    def curl(*arguments: str, stdin: bytes = b"") -> str:
        command = ["curl", "--silent", "--show-error", "--fail-with-body", *arguments]
        return subprocess.run(command, input=stdin, capture_output=True, check=True).stdout.decode()

    assert curl(f"http://127.0.0.1:{gateway.http_port}/ping") == "Ok.\n"
    assert curl(url, "--data-binary", "CREATE TABLE t (a UInt8, b String) ENGINE = Memory") == ""
    assert curl(url, "--data-binary", "@-", stdin=b"INSERT INTO t FORMAT CSV\n1,one\n2,two\n") == ""
    assert curl(url + "&query=INSERT+INTO+t+VALUES", "--data-binary", "(3, 'it''s; three')") == ""
    assert curl(url + "&query=SELECT+*+FROM+t+ORDER+BY+a") == "1\tone\n2\ttwo\n3\tit\\'s; three\n"


def test_clickhouse_connect(gateway: Gateway, database: str) -> None:
    client = clickhouse_connect.get_client(host="127.0.0.1", port=gateway.http_port, database=database)
    client.command("CREATE TABLE t (a UInt64, b LowCardinality(String), c Nullable(Decimal(38, 18))) ENGINE = Memory")
    client.insert("t", [[index, f"n{index % 3}", None] for index in range(1000)], column_names=["a", "b", "c"])
    result = client.query("SELECT * FROM t WHERE a < {limit:UInt64} ORDER BY a", parameters={"limit": 2})
    assert result.column_names == ("a", "b", "c")
    assert result.result_rows == [(0, "n0", None), (1, "n1", None)]
    assert client.query("SELECT a FROM t WHERE 0").result_rows == []
    with client.query_row_block_stream("SELECT number FROM numbers(300000)") as blocks:
        assert sum(len(block) for block in blocks) == 300_000
    with pytest.raises(clickhouse_connect.driver.exceptions.DatabaseError, match="UNKNOWN_TABLE"):
        client.query("SELECT * FROM nowhere")


@pytest.mark.parametrize("compression", ["gzip", "lz4", "zstd"])
def test_clickhouse_connect_may_compress_what_it_inserts(gateway: Gateway, database: str, compression: str) -> None:
    client = clickhouse_connect.get_client(
        host="127.0.0.1", port=gateway.http_port, database=database, compress=compression
    )
    client.command("CREATE TABLE t (a UInt64) ENGINE = Memory")
    client.insert("t", [[index] for index in range(1000)], column_names=["a"])
    assert client.command("SELECT sum(a) FROM t") == 499500


@pytest.mark.parametrize(
    ("name", "rows"),
    [("JSONCompact", 200_000), ("CSVWithNames", 200_000), ("RowBinaryWithNamesAndTypes", 200_000), ("JSON", 0),
     ("TabSeparatedWithNamesAndTypes", 0), ("RowBinaryWithNamesAndTypes", 0), ("Native", 0)],
)  # fmt: skip
def test_a_result_of_many_blocks_is_one_document(gateway: Gateway, tmp_path: Path, name: str, rows: int) -> None:
    sql = f"SELECT number AS n, toString(number) AS s FROM numbers({rows})"
    status, headers, answer = gateway.request("POST", f"/?default_format={name}", sql.encode())
    assert (status, headers["X-ClickHouse-Format"]) == (200, name)
    if name.startswith("JSON"):
        document = json.loads(answer)
        assert (document["rows"], len(document["data"])) == (rows, rows)
    else:
        # The engine itself reads it back: header once, rows complete and in order.
        file = tmp_path / "answer"
        file.write_bytes(answer)
        counted = f"SELECT count(), groupBitXor(cityHash64(n, s)) FROM file('{file}', '{name}', 'n UInt64, s String')"
        expected = f"SELECT count(), groupBitXor(cityHash64(n, s)) FROM ({sql})"
        assert gateway.query(counted) == gateway.query(expected)


def test_the_format_clause_wins_over_the_header_and_the_header_over_the_default(gateway: Gateway) -> None:
    headers = {"X-ClickHouse-Format": "JSONEachRow"}
    path = "/?default_format=CSV"
    assert gateway.request("POST", path, b"SELECT 1 AS a FORMAT TSV", headers)[2] == b"1\n"
    assert gateway.request("POST", path, b"SELECT 1 AS a", headers)[2] == b'{"a":1}\n'
    status, headers_out, _ = gateway.request("POST", path, b"SELECT 1 AS a")
    assert (status, headers_out["Content-Type"]) == (200, "text/csv; charset=UTF-8")


def test_an_unknown_format_is_an_error(gateway: Gateway) -> None:
    status, headers, body = gateway.request("POST", "/?default_format=Null%20SETTINGS%20max_threads=1", b"SELECT 1")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (404, "73")
    assert b"UNKNOWN_FORMAT" in body


def test_headers(gateway: Gateway) -> None:
    _, headers, _ = gateway.request("GET", "/?query=SELECT+1&query_id=mine%0D%0AX-Injected:%201")
    assert headers["X-ClickHouse-Server-Display-Name"]
    assert headers["X-ClickHouse-Timezone"] == "Etc/UTC"
    assert headers["X-ClickHouse-Query-Id"].startswith("mine")
    assert headers["X-Injected"] is None


@pytest.mark.parametrize(
    ("sql", "status", "code"),
    [("SELECT * FROM nowhere", 404, "60"), ("SELEC", 400, "62"), ("SELECT 1; SELECT 2", 400, "62"),
     ("SELECT {x:UInt8}", 400, "456")],
)  # fmt: skip
def test_errors_carry_status_code_and_message(gateway: Gateway, sql: str, status: int, code: str) -> None:
    answer, headers, body = gateway.request("POST", "/", sql.encode())
    assert (answer, headers["X-ClickHouse-Exception-Code"]) == (status, code)
    assert body.startswith(f"Code: {code}. DB::Exception: ".encode())


def test_an_error_after_the_first_rows_breaks_the_answer_off(gateway: Gateway) -> None:
    with pytest.raises(http.client.IncompleteRead) as raised:
        gateway.request("POST", "/", b"SELECT throwIf(number = 400000) FROM numbers(1000000)")
    assert b"Code: 395" in raised.value.partial


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
@settings(max_examples=50, deadline=None)
def test_a_setting_reaches_the_engine_as_sent(gateway: Gateway, value: str) -> None:
    sql = "SELECT hex(getSetting('format_csv_null_representation'))"
    assert gateway.query(sql, format_csv_null_representation=value) == value.encode().hex().upper() + "\n"


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\\")))
@settings(max_examples=50, deadline=None)
def test_a_parameter_stays_a_value(gateway: Gateway, value: str) -> None:
    assert gateway.query("SELECT hex({x:String})", param_x=value) == value.encode().hex().upper() + "\n"


def test_settings_and_databases_do_not_leak(gateway: Gateway, database: str) -> None:
    sql = "SELECT getSetting('max_block_size') = 77, currentDatabase()"
    assert gateway.query(sql, max_block_size="77", database=database) == f"1\t{database}\n"
    assert gateway.query(sql) == "0\tdefault\n"
    assert gateway.request("POST", "/?no_such_setting=1", b"SELECT 1")[1]["X-ClickHouse-Exception-Code"] == "115"


def test_a_session_remembers(gateway: Gateway) -> None:
    sql = "SELECT getSetting('max_block_size'), currentDatabase()"
    gateway.query("SET max_block_size = 77", session_id="one")
    gateway.query("USE system", session_id="one")
    assert gateway.query(sql, session_id="one") == "77\tsystem\n"
    assert gateway.query(sql, session_id="two") == gateway.query(sql) != "77\tsystem\n"


def test_bodies_in_chunks_and_gzip(gateway: Gateway, database: str) -> None:
    gateway.query("CREATE TABLE t (a UInt64) ENGINE = Memory", database=database)
    insert = f"/?database={database}&query=" + quote("INSERT INTO t FORMAT TSV")
    assert gateway.request("POST", insert, iter([b"1\n", b"2", b"2\n"]))[0] == 200
    assert gateway.request("POST", insert, gzip.compress(b"3\n"), {"Content-Encoding": "gzip"})[0] == 200
    whole = gzip.compress(b"INSERT INTO t FORMAT TSV\n4\n")
    assert gateway.request("POST", f"/?database={database}", whole, {"Content-Encoding": "gzip"})[0] == 200
    assert gateway.query("SELECT groupArray(a) FROM (SELECT a FROM t ORDER BY a)", database=database) == "[1,3,4,22]\n"


def test_data_need_not_be_text(gateway: Gateway, database: str) -> None:
    gateway.query("CREATE TABLE t (a String) ENGINE = Memory", database=database)
    block = gateway.request("POST", "/", b"SELECT unhex('FF00C328') AS a FORMAT Native")[2]
    assert gateway.request("POST", f"/?database={database}", b"INSERT INTO t FORMAT Native\n" + block)[0] == 200
    assert gateway.query("SELECT hex(a) FROM t", database=database) == "FF00C328\n"


def test_clickhouses_own_compression_is_declined_in_words(gateway: Gateway) -> None:
    status, headers, body = gateway.request("POST", "/?compress=1", b"SELECT 1")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (501, "48")
    assert b"?compress=0" in body


def test_a_client_that_goes_away_during_an_insert_inserts_nothing(gateway: Gateway, database: str) -> None:
    gateway.query("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a", database=database)
    path = "/?" + urlencode({"database": database, "query": "INSERT INTO t FORMAT TSV"})
    with socket.create_connection(("127.0.0.1", gateway.http_port)) as leaving:
        leaving.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n".encode() + b"1\n" * 1000)
    time.sleep(0.3)
    assert gateway.query("SELECT count() FROM t", database=database) == "0\n"


def test_a_client_that_goes_away_during_a_query_frees_the_engine(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.http_port)) as leaving:
        leaving.sendall(b"GET /?query=SELECT+number+FROM+system.numbers HTTP/1.1\r\nHost: x\r\n\r\n")
        assert leaving.recv(1000).startswith(b"HTTP/1.1 200")
    assert gateway.query("SELECT 1") == "1\n"
    others = "SELECT count() FROM system.processes WHERE query LIKE '%system.numbers' AND query NOT LIKE '%processes%'"
    deadline = time.monotonic() + 10
    while gateway.query(others) != "0\n":
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.parametrize(
    "head", [b"POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"POST /nowhere HTTP/1.1\r\n\r\n", b"\x00\x01\r\n\r\n"]
)
def test_malformed_requests_end_only_their_connection(gateway: Gateway, head: bytes) -> None:
    with socket.create_connection(("127.0.0.1", gateway.http_port), timeout=10) as broken:
        broken.sendall(head)
        broken.shutdown(socket.SHUT_WR)
        answer = b""
        while piece := broken.recv(1 << 16):
            answer += piece
    assert b" 400 " in answer or b" 404 " in answer
    assert gateway.query("SELECT 1") == "1\n"


def test_files_can_be_written_and_read_below_any_absolute_path(gateway: Gateway, tmp_path: Path) -> None:
    file = tmp_path / "deep" / "er" / "rows.parquet"
    gateway.query(f"INSERT INTO FUNCTION file('{file}', 'Parquet') SELECT number AS a FROM numbers(10)")
    assert gateway.query(f"SELECT sum(a) FROM file('{file}')") == "45\n"


def test_iceberg_tables_can_be_read_from_any_absolute_path(gateway: Gateway, tmp_path: Path) -> None:
    catalog = SqlCatalog("demo", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("cold")
    rows = pa.table({"a": pa.array(range(10), pa.int64())})
    catalog.create_table("cold.t", rows.schema).append(rows)
    assert gateway.query(f"SELECT sum(a) FROM icebergLocal('{tmp_path}/cold/t')") == "45\n"
