"""The store or the catalog crashes in the middle of a job, and is started again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.real.crash import Crash
from tests.real.test_lost_replies import asked
from tests.stack.k2_offload.test_fault_matrix import Matrix

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def test_the_store_crashes_in_the_middle_of_a_multipart_upload(lake, workbench):
    table = workbench.create_trades(extra=", payload String")
    workbench.sql(
        f"INSERT INTO {table} SELECT toDateTime64('{NOON:%Y-%m-%d %H:%M:%S}', 6, 'UTC') + number, number, 'BTC/USDT', "
        "number / 7, NULL, randomPrintableASCII(16384) FROM numbers(4000)"
    )
    cycle = workbench.cycle(workbench.spec(table), now=NOON + timedelta(hours=3))
    planned = cycle.plan(cycle.tables[table])
    crash = Crash(lake.store.restart)
    rule = lake.to_store.when(rb"PUT /\S*partNumber=2\S*uploadId=|PUT /\S*uploadId=\S*partNumber=2", crash)
    code, output = workbench.run_job(planned)
    assert rule.fired == 1, output
    crash.wait()
    if code:
        code, output = workbench.run_job(planned)
    assert code == 0, output
    cycle.commit(cycle.tables[table])
    workbench.check(cycle, [table])
    assert workbench.files_referred_to(table) == workbench.files_on_disk(table)


@pytest.mark.parametrize("occurrence", [1, 2], ids=["stage", "publish"])
def test_the_catalog_crashes_with_a_commit_in_hand(lake, workbench, occurrence):
    matrix = Matrix(workbench)
    table, _ = matrix.add_table(), matrix.add_table()
    planned = matrix.plan()
    crash = Crash(lake.catalog.restart)
    rule = lake.to_catalog.when(asked(table), crash, occurrence)
    code, output = workbench.run_job(*planned.values())
    assert rule.fired == 1, output
    crash.wait()
    assert code in (0, 1), output
    assert "Traceback" not in output
    matrix.recover()
    matrix.maintain()
