"""Windows, heals, seals, maintenance and readers at one table at once: a reader sees the old rows or the new ones.

All at the same time: late trades come ten at a time and are healed, windows are published, days are rewritten and
sealed anew, snapshots expire, and files that no snapshot names are removed as soon as they are a minute old. One reader
asks the cold table, one the view over both tiers, in three time zones. K2_HEALS changes how many heals there are; two
hundred take about ten minutes.
"""

from __future__ import annotations

import os
import secrets
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from k2_offload.core.errors import OffloadError
from tests.soak.at_once import Table


def test_readers_see_the_old_rows_or_the_new_ones(stack, tmp_path):
    heals = int(os.environ.get("K2_HEALS") or 200)
    seed = int(os.environ.get("K2_SOAK_SEED") or secrets.randbelow(2**32))
    started = time.monotonic()
    with ExitStack() as resources:
        log = resources.enter_context((tmp_path / "jobs.log").open("w"))
        print(f"\nseed {seed}, log: {tmp_path / 'jobs.log'}")
        table = Table(stack, tmp_path, resources, log, seed)
        table.set_up()
        with ThreadPoolExecutor(5) as pool:
            work = [table.publish_windows, table.maintain, table.read_cold, table.read_view]
            ends = [pool.submit(_ending, table.ended, each) for each in work]
            ends.append(pool.submit(table.heal, heals))
            for end in ends:
                end.result()
        print(f"{(time.monotonic() - started) / 60:.1f} min, {dict(table.done)}")
        assert table.done["heals"] == heals
        assert len(table.boundaries) == 1, "a day that is healed is sealed anew before the view is renewed"
        bench, name = table.bench, table.name
        assert bench.cold_rows(name) == bench.warm_rows(name)
        assert bench.files_referred_to(name) <= bench.files_on_disk(name)


def _ending(ended, work):
    """One thread's failure ends all."""
    try:
        work()
    except (AssertionError, OffloadError, OSError):
        ended.set()
        raise
