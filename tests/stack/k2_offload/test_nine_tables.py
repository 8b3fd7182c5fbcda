"""The nine tables through the real DAGs: recorded trades to the last digit, candles computed a second time."""

from __future__ import annotations

import csv
import json
import subprocess
from collections import Counter, defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from pyiceberg.catalog import load_catalog

from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings
from tests.support import SharedStack

RECORDING = Path(__file__).parents[2] / "data" / "binance_xrpeth_2019-10-11_2019-10-13.csv"
KRAKEN_RECORDING = RECORDING.with_name("kraken_bcheur.csv")
TABLES = [
    "bronze_trades_binance",
    "bronze_trades_kraken",
    "silver_trades",
    *(f"ohlcv_{interval}" for interval in ("1m", "5m", "15m", "30m", "1h", "1d")),
]


def run(stack: SharedStack, *command: str) -> str:
    result = subprocess.run(command, env=stack.environment, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def verify(stack: SharedStack) -> dict[str, dict[str, object]]:
    return {line["table"]: line for line in json.loads(run(stack, "k2", "verify", "--json"))}


def verify_finding(stack: SharedStack) -> dict[str, dict[str, object]]:
    """As :func:`verify`, where not all are equal."""
    command = ["k2", "verify", "--json"]
    result = subprocess.run(command, env=stack.environment, capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 1, result.stderr
    return {line["table"]: line for line in json.loads(result.stdout)}


def cold_rows(table: str) -> list[dict[str, object]]:
    settings = connections.catalog_settings(load_settings())
    with closing(load_catalog(settings.name, **settings.pyiceberg)) as catalog:
        return catalog.load_table(f"cold.{table}").scan().to_arrow().to_pylist()


@pytest.fixture(scope="module")
def recorded(stack: SharedStack) -> list[dict[str, str]]:
    """Replays both recordings and offloads them by ``airflow dags test``; returns Binance's."""
    for file, exchange, symbol in ((RECORDING, "binance", "XRPETH"), (KRAKEN_RECORDING, "kraken", "BCH/EUR")):
        options = ("--exchange", exchange, "--symbol", symbol, "--shift-to-now", "--ending-ago", "2000")
        run(stack, "k2", "feed", "replay", str(file), *options, "--port", str(stack.settings.ports.clickhouse_native))
    for layer in ("bronze", "silver", "gold"):
        run(stack, "airflow", "dags", "test", f"k2_offload_{layer}")
    with RECORDING.open() as file:
        return list(csv.DictReader(file))


def test_every_recorded_trade_arrives_once_and_to_the_last_digit(recorded):
    expected = Counter((row["trade_id"], Decimal(row["price"]), Decimal(row["quantity"])) for row in recorded)
    assert expected.total() == 12_477
    for table, condition in (("bronze_trades_binance", {}), ("silver_trades", {"exchange": "binance"})):
        arrived = Counter(
            (row["trade_id"], row["price"], row["quantity"])
            for row in cold_rows(table)
            if condition.items() <= row.items() and row["symbol"].replace("/", "") == "XRPETH"
        )
        assert arrived == expected


def test_candles_equal_those_computed_from_the_recording(recorded):
    trades = sorted(recorded, key=lambda row: (int(row["timestamp_ms"]), int(row["trade_id"])))
    cold = [row for row in cold_rows("ohlcv_1m") if row["symbol"] == "XRP/ETH"]
    # The replay moved all times by one constant: that of the last trade, which both tiers hold.
    last = max(row["exchange_timestamp"] for row in cold_rows("bronze_trades_binance") if row["symbol"] == "XRPETH")
    shift = last - datetime.fromtimestamp(0, UTC) - timedelta(milliseconds=int(trades[-1]["timestamp_ms"]))
    minutes = defaultdict(list)
    for row in trades:
        at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=int(row["timestamp_ms"])) + shift
        minutes[at.replace(second=0, microsecond=0)].append((Decimal(row["price"]), Decimal(row["quantity"])))
    expected = {
        start: (
            prices[0][0],
            max(price for price, _ in prices),
            min(price for price, _ in prices),
            prices[-1][0],
            sum(quantity for _, quantity in prices),
            len(prices),
        )
        for start, prices in minutes.items()
    }
    offloaded = {
        row["window_start"]: tuple(row[name] for name in ("open", "high", "low", "close", "volume", "trade_count"))
        for row in cold
    }
    assert len(offloaded) == len(cold)
    closed = {start: candle for start, candle in expected.items() if start in offloaded}
    assert offloaded == closed
    # All but the candle of the last minute, whose window had not closed when the trades ended.
    assert len(expected) - len(closed) <= 1


@pytest.mark.usefixtures("recorded")
def test_a_second_cycle_moves_only_what_is_new(stack):
    before = verify(stack)
    assert [name for name in TABLES if not before[name]["equal"]] == []
    port = str(stack.settings.ports.clickhouse_native)
    generate = ("k2", "feed", "generate", "--rate", "50", "--seed", "5", "--starting-ago", "900", "--for", "500")
    run(stack, *generate, "--port", port)
    cycle = json.loads(run(stack, "k2", "run", "--json"))
    assert [layer["state"] for layer in cycle["layers"]] == ["success"] * 3
    after = verify(stack)
    assert [name for name in TABLES if not after[name]["equal"]] == []
    moved = {line["table"]: line["rows"] for line in cycle["tables"]}
    for name in TABLES:
        assert after[name]["cold_rows"] == before[name]["cold_rows"] + moved[name]
    assert moved["bronze_trades_binance"] > 0 < moved["ohlcv_1m"]


@pytest.mark.usefixtures("recorded")
def test_a_cycle_without_new_rows_is_a_success_that_says_so(stack):
    run(stack, "k2", "run", "--layer", "bronze")
    output = run(stack, "airflow", "dags", "test", "k2_offload_bronze")
    assert "no new rows at or above" in output
    assert "Spark-Submit cmd" not in output


@pytest.mark.usefixtures("recorded")
def test_a_table_that_is_refused_fails_the_run_and_the_others_move(stack):
    with stack.clickhouse_client() as client:
        client.execute("ALTER TABLE bronze_trades_kraken ADD COLUMN tags Array(String)")
    try:
        result = subprocess.run(
            ["k2", "run", "--layer", "bronze", "--json"],
            env=stack.environment, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
    finally:
        with stack.clickhouse_client() as client:
            client.execute("ALTER TABLE bronze_trades_kraken DROP COLUMN tags")
    assert result.returncode == 1
    assert "column 'tags' is Array(String)" in result.stderr
    status = {line["table"]: line["status"] for line in json.loads(run(stack, "k2", "status", "--json"))}
    assert (status["bronze_trades_kraken"], status["bronze_trades_binance"]) == ("failed", "success")
    run(stack, "k2", "run", "--layer", "bronze")


@pytest.mark.usefixtures("recorded")
def test_status_and_validate_look_without_changing_anything(stack):
    status = json.loads(run(stack, "k2", "status", "--json"))
    assert [line["table"] for line in status] == TABLES
    assert all(line["cold_rows"] > 0 for line in status)
    validated = json.loads(run(stack, "k2", "validate", "--json"))
    assert [check for check in validated["checks"] if not check["passed"]] == []
    assert [line["table"] for line in validated["tables"]] == TABLES
    assert [line for line in validated["tables"] if line["problem"]] == []


@pytest.mark.usefixtures("recorded")
def test_late_trades_are_healed_in_every_table_and_candles_agree_with_them(stack):
    port = str(stack.settings.ports.clickhouse_native)
    generate = ("k2", "feed", "generate", "--rate", "2", "--seed", "6", "--starting-ago", "9000", "--for", "60")
    run(stack, *generate, "--port", port)
    late = {name for name, line in verify_finding(stack).items() if not line["equal"]}
    assert {"silver_trades", "ohlcv_1m", "ohlcv_1h"} <= late  # the day is not over
    healed = json.loads(run(stack, "k2", "heal", "--yes", "--json"))
    assert {line["result"] for line in healed} == {"equal"}
    assert [name for name, line in verify(stack).items() if not line["equal"]] == []
    candles = cold_rows("ohlcv_1m")
    edge = max(candle["window_end"] for candle in candles)
    trades = [trade for trade in cold_rows("silver_trades") if trade["exchange_timestamp"] < edge]
    assert sum(candle["trade_count"] for candle in candles) == len(trades)
    assert sum(candle["volume"] for candle in candles) == sum(trade["quantity"] for trade in trades)


@pytest.mark.usefixtures("recorded")
def test_verify_finds_one_changed_row(stack):
    with stack.clickhouse_client() as client:
        client.execute(
            "ALTER TABLE silver_trades UPDATE price = price + toDecimal128('0.000000000000000001', 18) "
            "WHERE symbol = 'BCH/EUR' "
            "AND trade_id = (SELECT min(trade_id) FROM silver_trades WHERE symbol = 'BCH/EUR') "
            "SETTINGS mutations_sync = 2"
        )
    result = subprocess.run(
        ["k2", "verify", "silver_trades", "--json"], env=stack.environment, capture_output=True, text=True, check=False
    )
    [line] = json.loads(result.stdout)
    assert (result.returncode, line["equal"]) == (1, False)
    assert line["warm_rows"] == line["cold_rows"]
