"""The feed's commands against ClickHouse: what they send, what they count, how they end."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from clickhouse_driver import Client
from typer.testing import CliRunner

from embedded.feed.cli import app
from tests.stack.embedded.feed.support import BINANCE_RECORDING, KRAKEN_RECORDING, select
from tests.support import SharedStack

REPLAY_BINANCE = ["replay", str(BINANCE_RECORDING), "--exchange", "binance", "--symbol", "XRPETH"]
REPLAY_KRAKEN = ["replay", str(KRAKEN_RECORDING), "--exchange", "kraken", "--symbol", "BCH/EUR"]


@pytest.fixture
def connection(stack: SharedStack, database: str) -> list[str]:
    return ["--port", str(stack.settings.ports.clickhouse_native), "--database", database]


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def summary(result: Result) -> dict[str, Any]:
    assert result.exit_code == 0, result.output
    content: dict[str, Any] = json.loads(result.stdout)
    return content


def recording(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_every_recorded_binance_trade_arrives_in_bronze_and_silver(clickhouse: Client, connection: list[str]) -> None:
    told = summary(run(*REPLAY_BINANCE, "--shift-to-now", "--json", *connection))
    assert (told["trades"], told["bronze_rows"], told["rejected_rows"]) == (12_477, 12_477, 0)

    rows = recording(BINANCE_RECORDING)
    shift_millis = (_latest_micros(clickhouse, "bronze_trades_binance") // 1000) - int(rows[-1]["timestamp_ms"])
    expected = [
        (
            int(row["trade_id"]),
            (int(row["timestamp_ms"]) + shift_millis) * 1000,
            Decimal(row["price"]),
            Decimal(row["quantity"]),
            row["side"],
            row["trade_id"],
        )
        for row in rows
    ]
    columns = "sequence_number, toUnixTimestamp64Micro(exchange_timestamp), price, quantity, side, trade_id"
    bronze = f"SELECT {columns} FROM bronze_trades_binance WHERE symbol = 'XRPETH' ORDER BY sequence_number"
    silver = f"SELECT {columns} FROM silver_trades WHERE symbol = 'XRP/ETH' ORDER BY sequence_number"
    assert select(clickhouse, bronze) == expected
    assert select(clickhouse, silver) == expected


def test_the_raw_message_keeps_the_recordings_digits(clickhouse: Client, connection: list[str]) -> None:
    summary(run(*REPLAY_BINANCE, "--shift-to-now", "--json", *connection))
    stored = select(clickhouse, "SELECT raw_message FROM bronze_trades_binance ORDER BY sequence_number")
    messages = [json.loads(row[0]) for row in stored]
    assert [(message["p"], message["q"]) for message in messages] == [
        (row["price"], row["quantity"]) for row in recording(BINANCE_RECORDING)
    ]


def test_every_recorded_kraken_trade_arrives_in_bronze_and_silver(clickhouse: Client, connection: list[str]) -> None:
    told = summary(run(*REPLAY_KRAKEN, "--shift-to-now", "--json", *connection))
    assert (told["trades"], told["bronze_rows"], told["rejected_rows"]) == (148, 148, 0)

    rows = recording(KRAKEN_RECORDING)
    shift_micros = _latest_micros(clickhouse, "bronze_trades_kraken") - int(rows[-1]["timestamp_s"]) * 1_000_000
    expected = sorted(
        (int(row["timestamp_s"]) * 1_000_000 + shift_micros, Decimal(row["price"]), Decimal(row["quantity"]))
        for row in rows
    )
    columns = "toUnixTimestamp64Micro(exchange_timestamp) AS micros, price, quantity"
    for table in ("bronze_trades_kraken", "silver_trades"):
        assert select(clickhouse, f"SELECT {columns} FROM {table} ORDER BY micros, price, quantity") == expected


@pytest.mark.usefixtures("clickhouse")
@pytest.mark.parametrize("ending_ago_seconds", [0, 86_400])
def test_a_shifted_recording_ends_when_it_should(connection: list[str], ending_ago_seconds: int) -> None:
    before = time.time()
    told = summary(
        run(*REPLAY_KRAKEN, "--shift-to-now", "--ending-ago", str(ending_ago_seconds), "--json", *connection)
    )
    end = _seconds(told["last_timestamp"]) + ending_ago_seconds
    assert before - 0.002 <= end <= time.time()
    assert _seconds(told["last_timestamp"]) - _seconds(told["first_timestamp"]) == 83_751


@pytest.mark.usefixtures("clickhouse")
def test_a_replay_counts_its_own_rows_only(connection: list[str]) -> None:
    for _ in range(2):
        assert summary(run(*REPLAY_KRAKEN, "--shift-to-now", "--json", *connection))["bronze_rows"] == 148


@pytest.mark.usefixtures("clickhouse")
def test_expired_trades_are_sent_when_that_is_asked_for(connection: list[str]) -> None:
    assert summary(run(*REPLAY_KRAKEN, "--allow-expired", "--json", *connection))["trades"] == 148


@pytest.mark.usefixtures("clickhouse")
def test_without_json_the_summary_is_a_sentence(connection: list[str]) -> None:
    result = run(*REPLAY_KRAKEN, "--shift-to-now", *connection)
    assert result.exit_code == 0
    assert result.stdout.startswith("148 trades sent in ")
    assert "148 rows arrived in bronze, 0 rejected" in result.stdout


@pytest.mark.usefixtures("clickhouse")
def test_trades_that_do_not_arrive_are_a_failure(connection: list[str], tmp_path: Path) -> None:
    file = tmp_path / "trades.csv"
    file.write_text(f"timestamp_s,price,quantity\n{int(time.time())},1,1\n{int(time.time())},{'9' * 20},2\n")
    result = run("replay", str(file), "--exchange", "binance", "--symbol", "BTCUSDT", *connection)
    assert result.exit_code == 1
    assert "2 trades sent" in result.stdout
    assert "1 rows arrived in bronze, 1 rejected" in result.stdout
    assert "1 trades did not arrive in bronze. Look at the reasons in rejected_messages" in result.stderr


def test_a_database_without_the_schema_is_one_clear_sentence(connection: list[str]) -> None:
    result = run(*REPLAY_KRAKEN, "--shift-to-now", *connection[:2], "--database", "system")
    assert result.exit_code == 1
    assert "bronze_trades_kraken_queue" in result.stderr
    assert "No insert had succeeded before." in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_catching_up_fills_the_past_up_to_now(clickhouse: Client, connection: list[str]) -> None:
    started = time.time()
    told = summary(run("generate", "--rate", "500", "--seed", "3", "--starting-ago", "120", "--json", *connection))
    assert time.time() - started < 60, "the past is not waited for"
    assert 45_000 < told["trades"] < 75_000
    assert (told["bronze_rows"], told["rejected_rows"]) == (told["trades"], 0)
    [(rows, unsplit, exchanges, symbols, oldest_seconds, newest_seconds)] = select(
        clickhouse,
        "SELECT count(), countIf(base_asset = ''), uniqExact(exchange), uniqExact(exchange, symbol), "
        "toFloat64(min(exchange_timestamp)), toFloat64(max(exchange_timestamp)) FROM silver_trades",
    )
    assert (rows, unsplit, exchanges, symbols) == (told["trades"], 0, 2, 12)
    assert started - 122 <= oldest_seconds <= started - 115
    assert started - 5 <= newest_seconds <= time.time()


@pytest.mark.usefixtures("clickhouse")
def test_in_real_time_a_stream_takes_its_time(connection: list[str]) -> None:
    started = time.monotonic()
    told = summary(run("generate", "--rate", "300", "--seed", "3", "--for", "2", "--json", *connection))
    assert 1.5 < time.monotonic() - started < 20
    assert told["bronze_rows"] == told["trades"] > 100


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_stream_politely(clickhouse: Client, connection: list[str], signal_number: int) -> None:
    command = [sys.executable, "-m", "embedded.feed", "generate", "--rate", "300", "--json", *connection]
    bronze_rows = "SELECT count() FROM merge(currentDatabase(), '^bronze_trades_(binance|kraken)$')"
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as feed:
        deadline = time.monotonic() + 60
        while select(clickhouse, bronze_rows) == [(0,)] and time.monotonic() < deadline:
            time.sleep(0.1)
        feed.send_signal(signal_number)
        stdout, stderr = feed.communicate(timeout=30)
    assert (feed.returncode, stderr) == (0, "")
    told = json.loads(stdout)
    assert [(told["trades"],)] == [(told["bronze_rows"],)] == select(clickhouse, bronze_rows)


def _latest_micros(client: Client, table: str) -> int:
    return int(select(client, f"SELECT toUnixTimestamp64Micro(max(exchange_timestamp)) FROM {table}")[0][0])


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
