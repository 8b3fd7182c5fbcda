"""A report says what is known of a day, and what is not."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.ledger_records import MaintenanceRecord, TableRecord
from k2_offload.adapters.snapshot_chain import SnapshotEntry
from k2_offload.core.errors import ConfigurationError, InvalidCondition, Unreachable
from k2_offload.core.exactly_once import Snapshot, WindowId
from k2_offload.core.gaps import Gap, GapKind
from k2_offload.core.lag import USUAL_PAUSE
from k2_offload.core.observation import Comparisons, OffsetComparison, SealedDays, UnequalDay
from k2_offload.core.report import DayBounds
from k2_offload.core.windows import Window
from k2_offload.work import report
from k2_offload.work.report import check_day, read_report, yesterday
from k2_offload.work.report_page import render, write
from k2_offload.work.status import TableStatus
from tests.model.world import TABLES

DAY = DayBounds.of(date(2026, 11, 26))
NOON = datetime(2026, 11, 26, 12, tzinfo=UTC)
MADE_AT = DAY.end + timedelta(minutes=50)
WINDOW = WindowId("u", Window(NOON - timedelta(minutes=20), NOON - timedelta(minutes=5)))
MOVED = SnapshotEntry(NOON, "append", Snapshot(2, 1, 1, WINDOW, 1234, 5000), visible=True, files=1)
OLDER = SnapshotEntry(DAY.start - timedelta(hours=1), "append", Snapshot(1, 0, 1, None, 7, 7), visible=True)
STAGED = replace(MOVED, snapshot=replace(MOVED.snapshot, snapshot_id=3, rows=99), visible=False)
DOWN = Unreachable("ClickHouse", "k2_clickhouse", "refused")
NAME = "bronze_a"


def fail(error):
    def raising(*_, **__):
        raise error

    return raising


@pytest.fixture
def tiers(monkeypatch, on_record):  # noqa: ARG001 - the ledger holds nothing
    """A table with one window on the day, in the chain alone; the ledger knows the table and nothing of the window."""
    entries = [STAGED, MOVED, OLDER]
    cold = SimpleNamespace(chain=SimpleNamespace(latest=lambda: entries))
    ledger = SimpleNamespace(
        read_day=lambda _: ({}, []),
        read_tables=lambda: {NAME: TableRecord(NAME, NOON, "success", *[None] * 8)},
        read_gaps=dict,
        read_comparisons=dict,
    )
    monkeypatch.setattr(report, "read_status", lambda _, table, record, **__: TableStatus(table, record, late={}))
    services = {"load_cold": lambda _: cold, "ledger": ledger}
    return SimpleNamespace(**services, now=lambda: MADE_AT, pause=USUAL_PAUSE, entries=entries)


def read(tiers):
    return read_report(tiers, [TABLES[NAME]], DAY)


def test_what_moved_is_read_off_the_chain_and_what_was_only_staged_is_not(tiers):
    [found] = read(tiers).tables
    assert (found.figures.rows, found.figures.files, found.figures.from_chain) == (1234, 1, True)
    assert (
        f"- `{NAME}`: 1,234 rows, 1 windows, 5 KiB, 1 files; lag p50 20 min 00 s, p99 20 min 00 s" in read(tiers).note
    )


@pytest.mark.parametrize(
    ("buffer_seconds", "pause", "late"),
    [(300, USUAL_PAUSE, True), (1800, USUAL_PAUSE, False), (300, timedelta(hours=1), False)],
)
def test_a_lag_is_late_by_the_buffer_of_its_table_and_the_schedule(tiers, buffer_seconds, pause, late):
    tiers.pause = pause
    opened = WindowId("u", Window(NOON - timedelta(minutes=45), NOON - timedelta(minutes=30)))
    tiers.entries[1] = replace(MOVED, snapshot=replace(MOVED.snapshot, window_id=opened))
    table = replace(TABLES[NAME], buffer_seconds=buffer_seconds)
    html = render(read_report(tiers, [table], DAY))
    assert ('<td data-name="Lag p99" class="number warn">45 min 00 s</td>' in html) is late
    assert ('<td data-name="Lag p99" class="number">45 min 00 s</td>' in html) is not late


def test_a_day_without_runs_says_so_only_if_all_is_known(tiers):
    tiers.entries[:2] = []
    sentence = "No run moved, healed or tidied anything on that day."
    assert sentence in read(tiers).note
    assert sentence in render(read(tiers))
    tiers.load_cold = fail(Unreachable("Iceberg", "k2_iceberg", "refused"))
    assert sentence not in read(tiers).note
    assert "k2_iceberg" in read(tiers).note


def test_a_day_on_which_only_a_backfill_ran_is_not_one_without_runs(tiers):
    brought = replace(MOVED.snapshot, window_id=None, backfill="of a range", rows=10_000_000)
    tiers.entries[:2] = [replace(MOVED, snapshot=brought)]
    assert "0 rows moved, of 0 of 1 tables, and 10,000,000 backfilled." in read(tiers).note
    assert "0 late rows, days healed: 0, rows backfilled: 10,000,000" in read(tiers).note
    assert ">10,000,000</td>" in render(read(tiers))


def test_without_clickhouse_late_rows_are_not_known_and_the_rest_is(tiers, monkeypatch):
    monkeypatch.setattr(report, "read_status", fail(DOWN))
    [found] = read(tiers).tables
    assert (found.figures.rows, found.late_rows, found.problem) == (1234, None, str(DOWN))
    assert read(tiers).incomplete == [NAME]


def test_a_table_that_could_not_be_looked_at_is_incomplete(tiers, monkeypatch):
    problem = "bronze_a: ClickHouse has run out of memory (code 241)."
    monkeypatch.setattr(report, "read_status", lambda _, table, *__, **___: TableStatus(table, None, problem=problem))
    [found] = read(tiers).tables
    assert (found.figures.rows, found.late_rows, list(found.findings)) == (1234, None, [problem])
    assert read(tiers).incomplete == [NAME]


def test_without_the_ledger_no_figure_is_made_up(tiers):
    tiers.ledger.read_day = fail(Unreachable("Postgres (the ledger)", "k2_ledger", "refused"))
    [found] = read(tiers).tables
    assert found.figures is None
    assert "not known" in render(read(tiers))
    assert read(tiers).rows is None


def test_what_nobody_has_foreseen_is_told_where_the_report_is_read(tiers):
    tiers.ledger.read_day = fail(KeyError("rows"))
    assert "An unexpected error: KeyError: 'rows'. No row is affected." in read(tiers).note


def test_where_snapshots_have_expired_the_report_says_whose_figures_it_has(tiers):
    tiers.entries.remove(OLDER)
    assert f"Of {NAME}, the snapshots of that day have expired" in read(tiers).note
    assert "No run moved" not in read(tiers).note
    assert f"Of {NAME}, the snapshots of that day have expired" in render(read(tiers))


def test_days_that_differ_seals_messages_and_the_gaps_of_the_day_are_told(tiers, monkeypatch, on_record):
    hour = timedelta(hours=1)
    whole = UnequalDay(DAY.day, MADE_AT - 5 * hour, 0, 7, whole=True)
    of_day = UnequalDay(date(2026, 10, 1), NOON, 5, 0, whole=False)
    before = replace(of_day, unequal_since=NOON - 24 * hour, late_rows=1000)
    tiers.ledger.read_comparisons = lambda: {NAME: Comparisons(MADE_AT, (before, of_day, whole))}
    seals, messages = {NAME: SealedDays(3, broken=2)}, {NAME: OffsetComparison(MADE_AT, 11, 0, 0)}
    on_record(seals, messages)
    gaps = [Gap(WINDOW.window, GapKind.EXPIRED, 9, at) for at in (NOON, NOON - 24 * hour, NOON + 24 * hour)]
    monkeypatch.setattr(
        report, "read_status", lambda _, table, record, **__: TableStatus(table, record, late={}, gaps=gaps)
    )
    [found] = read(tiers).tables
    assert list(found.findings) == [
        f"days that differ: 2026-11-26, for 5 h 00 min (`k2 heal {NAME} --dry-run`).",
        f"late rows left out: 5 rows came too late to be healed (`k2 status {NAME}`).",
        f"seals: 2 sealed days are not what they were (`k2 verify --sealed {NAME}`).",
        f"messages: 11 messages are missing (`k2 verify --offsets {NAME}`).",
        f"rows missed: 1 gaps on record (`k2 status {NAME}`).",
    ]
    assert "2 sealed days are not what they were" in render(read(tiers))
    assert read(tiers).incomplete == []


def test_the_file_loads_nothing_and_takes_no_text_for_markup(tiers, monkeypatch):
    failed = TableRecord(NAME, NOON, "failed", *[None] * 8, reason="<script>alert(1)</script>")
    monkeypatch.setattr(report, "read_status", lambda _, table, *__, **___: TableStatus(table, failed))
    done = MaintenanceRecord(NAME, 96, 3, 10**8, 10**8, 1, 96, 700, 2, 1000, 12.5, None)
    tiers.ledger.read_day = lambda _: ({}, [done])
    html = render(read(tiers))
    assert "&lt;script&gt;" in html
    assert re.findall(r"(?:src|href|srcset|action)=|url\(|@import|<script|https?://", html) == []
    assert "Snapshots expired" in html


def test_a_place_that_cannot_be_written_is_named(tiers, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match=r"cannot be written to .*report_folder"):
        write(read(tiers), tmp_path / "file" / "report.html")
    write(read(tiers), tmp_path / "folder" / "report.html")
    assert [each.name for each in (tmp_path / "folder").iterdir()] == ["report.html"]


def test_a_day_that_has_begun_is_reported_so_far_and_one_to_come_is_refused(tiers):
    tiers.now = lambda: NOON
    assert "so far, until 2026-11-26 12:00:00" in read(tiers).note
    assert check_day(yesterday(MADE_AT), MADE_AT) == DAY
    with pytest.raises(InvalidCondition, match="2026-11-27 has not begun"):
        check_day(date(2026, 11, 27), NOON)
