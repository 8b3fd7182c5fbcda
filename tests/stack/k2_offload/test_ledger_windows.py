"""What the ledger says of many windows at once, on the real Postgres."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from k2_offload.adapters.ledger_sql import migrations, statements
from k2_offload.core.errors import OldLedger
from k2_offload.core.exactly_once import FIRST_WATERMARK, Published, Snapshot, WindowId
from k2_offload.core.report import DayBounds
from k2_offload.core.windows import Window

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)


def plan(ledger, table, at, first_row=None):
    """Opens a window at a time, and returns it."""
    window_id = WindowId(table, Window(at - 2 * MINUTE, at - MINUTE))
    with ledger.locked(table) as locked:
        locked.open(window_id, dag_run_id="run", rows=5, max_sequence=None, first_row=first_row, now=at)
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


def test_lag_is_counted_from_the_first_row_of_a_window_and_from_its_beginning_where_that_is_not_known(ledger):
    ledger.migrate()
    at, candle = NOW - 3 * MINUTE, NOW - 20 * MINUTE
    commit(ledger, "candles", plan(ledger, "candles", at, first_row=candle))
    commit(ledger, "planned_before", plan(ledger, "planned_before", at))
    lags = {table: (each.lag_p50, each.lag_p99) for table, each in ledger.read_totals(NOW).items()}
    assert lags == {"candles": (1200, 1200), "planned_before": (300, 300)}
    windows, _ = ledger.read_day(DayBounds.of(NOW.date()))
    assert {table: each.first_row for table, [each] in windows.items()} == {"candles": candle, "planned_before": None}


def added_up(database):
    """What all windows of each table add up to, from the windows themselves."""
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT table_name, count(*) FILTER (WHERE state = 'committed'), "
            "count(*) FILTER (WHERE state = 'abandoned'), count(*) FILTER (WHERE state = 'open'), "
            "coalesce(sum(rows) FILTER (WHERE state = 'committed'), 0), "
            "coalesce(sum(size_bytes) FILTER (WHERE state = 'committed'), 0), sum(attempts - 1), sum(failures), "
            "coalesce(max(failures) FILTER (WHERE state = 'open'), 0), min(planned_at) "
            "FROM k2_offload.offload_windows GROUP BY table_name"
        )
        return {table: tuple(figures) for table, *figures in rows}


def totals(ledger):
    """The same, as the ledger has it."""
    return {
        table: (
            each.committed, each.abandoned, each.open, each.rows, each.size_bytes, each.retries, each.failures,
            each.open_failures, each.first_planned_at,
        )
        for table, each in ledger.read_totals(NOW).items()
    }  # fmt: skip


def test_totals_are_those_of_all_windows_whatever_has_changed_them(ledger, database):
    ledger.migrate()

    def resume_and_fail(window_id):
        with ledger.locked("a") as locked:
            locked.resume(window_id, "again")
            locked.fail(window_id, "why")

    def by_hand(statement):
        with psycopg.connect(database) as connection:
            connection.execute(statement)

    first, second = plan(ledger, "a", NOW), plan(ledger, "b", NOW + MINUTE)
    steps = [
        lambda: resume_and_fail(first),
        lambda: commit(ledger, "a", first, rows=7),
        lambda: commit(ledger, "a", first, rows=8),  # recorded again
        lambda: abandon(ledger, "b", second),
        lambda: plan(ledger, "b", NOW + MINUTE),  # the same window, opened again
        lambda: commit(ledger, "b", second),
        lambda: abandon(ledger, "a", plan(ledger, "a", NOW + DAY)),
        lambda: plan(ledger, "a", NOW + 2 * DAY),
        lambda: by_hand("UPDATE k2_offload.offload_windows SET rows = 1, state = 'committed' WHERE table_name = 'a'"),
        lambda: by_hand("DELETE FROM k2_offload.offload_windows WHERE attempts > 1"),
        lambda: by_hand("DELETE FROM k2_offload.offload_windows WHERE table_name = 'b'"),
    ]
    for number, step in enumerate(steps):
        step()
        assert totals(ledger) == added_up(database), number
    assert totals(ledger) == {"a": (2, 0, 0, 2, 0, 0, 0, 0, NOW + DAY)}


def test_an_upgrade_adds_up_the_windows_that_are_there(ledger, database, monkeypatch):
    scripts = {number: script for number, script in migrations().items() if number != 15}
    with monkeypatch.context() as patch:
        patch.setattr("k2_offload.adapters.ledger.migrations", lambda: scripts)
        ledger.migrate()
    commit(ledger, "a", plan(ledger, "a", NOW - DAY), rows=9)
    abandon(ledger, "a", plan(ledger, "a", NOW - MINUTE))
    opened = plan(ledger, "a", NOW)
    plan(ledger, "b", NOW)
    with pytest.raises(OldLedger, match="migration 0015 is missing"):
        ledger.read_totals(NOW)
    ledger.migrate()
    assert (
        totals(ledger)
        == added_up(database)
        == {
            "a": (1, 1, 1, 9, 900, 0, 0, 0, NOW - DAY),
            "b": (0, 0, 1, 0, 0, 0, 0, 0, NOW),
        }
    )
    commit(ledger, "a", opened)
    assert totals(ledger) == added_up(database)


def rows_read(node, relation):
    """How many rows of a table the steps of an analyzed plan have looked at."""
    removed = node.get("Rows Removed by Filter", 0) + node.get("Rows Removed by Index Recheck", 0)
    own = (node["Actual Rows"] + removed) * node["Actual Loops"] if node.get("Relation Name") == relation else 0
    return own + sum(rows_read(each, relation) for each in node.get("Plans", ()))


def test_a_look_at_the_totals_does_not_read_the_windows_of_years(ledger, database):
    ledger.migrate()
    plan(ledger, "a", NOW)
    values = {"first": FIRST_WATERMARK, "since": NOW - DAY}
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(
            "INSERT INTO k2_offload.offload_windows (window_id, table_name, low, high, state, dag_run_id, planned_rows,"
            " planned_at, committed_at, rows) SELECT number, 'a', at, at + interval '1 min', 'committed', 'run', 1, at,"
            " at, 1 FROM (SELECT number, %s - number * interval '15 min' AS at FROM generate_series(1, 30000) number)"
            " AS windows ORDER BY at",
            [NOW],
        )
        connection.execute("VACUUM ANALYZE k2_offload.offload_windows")
        [[[explained]]] = connection.execute(
            "EXPLAIN (ANALYZE, FORMAT JSON) " + statements()["window_totals"], values
        ).fetchall()
    assert rows_read(explained["Plan"], "offload_windows") < 3000
    assert ledger.read_totals(NOW)["a"].rows == 30_000
