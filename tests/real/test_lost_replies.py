"""Requests and replies that get lost between the job, the catalog and the catalog's database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.exactly_once import watermark_of
from k2_offload.work.reconcile import reconcile
from k2_offload.work.seals import seal_days
from k2_offload.work.verify_seals import verify_sealed
from k2_offload.work.watermarks import find_skip, skip
from tests.stack.k2_offload.test_fault_matrix import Matrix
from tests.stack.k2_offload.test_maintenance import FAR_AHEAD, make_old, move, scattered, two_days_ago

__all__ = ["scattered"]

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
LATER = NOON + timedelta(days=1, hours=20)


def written(table):
    """The catalog tells its database a table's new metadata file: the first time to stage, the second to publish."""
    return rf"/{table}/metadata/.*?/{table}/metadata/".encode()


def asked(table):
    """The catalog is asked for a commit."""
    return rf"POST /v1/\S*/tables/{table} ".encode()


@pytest.fixture
def moved(workbench):
    """A table of two days, of which the first is over."""
    table = workbench.create_trades()
    for hours in (0, 20):
        workbench.insert_trades(table, NOON + timedelta(hours=hours), 20, start_sequence=1000 * hours)
    cycle = workbench.cycle(workbench.spec(table), now=LATER)
    workbench.move(cycle, table)
    return cycle, table


def test_a_mark_that_the_catalog_denies(lake, workbench, moved):
    """It loses its database's reply, writes again, finds that somebody was first, and answers 409."""
    cycle, table = moved
    spec, until = cycle.tables[table], LATER - timedelta(hours=1)
    lost = lake.to_database.lose_reply(written(table))
    skip(cycle.tiers, spec, find_skip(cycle.tiers, spec, until))
    assert lost.fired == 1
    assert watermark_of(cycle.catalog.load(spec).published) == until
    workbench.check(cycle, [table])
    workbench.insert_trades(table, until + timedelta(minutes=5), 20, start_sequence=10**6)
    workbench.move(cycle, table)
    workbench.check(cycle, [table])


def test_seals_that_the_catalog_denies(lake, moved):
    cycle, table = moved
    spec = cycle.tables[table]
    list(reconcile(cycle.tiers, [spec]))
    lost = lake.to_database.lose_reply(written("k2_seals"))
    done = seal_days(cycle.tiers, [spec])
    assert lost.fired == 1
    assert (len(done.seals), done.problems) == (1, [])
    found = verify_sealed(cycle.tiers, spec)
    assert (found.days, found.findings) == (1, [])


LOSSES = {
    "stage_request": lambda lake, table: lake.to_catalog.lose_request(asked(table)),
    "stage_reply": lambda lake, table: lake.to_catalog.lose_reply(asked(table)),
    "stage_denied": lambda lake, table: lake.to_database.lose_reply(written(table)),
    "publish_request": lambda lake, table: lake.to_catalog.lose_request(asked(table), occurrence=2),
    "publish_reply": lambda lake, table: lake.to_catalog.lose_reply(asked(table), occurrence=2),
    "publish_denied": lambda lake, table: lake.to_database.lose_reply(written(table), occurrence=2),
}


def test_the_job_outlives_the_loss_of_any_request_and_any_reply(lake, workbench):
    matrix = Matrix(workbench)
    tables = [matrix.add_table() for _ in LOSSES]
    planned = matrix.plan()
    rules = [lose(lake, table) for lose, table in zip(LOSSES.values(), tables, strict=True)]
    code, output = workbench.run_job(*planned.values(), parallel_tables=len(tables))
    assert dict(zip(LOSSES, (rule.fired for rule in rules), strict=True)) == dict.fromkeys(LOSSES, 1)
    assert (code, output.count(": published 1200 rows")) == (0, len(tables)), output
    matrix.recover()
    matrix.maintain()


@pytest.mark.parametrize("denied", [1, 2, 3], ids=["stage", "publish", "expire"])
def test_maintenance_whose_commit_is_denied(lake, workbench, scattered, denied):
    cycle, table = scattered
    rows = workbench.cold_rows(table)
    options = {"expire_before": FAR_AHEAD, "orphans_before": two_days_ago()}
    make_old(workbench, table)
    lost = lake.to_database.lose_reply(written(table), occurrence=denied)
    done = workbench.maintain(cycle, table, **options)
    assert (lost.fired, done.problems, done.after.files) == (1, (), 2)
    assert workbench.cold_rows(table) == rows
    assert workbench.files_referred_to(table) <= workbench.files_on_disk(table)
    move(workbench, table, 21)
    workbench.check(workbench.cycle(workbench.spec(table), now=LATER), [table])
