"""A year of nine tables, brought by ``k2 backfill`` beside the live cycle, while it is killed ten times.

ClickHouse has a year of trades and no TTL. The tables begin at the front, and cycles move what the exchanges send, at
the pace of the clock. Then one process after the other brings the history of a table, and is killed with SIGKILL at
random moments: all of it, the command alone or its job alone. At the end all rows of both tiers are compared, and how
far the live tables lagged is shown, with the backfill and without. K2_DAYS, K2_KILLS and K2_SOAK_SEED change the
length, the kills and the course.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from threading import Event

from rich.console import Console

from k2_offload.core.exactly_once import watermark_of
from k2_offload.work.reconcile import reconcile
from k2_offload.work.status import read_status
from tests.soak.comparison import Difference, compare_days
from tests.soak.year import CYCLE_SECONDS, DAY, Backfills, LiveCycle, Trades, percentile, table_file
from tests.support.cycles import build_cycle

TRADES_PER_DAY = 300
WARM_UP_SECONDS = 60
QUIET_SECONDS = 120


def test_a_year_is_brought_beside_the_live_cycle(stack, tmp_path):
    days = int(os.environ.get("K2_DAYS") or 365)
    kills = int(os.environ.get("K2_KILLS") or 10)
    seed = int(os.environ.get("K2_SOAK_SEED") or secrets.randbelow(2**32))
    for name in ("k2_offload", "pyiceberg"):
        logging.getLogger(name).setLevel(logging.ERROR)
    screen, started = Console(), time.monotonic()

    def say(text):
        screen.print(f"{(time.monotonic() - started) / 60:5.1f} min  {text}", highlight=False)

    say(f"seed {seed}, {days} days; K2_SOAK_SEED={seed} makes the same decisions. Logs: {tmp_path}")
    text, ended = table_file(), Event()
    (tmp_path / "tables.yaml").write_text(text)
    environment = {**stack.environment, "AIRFLOW__K2_OFFLOAD__TABLES_FILE": str(tmp_path / "tables.yaml")}
    with ExitStack() as resources:
        jobs_log = resources.enter_context((tmp_path / "jobs.log").open("w"))
        log = resources.enter_context((tmp_path / "backfill.log").open("w"))
        first = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=days)
        trades = Trades(stack, resources, seed)
        trades.send_history(first, datetime.now(UTC), TRADES_PER_DAY)
        history = trades.count
        say(f"{history:,} trades of the past are in ClickHouse")
        live = LiveCycle(resources, text, jobs_log)
        cycle = build_cycle(resources, None, text, "year")
        backfills = Backfills(cycle, environment, Random(seed), kills, first, log, say)  # noqa: S311 - repeatable
        with ThreadPoolExecutor(2) as pool:
            beside = [pool.submit(_ending, ended, work) for work in (trades.send_live, live.go_on)]
            try:
                _wait(ended, WARM_UP_SECONDS)
                before = _wait(ended, QUIET_SECONDS)
                say("the backfill begins")
                backfills.bring(ended)
                say(f"the backfill has ended: {dict(backfills.done)}")
                after = _wait(ended, QUIET_SECONDS)
            finally:
                ended.set()
                for each in beside:
                    each.result()
        backfills.check_nothing_left()
        cycle = live.finish(resources, text)
        difference = Difference()
        with stack.clickhouse_client() as client:
            for table in cycle.tables.by_name.values():
                compare_days(client, table, first - DAY, datetime.now(UTC) + DAY, [], [], difference)
        said = f"{difference.lost} lost, {difference.doubled} doubled, {difference.foreign} that ClickHouse never had"
        say(f"{difference.rows:,} rows compared: {said}")
        _check_records(cycle)
        say("every day of every table compared by k2_reconcile, too")
    quiet = _summary(live.between(*before), live.between(*after))
    busy = _summary(live.between(before[1], after[0]))
    result = {
        "seed": seed,
        "days": days,
        "trades": {"of the past": history, "live": trades.count - history},
        "rows_compared": difference.rows,
        "lost": difference.lost,
        "doubled": difference.doubled,
        "foreign": difference.foreign,
        "commands": dict(sorted(backfills.done.items())),
        "live_windows_again": live.again,
        "live": {"without the backfill": quiet, "beside the backfill": busy},
        "minutes": {
            "backfill": round((after[0] - before[1]) / 60, 1),
            "all": round((time.monotonic() - started) / 60, 1),
        },
    }
    screen.print_json(json.dumps(result))
    Path(os.environ.get("K2_SOAK_RESULT", tmp_path / "result.json")).write_text(json.dumps(result, indent=2))
    assert difference.rows > 2 * trades.count
    assert (difference.lost, difference.doubled, difference.foreign) == (0, 0, 0)
    assert sum(number for what, number in backfills.done.items() if what.startswith("killed")) == kills
    assert busy["lag"]["p99"] < quiet["lag"]["p99"] + CYCLE_SECONDS
    assert backfills.done["ended well"] == len(cycle.tables.by_name)


def _ending(ended, work):
    """One thread's failure ends all."""
    try:
        work(ended)
    except BaseException:
        ended.set()
        raise


def _wait(ended, seconds):
    """Let the live cycle go on; returns when that began, and when it ended."""
    began = time.time()
    assert not ended.wait(seconds), "the live cycle has ended"
    return began, time.time()


def _check_records(cycle):
    """The ledger says what the cold tables say, nothing is on record as missed, and no day differs."""
    tables = list(cycle.tables.by_name.values())
    records, gaps = cycle.ledger.read_tables(), cycle.ledger.read_gaps()
    for table in tables:
        cold = cycle.catalog.load(table)
        assert records[table.name].watermark == watermark_of(cold.published), table.name
        assert records[table.name].state == "committed", table.name
        assert read_status(cycle.tiers, table, None, False, gaps.get(table.name, ())).gaps == (), table.name
    for found in reconcile(cycle.tiers, tables):
        assert (found.problems, found.heals) == ((), ()), found.table.name


def _summary(*stretches):
    """In seconds; a cycle's lag is that of the table that lags most at a moment."""
    seconds = [each for stretch in stretches for each in stretch.seconds]
    lags = [max(each) for stretch in stretches for each in zip(*stretch.lags.values(), strict=True)]
    return {
        "cycles": len(seconds),
        "cycle": {"p50": round(percentile(seconds, 0.5), 1), "p99": round(percentile(seconds, 0.99), 1)},
        "lag": {"p50": round(percentile(lags, 0.5), 1), "p99": round(percentile(lags, 0.99), 1)},
    }
