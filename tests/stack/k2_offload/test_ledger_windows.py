"""What the ledger says of many windows at once, on the real Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from k2_offload.core.exactly_once import Published, Snapshot, WindowId
from k2_offload.core.windows import Window

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def plan(ledger, table, at):
    """Opens a window at a time, and returns it."""
    window_id = WindowId(table, Window(at - 2 * MINUTE, at - MINUTE))
    with ledger.locked(table) as locked:
        locked.open(window_id, dag_run_id="run", rows=5, max_sequence=None, now=at)
    return window_id


def commit(ledger, table, window_id, rows=5):
    with ledger.locked(table) as locked:
        locked.commit(Published(Snapshot(1, None, 1, window_id, rows, 100 * rows), window_id), NOW)


def abandon(ledger, table, window_id):
    with ledger.locked(table) as locked:
        locked.abandon(window_id)


def test_the_windows_since_a_time_are_all_of_it_and_back_to_one_that_was_not_given_up(ledger):
    ledger.migrate()
    busy = [NOW - number * 5 * MINUTE for number in range(300)]
    for at in busy:
        commit(ledger, "busy", plan(ledger, "busy", at))
    commit(ledger, "quiet", plan(ledger, "quiet", NOW - 4 * DAY))
    commit(ledger, "quiet", plan(ledger, "quiet", NOW - 3 * DAY))
    abandon(ledger, "quiet", plan(ledger, "quiet", NOW - 2 * DAY))
    abandon(ledger, "lost", plan(ledger, "lost", NOW - 2 * DAY))
    abandon(ledger, "lost", plan(ledger, "lost", NOW))
    found = ledger.read_windows_since(["busy", "quiet", "lost", "unknown"], NOW - DAY)
    assert {table: [each.planned_at for each in windows] for table, windows in found.items()} == {
        "busy": busy[: 24 * 12 + 1],
        "quiet": [NOW - 2 * DAY, NOW - 3 * DAY],
        "lost": [NOW],
        "unknown": [],
    }
