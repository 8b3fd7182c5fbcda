"""A month of nine tables that all have ``retention: proven``: no row is lost, whatever comes while partitions go.

The offload does not run for longer than rows are kept, time and again. Trades come up to four days late; others come at
every moment of a drop, into the very partition. Runs that remove are killed, ClickHouse and Postgres are away in the
middle of them; a cold table is rolled back, the ledger lost, days that are held are brought back, and trades corrected
while their day is moved away. After each run, every row of each partition that it was at is looked for; at the end,
every row that was ever inserted. K2_DAYS, K2_SOAK_SEED and K2_SOAK_RATE change the length, the course and the volume;
after K2_SOAK_MINUTES no day begins.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random

from tests.soak.month import MOMENTS, OUTAGE_DAYS, Month

DAYS_PER_OUTAGE = 10
LONG = 20
"""Days after which everything has happened."""


def test_nothing_is_forgotten_that_is_not_cold(stack, tmp_path):
    days = int(os.environ.get("K2_DAYS") or 30)
    seed = int(os.environ.get("K2_SOAK_SEED") or secrets.randbelow(2**32))
    minutes = float(os.environ.get("K2_SOAK_MINUTES") or "inf")
    rate = float(os.environ.get("K2_SOAK_RATE") or 0.02)
    logging.getLogger("k2_offload").setLevel(logging.CRITICAL)
    logging.getLogger("pyiceberg").setLevel(logging.WARNING)
    print(f"\nseed {seed}, {days} days; K2_SOAK_SEED={seed} repeats it. Log: {tmp_path / 'jobs.log'}", flush=True)
    random = Random(seed)  # noqa: S311 - repeatable on purpose
    blocks = [range(first, min(first + DAYS_PER_OUTAGE, days)) for first in range(0, days, DAYS_PER_OUTAGE)]
    outages = {random.choice(block[len(block) // 3 :]): random.choice(OUTAGE_DAYS) for block in blocks}
    rolled_back, loses_ledger = min(outages), random.randrange(days // 2, days)
    started, lived = time.monotonic(), 0
    with ExitStack() as resources:
        log = resources.enter_context((tmp_path / "jobs.log").open("w"))
        ago = timedelta(days=days + sum(outages.values()) + 30)
        start = (datetime.now(UTC) - ago).replace(hour=0, minute=0, second=0, microsecond=0)
        month = Month(stack, random, rate, start, resources, log)
        for day in range(days):
            if time.monotonic() - started > minutes * 60:
                break
            lived += 1
            if day in outages:
                month.outage(outages[day])
                if day == rolled_back:
                    month.catch_up_and_roll_back("silver_trades")
            if day == loses_ledger:
                month.lose_ledger()
            month.live_through_a_day()
            gone = month.events["partition: dropped"] + month.events["partition: gone"]
            told = f"{month.now:%Y-%m-%d}, {gone} partitions gone, {month.stragglers.trades} trades at such moments"
            print(f"{(time.monotonic() - started) / 60:5.1f} min: {told}", flush=True)
        seals = month.finish()
    compared, checked = month.compared, month.checked
    result = {
        "seed": seed,
        "days_with_runs": lived,
        "days_of_outages": sum(length for day, length in outages.items() if day < lived),
        "minutes": round((time.monotonic() - started) / 60, 1),
        "trades": month.market.trades + month.stragglers.trades,
        "late_trades": month.market.late,
        "trades_at_a_moment_of_a_drop": month.stragglers.trades,
        "moments": {str(moment): month.served[moment] for moment in MOMENTS},
        "rows_compared": compared.rows,
        "lost": compared.lost,
        "doubled": compared.doubled,
        "not_cold": compared.not_cold,
        "dropped": compared.dropped,
        "left_behind_as_their_day_was_gone": compared.left_behind,
        "looks_after_a_run": month.looks,
        "rows_looked_at_then": checked.rows,
        "dropped_rows_looked_at_then": checked.dropped,
        "seals_that_hold_at_the_end": sum(seals.values()),
        "waiting_at_the_end": month.proofs.waiting,
        "events": dict(sorted(month.events.items())),
        "faults_of_jobs": dict(sorted(month.jobs.faults.items())),
    }
    print(json.dumps(result, indent=2))
    Path(os.environ.get("K2_SOAK_RESULT", tmp_path / "result.json")).write_text(json.dumps(result, indent=2))
    assert (compared.lost, compared.doubled, compared.not_cold) == (0, 0, 0), compared.examples
    assert compared.dropped > compared.rows / 2
    assert checked.dropped
    for reason in month.proofs.waiting.values():
        assert "is not sealed in" in reason or "came after that day was removed" in reason, reason
    if lived >= LONG:
        assert {moment for moment in MOMENTS if not month.served[moment]} == set()
        assert month.events["cold table rolled back"]
