"""Nine tables, from trades to candles to a lake on S3 behind REST, while ClickHouse, store and catalog crash."""

from __future__ import annotations

import re
from collections import Counter
from functools import partial

import pytest
import yaml

from embedded.install.layout import ROOT
from k2_offload.core.windows import parse_time
from tests.real.conftest import Lake
from tests.real.crash import Crash, restart_clickhouse
from tests.real.test_lost_replies import asked
from tests.support.cold import cold_rows

YESTERDAY = 25 * 3600
"""So many seconds ago, it was a day that is over."""
TRADES = ("bronze_trades_binance", "bronze_trades_kraken", "silver_trades")


@pytest.fixture(scope="module")
def nine(lake: Lake, tmp_path_factory):
    """The tables of production, one of them with the other transport, and a first cycle that has moved two days."""
    document = yaml.safe_load((ROOT / "include" / "tables.yaml").read_text())
    document["tables"]["bronze_trades_kraken"]["transport"] = "jdbc"
    file = tmp_path_factory.mktemp("nine") / "tables.yaml"
    file.write_text(yaml.safe_dump(document, sort_keys=False))
    lake = lake.with_tables(file)
    feed(lake, YESTERDAY, seconds=120)
    feed(lake, 3000, seconds=600)
    run(lake)
    return lake


def feed(lake: Lake, starting_ago: int, *, seconds: int) -> None:
    port = str(lake.stack.settings.ports.clickhouse_native)
    times = ("--starting-ago", str(starting_ago), "--for", str(seconds))
    lake.k2("feed", "generate", "--seed", str(starting_ago), "--rate", "20", *times, "--port", port)


def run(lake: Lake) -> None:
    assert [layer["state"] for layer in lake.json("run")["layers"]] == ["success"] * 3


def check(lake: Lake) -> None:
    """All nine tables are equal; of the trades every row is, value by value."""
    compared = lake.json("verify")
    assert [line for line in compared if not (line["equal"] and line["cold_rows"])] == []
    assert len(compared) == 9
    watermarks = {line["table"]: parse_time(line["watermark"]) for line in lake.json("status")}
    for table in TRADES:
        with lake.stack.clickhouse_client() as client:
            warm = client.execute(
                f"SELECT * FROM {table} WHERE exchange_timestamp < toDateTime64(%(high)s, 6, 'UTC')",
                {"high": f"{watermarks[table]:%Y-%m-%d %H:%M:%S.%f}"},
            )
        assert cold_rows(table) == Counter(warm), table


def test_what_a_cycle_needs_is_there(nine):
    validated = nine.json("validate")
    assert [each for each in validated["checks"] if not each["passed"]] == []
    assert [each for each in validated["tables"] if each["problem"]] == []


def exported(table):
    """ClickHouse has begun to send a file."""
    return rf"PUT /\S*/cold/{table}/data/".encode()


MOMENTS = {
    "store": lambda lake, crash: lake.to_store.when(exported("silver_trades"), crash),
    "catalog": lambda lake, crash: lake.to_catalog.when(asked("ohlcv_1m"), crash),
    "clickhouse": lambda lake, crash: lake.to_store.when(exported("bronze_trades_binance"), crash),
}


@pytest.mark.parametrize(("service", "starting_ago"), zip(MOMENTS, (2200, 1900, 1600), strict=True))
def test_a_service_that_crashes_in_a_cycle_loses_no_row(nine, service, starting_ago):
    feed(nine, starting_ago, seconds=200)
    server = getattr(nine, service, None)
    crash = Crash(server.restart if server else partial(restart_clickhouse, nine.stack))
    moment = MOMENTS[service](nine, crash)
    ended = nine.k2("run", exit_code=None)
    assert moment.fired == 1
    crash.wait()
    if ended.returncode:  # where what is tried again within a task did not bridge it
        assert re.search("no row is lost|none is lost|What was published stays", ended.stderr), ended.stderr
    run(nine)
    check(nine)


def test_late_rows_of_a_day_that_is_over_are_healed_and_the_day_is_sealed(nine):
    feed(nine, YESTERDAY + 600, seconds=20)
    differ = {line["table"] for line in nine.json("verify", exit_code=1) if not line["equal"]}
    assert {*TRADES, "ohlcv_1m", "ohlcv_1h"} <= differ
    assert {line["result"] for line in nine.json("heal", "--yes")} == {"equal"}
    check(nine)
    sealed = nine.json("verify", "--sealed")
    assert [line for line in sealed if not line["passed"]] == []
    assert {*TRADES} <= {line["table"] for line in sealed if line["days"]}


def test_maintenance_loses_no_row_and_the_next_cycle_moves_on(nine):
    assert [each["problem"] for each in nine.json("maintain")] == [None] * 9
    feed(nine, 1000, seconds=100)
    run(nine)
    check(nine)
    nine.k2("verify", "--sealed")
