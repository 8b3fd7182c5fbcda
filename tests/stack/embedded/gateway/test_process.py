from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest
from clickhouse_driver.errors import ServerException  # type: ignore[import-untyped]

from embedded.stack.processes import wait_until

from .conftest import Gateway


def refusal(gateway: Gateway) -> str:
    finished = subprocess.run(gateway.command(), capture_output=True, text=True, timeout=60, check=False)
    assert finished.returncode == 1, finished
    assert "Traceback" not in finished.stderr
    return finished.stderr


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_the_data_outlive_the_process_however_it_ends(own_gateway: Gateway, signal_number: int) -> None:
    own_gateway.start()
    own_gateway.query("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    own_gateway.query("INSERT INTO t SELECT number FROM numbers(1000)")
    returned = own_gateway.stop(signal_number)
    assert returned == (-signal.SIGKILL if signal_number == signal.SIGKILL else 0)
    own_gateway.start()
    assert own_gateway.query("SELECT sum(a) FROM t") == "499500\n"


def test_stopping_does_not_wait_for_a_long_result(own_gateway: Gateway) -> None:
    own_gateway.start()
    client = own_gateway.client()
    rows = client.execute_iter("SELECT number FROM system.numbers", settings={"max_block_size": 100})
    next(rows)
    started = time.monotonic()
    assert own_gateway.stop() == 0
    assert time.monotonic() - started < 5


def test_what_a_crashed_process_had_spooled_is_removed(own_gateway: Gateway) -> None:
    left_over = own_gateway.data_path / "gateway_spool" / "left over"
    left_over.parent.mkdir(parents=True)
    left_over.write_text("rows")
    own_gateway.start()
    assert not left_over.exists()


def test_a_second_gateway_on_the_same_data_is_refused(own_gateway: Gateway) -> None:
    own_gateway.start()
    second = Gateway(own_gateway.data_path)
    assert f"cannot open the data path {own_gateway.data_path}" in refusal(second)
    assert own_gateway.query("SELECT 1") == "1\n"


def test_the_engine_keeps_its_data_where_it_is_told(own_gateway: Gateway) -> None:
    own_gateway.start()
    own_gateway.query("CREATE TABLE t (a UInt64) ENGINE = MergeTree ORDER BY a")
    assert "store" in {entry.name for entry in own_gateway.data_path.iterdir()}


def test_a_data_path_the_engine_would_misread_is_refused(own_gateway: Gateway, tmp_path: Path) -> None:
    own_gateway.data_path = tmp_path / "data?x=1"
    assert "question mark" in refusal(own_gateway)


def test_a_busy_port_is_named(own_gateway: Gateway, gateway: Gateway) -> None:
    own_gateway.http_port = gateway.http_port
    assert f"cannot listen on 127.0.0.1:{gateway.http_port}" in refusal(own_gateway)


def test_other_machines_need_a_password(own_gateway: Gateway) -> None:
    own_gateway.arguments = ["--host", "0.0.0.0"]  # noqa: S104 - refused, which is the point
    assert "--password-file" in refusal(own_gateway)


def test_an_unusable_password_file_is_refused(own_gateway: Gateway, tmp_path: Path) -> None:
    own_gateway.arguments = ["--password-file", str(tmp_path / "missing")]
    assert "cannot read --password-file" in refusal(own_gateway)
    (tmp_path / "empty").write_text("\n")
    own_gateway.arguments = ["--password-file", str(tmp_path / "empty")]
    assert "is empty" in refusal(own_gateway)


def test_the_password_is_asked_for_on_both_protocols(own_gateway: Gateway, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("se'cret ü\n")
    own_gateway.arguments = ["--password-file", str(tmp_path / "password")]
    own_gateway.start()
    with pytest.raises(ServerException) as raised:
        own_gateway.client(password="wrong").execute("SELECT 1")
    assert raised.value.code == 516
    assert own_gateway.client(password="se'cret ü").execute("SELECT 1") == [(1,)]
    status, headers, _ = own_gateway.request("POST", "/", b"SELECT 1")
    assert (status, headers["X-ClickHouse-Exception-Code"]) == (403, "516")
    assert own_gateway.query("SELECT 1", user="default", password="se'cret ü") == "1\n"
    key = {"X-ClickHouse-User": "default", "X-ClickHouse-Key": "wrong"}
    assert own_gateway.request("POST", "/", b"SELECT 1", key)[0] == 403
    assert "cret" not in own_gateway.log_path.read_text()


def test_a_client_that_stops_reading_loses_its_connection(own_gateway: Gateway) -> None:
    own_gateway.arguments = ["--send-timeout-seconds", "1"]
    own_gateway.start()
    client = own_gateway.client()
    rows = client.execute_iter("SELECT number FROM numbers(100000000)")
    next(rows)
    mine = client.connection.socket.getsockname()[1]
    assert wait_until(lambda: mine not in own_gateway.connected_ports(), 30), "the connection is still there"
    with pytest.raises((EOFError, OSError)):
        for _ in rows:
            pass
    assert own_gateway.query("SELECT 1") == "1\n"


def test_the_log_has_a_line_per_query_and_none_of_its_values(own_gateway: Gateway) -> None:
    own_gateway.start()
    own_gateway.query("CREATE TABLE t (a String) ENGINE = Memory")
    own_gateway.query("INSERT INTO t VALUES ('a very private value')")
    own_gateway.client().execute("SELECT * FROM t")
    log = own_gateway.log_path.read_text()
    assert "http INSERT" in log
    assert "native SELECT" in log
    assert "private" not in log
