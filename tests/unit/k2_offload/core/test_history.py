"""What is read off a list of snapshots."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from k2_offload.core.history import Files, History, HistoryEntry, read_history

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)


def entry(parent, hours, window=True, more=1, total=None, rewrites=()):
    made_at = NOON + timedelta(hours=hours)
    size = None if total is None else total * 100
    return HistoryEntry(parent, made_at, window, rewrites, more, more * 100, total, size)


def test_what_no_branch_leads_to_is_staged():
    entries = {1: entry(None, -3), 2: entry(1, -2), 3: entry(1, -1), 4: entry(2, 0, total=2), 5: entry(9, -1)}
    history = read_history(entries, 4, [4, 5], NOON)
    assert (history.staged, history.oldest_staged) == (1, NOON - timedelta(hours=1))
    assert read_history(entries, 4, [4, 5, 3], NOON).staged == 0


def test_files_of_todays_windows_are_apart_from_all_others():
    entries = {
        1: entry(None, -20, more=5, total=5),
        2: entry(1, -1, more=2, total=7),
        3: entry(2, 0, window=False, more=-3, total=4, rewrites=(NOON.date() - timedelta(days=1),)),
    }
    history = read_history(entries, 3, [3], NOON)
    assert history.published_at == NOON - timedelta(hours=1), "compaction publishes no window"
    assert (history.today, history.closed) == (Files(2, 200), Files(2, 200))


def test_todays_files_that_were_rewritten_are_what_they_are_now():
    entries = {1: entry(None, -20, more=3, total=3), 2: entry(1, -1, more=5, total=8)}
    entries[3] = entry(2, 0, window=False, more=-4, total=4, rewrites=(NOON.date(),))
    history = read_history(entries, 3, [3], NOON)
    assert (history.today, history.closed) == (Files(1, 100), Files(3, 300))


def test_a_snapshot_that_rewrote_today_among_other_days_counts():
    entries = {1: entry(None, -1, more=5, total=5)}
    entries[2] = entry(1, 0, window=False, more=-4, total=1, rewrites=(NOON.date() - timedelta(days=9), NOON.date()))
    assert read_history(entries, 2, [2], NOON).today == Files(1, 100)


def test_what_another_writer_rewrote_today_never_makes_fewer_than_none():
    entries = {1: entry(None, -1, more=5, total=5), 2: entry(1, 0, window=False, more=-4, total=1)}
    assert read_history(entries, 2, [2], NOON).closed == Files(0, 0)


def test_a_table_that_does_not_say_how_many_files_it_has_has_no_number():
    history = read_history({1: entry(None, -1)}, 1, [1], NOON)
    assert history.today is history.closed is None
    assert read_history({}, None, [], NOON) == History()
