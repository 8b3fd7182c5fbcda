"""What is not brought, and what the person who asked for it is told."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.core.errors import NotBegun, OffloadError
from k2_offload.core.exactly_once import Published, Snapshot, WindowId
from k2_offload.core.gaps import Shortage
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import Window
from k2_offload.work.backfill import LeftOut, find_left_out, plan_backfills

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
SKIPPED = Window(NOON, NOON + timedelta(hours=1))
WINDOW_ID = WindowId("uuid", SKIPPED)


def spec(**changes):
    values = {
        "name": "t", "layer": "bronze", "source": "k2.t", "target": "cold.t", "timestamp_column": "at",
        "partition_column": "at", "job_group": "bronze",
    } | changes  # fmt: skip
    return TableSpec(**values)


def tiers_with(cold):
    return SimpleNamespace(
        load_cold=lambda _: cold, clickhouse=SimpleNamespace(columns=lambda _: (), rows_per_step=len)
    )


@pytest.mark.parametrize(
    ("schema_changes", "command"),
    [("refuse", "k2 schema t --apply"), ("follow", "k2 run t")],
    ids=lambda each: each[:6],
)
def test_columns_that_have_changed_come_before_a_backfill(schema_changes, command):
    published = Published(Snapshot(1, None, 1, WINDOW_ID, 0, 0), WINDOW_ID)
    cold = SimpleNamespace(published=published, check_source=lambda *_: ("note to be added",))
    with pytest.raises(OffloadError, match=rf"`{command}` lets it follow; then `k2 backfill t` brings it"):
        find_left_out(tiers_with(cold), spec(schema_changes=schema_changes))


def test_a_table_that_has_not_begun_says_so():
    with pytest.raises(NotBegun, match=r"holds no window yet.*`k2 run t`"):
        find_left_out(tiers_with(None), spec())


@pytest.mark.parametrize("accepts", [False, True], ids=["refused", "accepted"])
@pytest.mark.parametrize(
    ("rows", "found", "expires", "reason"),
    [
        pytest.param(10, 9, False, r"10 rows were left out .* shows 9 of them .*--accept-fewer", id="one has gone"),
        pytest.param(10, 9, True, None, id="one has expired"),
        pytest.param(10, 0, True, r"shows no row of what was left out in .*--accept-fewer", id="all have gone"),
        pytest.param(None, 0, True, "shows no row of what was left out in", id="nobody knows, and none is there"),
    ],
)
def test_what_the_source_lacks_stops_it_unless_waiting_costs_more(rows, found, expires, reason, accepts):
    left = Window(NOON - timedelta(hours=1), NOON) if expires else SKIPPED
    lacking = LeftOut(spec(), None, (), (), found, NOON, (Shortage(left, rows, found),))
    refused = reason is not None and not accepts
    with pytest.raises(OffloadError, match=reason) if refused else nullcontext():
        assert list(plan_backfills(tiers_with(None), lacking, accept_fewer=accepts)) == []
