"""The nine tables through the real DAGs: recorded trades to the last digit, candles computed a second time."""

from __future__ import annotations

import csv
import json
import subprocess
from collections import Counter, defaultdict
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.catalog import load_catalog

from k2_offload.adapters import connections
from k2_offload.adapters.settings import load_settings
from tests.support import SharedStack
from tests.support.commands import run_k2

RECORDING = Path(__file__).parents[2] / "data" / "binance_xrpeth_2019-10-11_2019-10-13.csv"
KRAKEN_RECORDING = RECORDING.with_name("kraken_bcheur.csv")
TABLES = [
    "bronze_trades_binance",
    "bronze_trades_kraken",
    "silver_trades",
    *(f"ohlcv_{interval}" for interval in ("1m", "5m", "15m", "30m", "1h", "1d")),
]


def ask(stack: SharedStack, *command: str, exit_code: int = 0) -> Any:
    """What a command of ``k2`` says as JSON."""
    result = run_k2(*command, "--json", environment=stack.environment)
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)


def feed(stack: SharedStack, *options: str) -> None:
    port = str(stack.settings.ports.clickhouse_native)
    result = run_k2("feed", *options, "--port", port, environment=stack.environment)
    assert result.exit_code == 0, result.output


def verify(stack: SharedStack, exit_code: int = 0) -> dict[str, dict[str, Any]]:
    return {line["table"]: line for line in ask(stack, "verify", exit_code=exit_code)}


def moved(cycle: dict[str, Any]) -> dict[str, int]:
    return {line["table"]: line["rows"] or 0 for line in cycle["tables"]}


def cold_rows(table: str) -> list[dict[str, object]]:
    settings = connections.catalog_settings(load_settings())
    with closing(load_catalog(settings.name, **settings.pyiceberg)) as catalog:
        return catalog.load_table(f"cold.{table}").scan().to_arrow().to_pylist()


@pytest.fixture(scope="module")
def recorded(stack: SharedStack) -> list[dict[str, str]]:
    """Replays both recordings and offloads them; returns Binance's."""
    for file, exchange, symbol in ((RECORDING, "binance", "XRPETH"), (KRAKEN_RECORDING, "kraken", "BCH/EUR")):
        options = ("--exchange", exchange, "--symbol", symbol, "--shift-to-now", "--ending-ago", "2000")
        feed(stack, "replay", str(file), *options)
    ask(stack, "run")
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
def test_a_cycle_without_new_rows_is_a_success_that_says_so(stack):
    command = ["airflow", "dags", "test", "k2_offload_bronze"]
    result = subprocess.run(command, env=stack.environment, capture_output=True, text=True, timeout=300, check=False)
    output = result.stdout + result.stderr
    assert result.returncode == 0, output
    assert "no new rows at or above" in output
    assert "Spark-Submit cmd" not in output


@dataclass(frozen=True)
class Refusal:
    """A cycle of bronze with new rows, in which Kraken's table is refused.

    :param before: what both tiers held
    :param reason: what ``k2 run`` said
    :param status: of each table afterwards
    """

    before: dict[str, dict[str, Any]]
    cycle: dict[str, Any]
    reason: str
    status: dict[str, str]


@pytest.fixture(scope="module")
def refusal(stack: SharedStack, recorded: object) -> Refusal:  # noqa: ARG001 - has moved what was there before
    before = verify(stack)
    feed(stack, "generate", "--rate", "10", "--seed", "5", "--starting-ago", "900", "--for", "500")
    with stack.clickhouse_client() as client:
        client.execute("ALTER TABLE bronze_trades_kraken ADD COLUMN tags Array(String)")
        try:
            refused = run_k2("run", "--layer", "bronze", "--json", environment=stack.environment)
        finally:
            client.execute("ALTER TABLE bronze_trades_kraken DROP COLUMN tags")
    assert refused.exit_code == 1
    status = {line["table"]: line["status"] for line in ask(stack, "status")}
    return Refusal(before, json.loads(refused.stdout), refused.stderr, status)


def test_a_table_that_is_refused_fails_the_run_and_the_others_move(refusal):
    assert "column 'tags' is Array(String)" in refusal.reason
    assert (refusal.status["bronze_trades_kraken"], refusal.status["bronze_trades_binance"]) == ("failed", "success")
    assert moved(refusal.cycle)["bronze_trades_binance"] > 0 == moved(refusal.cycle)["bronze_trades_kraken"]


def test_a_second_cycle_moves_only_what_is_new(stack, refusal):
    assert [name for name in TABLES if not refusal.before[name]["equal"]] == []
    cycle = ask(stack, "run")
    assert [layer["state"] for layer in cycle["layers"]] == ["success"] * 3
    after = verify(stack)
    assert [name for name in TABLES if not after[name]["equal"]] == []
    in_part, rest = moved(refusal.cycle), moved(cycle)
    for name in TABLES:
        assert after[name]["cold_rows"] == refusal.before[name]["cold_rows"] + in_part.get(name, 0) + rest[name]
    assert rest["bronze_trades_kraken"] > 0 < rest["ohlcv_1m"]


@pytest.mark.usefixtures("recorded")
def test_status_and_validate_look_without_changing_anything(stack):
    status = ask(stack, "status")
    assert [line["table"] for line in status] == TABLES
    assert all(line["cold_rows"] > 0 for line in status)
    validated = ask(stack, "validate")
    assert [check for check in validated["checks"] if not check["passed"]] == []
    assert [line["table"] for line in validated["tables"]] == TABLES
    assert [line for line in validated["tables"] if line["problem"]] == []


@pytest.mark.usefixtures("recorded")
def test_late_trades_are_healed_in_every_table_and_candles_agree_with_them(stack):
    feed(stack, "generate", "--rate", "2", "--seed", "6", "--starting-ago", "9000", "--for", "60")
    late = {name for name, line in verify(stack, exit_code=1).items() if not line["equal"]}
    assert {"silver_trades", "ohlcv_1m", "ohlcv_1h"} <= late  # the day is not over
    healed = ask(stack, "heal", "--yes")
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
    [line] = ask(stack, "verify", "silver_trades", exit_code=1)
    assert not line["equal"]
    assert line["warm_rows"] == line["cold_rows"]
