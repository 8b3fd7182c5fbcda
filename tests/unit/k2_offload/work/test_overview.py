"""A service that is down leaves its part unknown; it is asked once, and what the others know stays."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.dag_runs import DagState
from k2_offload.adapters.ledger_records import RecordedWindow, TableRecord
from k2_offload.core.errors import Unreachable
from k2_offload.core.exactly_once import FIRST_WATERMARK
from k2_offload.core.gaps import Gap, GapKind
from k2_offload.core.needs import find_needs
from k2_offload.core.observation import Comparisons, DagObservation, OffsetComparison, Records, SealedDays, UnequalDay
from k2_offload.core.windows import Window
from k2_offload.work import overview
from k2_offload.work.overview import read_overview
from k2_offload.work.status import TableStatus
from tests.model.world import TABLES

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
DOWN = Unreachable("ClickHouse", "k2_clickhouse", "refused")


def down(*_, **__):
    raise DOWN


@pytest.fixture
def tiers(monkeypatch, on_record):  # noqa: ARG001 - the ledger holds nothing
    names = list(TABLES.by_name)
    known = {name: TableRecord(name, NOON - HOUR, "success", *[None] * 8) for name in names}
    ledger = SimpleNamespace(
        read_tables=lambda: known,
        read_gaps=dict,
        read_windows_since=lambda names, _: {name: [] for name in names},
        read_comparisons=dict,
    )
    clickhouse = SimpleNamespace(known_counts=lambda tables: {table.name: 7 for table in tables}, now=lambda: NOON)
    monkeypatch.setattr(overview, "read_dags", lambda names: {name: DagState(False) for name in names})
    monkeypatch.setattr(overview, "read_status", lambda _, table, record, **__: TableStatus(table, record, NOON))
    catalog = SimpleNamespace(ping=lambda: None)
    services = {"ledger": ledger, "clickhouse": clickhouse, "catalog": catalog}
    return SimpleNamespace(tables=TABLES, now=lambda: NOON, pause=6 * HOUR, **services)


def test_all_that_answers_is_shown(tiers):
    found = read_overview(tiers, {"bronze": "dag"})
    assert (found.ledger, list(found.problems), found.dags) == (True, [], {"bronze": DagState(False)})
    assert found.pause == 6 * HOUR
    assert {(each.looked_at, each.warm_rows, each.status.watermark) for each in found.tables} == {(True, 7, NOON)}


def test_what_tables_are_made_from_is_read_once_for_all_of_them(tiers, monkeypatch):
    shared = []

    def read_status(_, table, record, *, below, **__):
        shared.append(below)
        return TableStatus(table, record, NOON)

    monkeypatch.setattr(overview, "read_status", read_status)
    read_overview(tiers, {})
    assert len(shared) == len(TABLES.by_name)
    assert all(each is shared[0] for each in shared)


def test_the_windows_of_a_day_are_shown_however_many_they_are(tiers):
    windows = [
        RecordedWindow(at, at + HOUR / 60, "committed", "run", 1, 7, 7, 9, at, at)
        for at in (NOON - number * HOUR / 60 for number in range(1, 1500))
    ]
    tiers.ledger.read_windows_since = lambda names, since: {
        name: [each for each in windows if each.planned_at >= since] for name in names
    }
    assert {len(each.windows) for each in read_overview(tiers, {}).tables} == {24 * 60}


def test_without_clickhouse_the_ledger_speaks_and_no_table_is_asked_for(tiers, monkeypatch):
    monkeypatch.setattr(overview, "read_status", lambda *_, **__: pytest.fail("ClickHouse was waited for already"))
    tiers.clickhouse.known_counts = down
    first = next(iter(TABLES.by_name))
    tiers.ledger.read_tables()[first] = TableRecord(first, FIRST_WATERMARK, "initialized", *[None] * 8)
    found = read_overview(tiers, {})
    assert list(found.problems) == [str(DOWN)]
    assert not any(each.looked_at for each in found.tables)
    watermarks = [each.status.watermark for each in found.tables]
    assert watermarks == [None] + [NOON - HOUR] * (len(watermarks) - 1), "what never moved has none"


def test_a_catalog_that_falls_silent_is_waited_for_once(tiers, monkeypatch):
    asked = []

    def read_status(_, table, record, **__):
        asked.append(table.name)
        return TableStatus(table, record, NOON) if len(asked) == 1 else down()

    monkeypatch.setattr(overview, "read_status", read_status)
    tiers.catalog.ping = down
    found = read_overview(tiers, {})
    assert len(asked) == 2
    assert [each.looked_at for each in found.tables] == [True] + [False] * (len(found.tables) - 1)


def test_a_table_that_is_slow_hides_no_other(tiers, monkeypatch):
    slow = next(iter(TABLES.by_name))
    monkeypatch.setattr(
        overview,
        "read_status",
        lambda _, table, record, **__: down() if table.name == slow else TableStatus(table, record, NOON),
    )
    found = read_overview(tiers, {})
    assert [each.looked_at for each in found.tables] == [each.status.table.name != slow for each in found.tables]
    assert found.problems == [str(DOWN)]


def test_without_the_ledger_and_airflows_database_the_tiers_speak(tiers, monkeypatch):
    tiers.ledger.read_tables = down
    monkeypatch.setattr(overview, "read_dags", down)
    found = read_overview(tiers, {"bronze": "dag"})
    assert (found.ledger, found.dags, list(found.problems)) == (False, {}, [str(DOWN)])
    assert all(each.looked_at and each.status.record is None for each in found.tables)
    assert {each.records for each in found.tables} == {Records()}


@pytest.mark.parametrize(("retention", "late", "left_out"), [("ttl", 4, 103), ("proven", 7, 100)])
def test_late_rows_are_told_of_days_that_are_whole(tiers, retention, late, left_out):
    table = replace(next(iter(TABLES.by_name.values())), retention=retention, warm_retention_days=7)
    tiers.tables = SimpleNamespace(by_name={table.name: table})
    day = UnequalDay(NOON.date(), NOON, 4, 0, whole=True)
    old = replace(day, day=NOON.date() - timedelta(days=20), late_rows=3)
    gone = replace(old, day=NOON.date() - timedelta(days=21), late_rows=100, whole=False)
    tiers.ledger.read_comparisons = lambda: {table.name: Comparisons(NOON, (gone, old, day))}
    [found] = read_overview(tiers, {}).tables
    assert (found.records.late_rows, found.records.comparisons.left_out_rows) == (late, left_out)


def test_days_that_differ_seals_messages_and_gaps_reach_the_page(tiers, monkeypatch, on_record):
    first, second = list(TABLES.by_name)[:2]
    more, unreadable = (UnequalDay(NOON.date(), NOON - 5 * HOUR, 0, gone, whole=True) for gone in (7, 0))
    tiers.ledger.read_comparisons = lambda: {first: Comparisons(NOON, (more, unreadable))}
    seals, messages = {first: SealedDays(3, broken=1)}, {second: OffsetComparison(NOON, 5, 0, 0)}
    on_record(seals, messages)
    gap = Gap(Window(NOON - HOUR, NOON), GapKind.EXPIRED, 5, NOON)
    monkeypatch.setattr(
        overview, "read_status", lambda _, table, record, **__: TableStatus(table, record, NOON, gaps=[gap])
    )
    shown = {each.status.table.name: each for each in read_overview(tiers, {}).tables}
    needs = {name: [each.check for each in find_needs(name, shown[name].records, NOON)] for name in (first, second)}
    assert needs == {first: ["days that differ", "seals", "rows missed"], second: ["messages", "rows missed"]}


def test_the_dags_that_compare_and_tidy_are_judged_as_doctor_does(tiers, monkeypatch):
    paused = {"k2_reconcile": True, "k2_maintenance": False}
    monkeypatch.setattr(overview, "read_dags", lambda names: {name: DagState(paused.get(name)) for name in names})
    runs = {
        "k2_reconcile": DagObservation("k2_reconcile", None, 0, NOON, NOON, 1.0, 0),
        "k2_maintenance": DagObservation("k2_maintenance", None, 0, NOON, NOON, 1.0, 1),
    }
    monkeypatch.setattr(overview, "read_latest_runs", lambda dag_id, _: runs[dag_id])
    found = read_overview(tiers, {"bronze": "dag"}, list(paused))
    assert [(each.subject, each.found) for each in found.upkeep] == [
        ("k2_reconcile", "paused"),
        ("k2_maintenance", "the last run has failed"),
    ]
    assert found.dags == {"bronze": DagState(None)}
    monkeypatch.setattr(overview, "read_dags", down)
    assert read_overview(tiers, {"bronze": "dag"}, list(paused)).upkeep == []
