"""What is away or broken is part of what was seen; and who asks at the same moment shares one look."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from k2_offload.adapters.ledger_records import TableRecord
from k2_offload.adapters.table_file import parse_tables
from k2_offload.core.dag_ids import watched_dags
from k2_offload.core.errors import ConfigurationError, NoAirflowDatabase, OffloadError, OldLedger, Refused, Unreachable
from k2_offload.core.gaps import Gap, GapKind
from k2_offload.core.metrics import METRICS
from k2_offload.core.observation import Comparisons, DagObservation, Observation, UnequalDay
from k2_offload.core.skips import Skips
from k2_offload.core.ttl import Removal, Storage
from k2_offload.core.windows import Window
from k2_offload.work import observe as module
from k2_offload.work.observe import LatestObservation, observe
from k2_offload.work.status import TableStatus

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
TABLES = parse_tables(
    "tables: {a: &t {layer: bronze, source: k2.a, target: cold.a, timestamp_column: at}, b: {<<: *t, target: cold.b}}"
)
DAG = DagObservation("k2_offload_bronze", None, 0, NOW, NOW, 1.0, 0)
AWAY = Unreachable("It", "a_connection", "no answer")


def failing(error):
    def fail(*_, **__):
        raise error

    return fail


@pytest.fixture
def tiers():
    """Services that answer, about tables that nothing is known of."""
    ledger = SimpleNamespace(
        read_tables=dict,
        read_gaps=dict,
        read_totals=lambda _: {},
        read_comparisons=dict,
        last_maintained=dict,
    )
    catalog = SimpleNamespace(ping=lambda: None, storage=lambda _: None)
    clickhouse = SimpleNamespace(now=lambda: NOW)
    services = {"ledger": ledger, "catalog": catalog, "clickhouse": clickhouse}
    return SimpleNamespace(tables=TABLES, now=lambda: NOW, schedule="0 */6 * * *", pause=timedelta(hours=6), **services)


@pytest.fixture(autouse=True)
def _tables_are_well(monkeypatch, on_record):  # noqa: ARG001 - the ledger holds nothing
    monkeypatch.setattr(module, "read_latest_runs", lambda *_: DAG)
    monkeypatch.setattr(module, "read_status", lambda _, table, record, **__: TableStatus(table, record))
    monkeypatch.setattr(module, "read_cold_status", lambda _, table, record: TableStatus(table, record, watermark=NOW))


def seen_of(tiers):
    return observe(tiers, {"k2_offload_bronze": ()}, lambda: 0.0)


def test_everything_answers(tiers):
    seen = seen_of(tiers)
    assert all(seen.up.values())
    assert [table.readable for table in seen.tables] == [True, True]
    assert seen.dags == [replace(DAG, missed=0)]


def test_the_buffer_of_each_table_and_the_schedule_are_seen(tiers):
    patient = {name: replace(table, buffer_seconds=3600) for name, table in TABLES.by_name.items()}
    tiers.tables = SimpleNamespace(by_name=patient)
    seen = seen_of(tiers)
    assert ({table.buffer for table in seen.tables}, seen.pause) == ({timedelta(hours=1)}, timedelta(hours=6))


def test_only_dags_that_the_table_file_makes_are_looked_at(tiers, monkeypatch):
    monkeypatch.setattr(module, "open_tiers", lambda **_: nullcontext(tiers))
    monkeypatch.setattr(module, "read_latest_runs", lambda dag_id, _: replace(DAG, dag_id=dag_id))
    seen = module.look(watched_dags, lambda: 0.0)
    assert [dag.dag_id for dag in seen.dags] == ["k2_offload_bronze", "k2_reconcile", "k2_maintenance", "k2_report"]


@pytest.mark.parametrize("error", [AWAY, Refused("It", "a_connection", "wrong password")])
def test_without_clickhouse_the_cold_side_is_seen(tiers, error):
    tiers.clickhouse.now = failing(error)
    seen = seen_of(tiers)
    assert [name for name, up in seen.up.items() if not up] == ["clickhouse"]
    assert [(table.watermark, table.lag_seconds, table.readable) for table in seen.tables] == [(NOW, None, None)] * 2
    assert seen.dags == [replace(DAG, missed=0)]


def test_without_the_catalog_the_ledger_is_seen(tiers):
    tiers.catalog.ping = failing(AWAY)
    seen = seen_of(tiers)
    assert [name for name, up in seen.up.items() if not up] == ["catalog"]
    assert [table.readable for table in seen.tables] == [None, None]
    assert all(table.totals is not None for table in seen.tables)


@pytest.mark.parametrize("error", [AWAY, OffloadError("It refused a statement."), KeyError("x")])
def test_without_the_ledger_nothing_is_said_that_it_would_know(tiers, error):
    tiers.ledger.read_tables = failing(error)
    seen = seen_of(tiers)
    assert [name for name, up in seen.up.items() if not up] == ["ledger"]
    assert [(table.readable, table.totals, table.failure) for table in seen.tables] == [(True, None, None)] * 2


def test_an_old_ledger_is_told_and_counts_as_up(tiers):
    tiers.ledger.read_tables = failing(OldLedger(7))
    seen = seen_of(tiers)
    assert all(seen.up.values())
    assert seen.old_ledger == str(OldLedger(7))
    assert [(table.readable, table.totals) for table in seen.tables] == [(True, None)] * 2


def test_without_airflows_database_no_runs_are_seen(tiers, monkeypatch):
    monkeypatch.setattr(module, "read_latest_runs", failing(NoAirflowDatabase("no answer")))
    seen = seen_of(tiers)
    assert [name for name, up in seen.up.items() if not up] == ["airflow"]
    assert seen.dags == []


@pytest.mark.parametrize("surprise", [KeyError("x"), "no such column"])
def test_one_broken_table_is_unreadable_and_the_other_is_seen(tiers, monkeypatch, surprise):
    def read(_, table, record, **__):
        if table.name != "a":
            return TableStatus(table, record)
        if isinstance(surprise, Exception):
            raise surprise
        return TableStatus(table, record, problem=surprise)

    monkeypatch.setattr(module, "read_status", read)
    assert [table.readable for table in seen_of(tiers).tables] == [False, True]


def test_a_service_that_goes_in_the_middle_is_away_and_the_rest_is_seen(tiers, monkeypatch):
    def read(tiers, _table, _record, **__):
        tiers.clickhouse.now = failing(AWAY)
        raise AWAY

    monkeypatch.setattr(module, "read_status", read)
    seen = seen_of(tiers)
    assert seen.up["clickhouse"] is False
    assert [(table.readable, table.watermark) for table in seen.tables] == [(None, None), (None, NOW)]


WEEK_OLD = NOW - timedelta(days=6.5)


def broken(_, __, ___, **____):
    raise KeyError


def unread(_, table, record, **__):
    return TableStatus(table, record, problem="damaged")


@pytest.mark.parametrize("read", [None, broken, unread], ids=["no catalog", "unexpected", "problem"])
@pytest.mark.parametrize("source", ["there", "gone"])
def test_a_table_that_stands_still_says_when_its_rows_expire(tiers, monkeypatch, read, source):
    monkeypatch.setattr(module, "read_cold_status", lambda _, table, record: TableStatus(table, record))
    if read is None:
        tiers.catalog.ping = failing(AWAY)
    else:
        monkeypatch.setattr(module, "read_status", read)
    tiers.ledger.read_tables = lambda: {"a": TableRecord("a", WEEK_OLD, "failed", *[None] * 8)}
    if source == "gone":
        tiers.clickhouse.oldest_row = failing(OffloadError("no such table"))
    else:
        tiers.clickhouse.oldest_row = lambda _, since, before: since if before == NOW else None
        tiers.clickhouse.storage = lambda _: Storage("k2.a", (Removal("at + 7"),))
        tiers.clickhouse.first_expiry = lambda _, __, oldest: oldest + timedelta(days=7)
        tiers.clickhouse.column_ttls = lambda _: {}
    known, unknown = seen_of(tiers).tables
    assert (known.lag_seconds, known.ttl_seconds) == (6.5 * 86400, 0.5 * 86400)
    assert (known.refused, known.silent, known.readable) == (None, None, None if read is None else False)
    assert (unknown.lag_seconds, unknown.ttl_seconds) == (None, None)


@pytest.mark.parametrize(("error", "up"), [(AWAY, False), (Refused("It", "a_connection", "no right"), True)])
def test_a_storage_that_is_away_is_no_change_of_a_table(tiers, monkeypatch, error, up):
    monkeypatch.setattr(module, "read_status", failing(AWAY))
    tiers.catalog.storage = lambda _: SimpleNamespace(new_file=str, read=failing(error), location="s3://lake")
    seen = seen_of(tiers)
    assert seen.up["catalog"] is up
    assert [table.readable for table in seen.tables] == [False if up else None] * 2


class Looks:
    """Looks that wait to be let go, and take as long as the clock is moved meanwhile."""

    def __init__(self):
        self.number, self.time = 0, 100.0
        self.error = None
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self):
        self.number += 1
        self.go_on.wait(30)
        if self.error:
            raise self.error
        return Observation(NOW, float(self.number), {})

    def clock(self):
        return self.time


@pytest.fixture
def looks():
    return Looks()


def test_who_asks_at_the_same_moment_shares_one_look(looks):
    looks.go_on.clear()
    latest = LatestObservation(looks, looks.clock, wait_seconds=30)
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(latest.get) for _ in range(8)]
        looks.go_on.set()
        assert {each.result().seconds for each in asked} == {1.0}
    assert looks.number == 1


def test_services_are_asked_at_most_every_fifteen_seconds(looks):
    latest = LatestObservation(looks, looks.clock, wait_seconds=30)
    for seconds, expected in ((0, 1), (14.9, 1), (0.1, 2), (1, 2)):
        looks.time += seconds
        assert latest.get().seconds == expected
    assert looks.number == 2


def test_a_long_look_is_followed_by_a_longer_pause(looks):
    def slow():
        looks.time += 20
        return looks()

    latest = LatestObservation(slow, looks.clock, wait_seconds=30)
    assert latest.get().seconds == 1
    looks.time += 59
    assert latest.get().seconds == 1
    looks.time += 1
    assert latest.get().seconds == 2


def test_a_look_that_does_not_end_hangs_nobody_and_what_was_seen_before_is_shown(looks):
    latest = LatestObservation(looks, looks.clock, wait_seconds=0.01)
    looks.go_on.clear()
    assert latest.get() is None
    looks.go_on.set()
    first = LatestObservation(looks, looks.clock, wait_seconds=30).get()
    assert first is not None
    latest = LatestObservation(looks, looks.clock, wait_seconds=0.2)
    before = latest.get()
    looks.go_on.clear()
    looks.time += 15
    assert latest.get() is before
    looks.go_on.set()


@pytest.mark.parametrize("error", [ConfigurationError("no connection"), OffloadError("no file"), KeyError("x")])
def test_after_a_look_that_failed_nothing_old_is_shown_and_the_next_one_is_tried(looks, error):
    latest = LatestObservation(looks, looks.clock, wait_seconds=30)
    assert latest.get() is not None
    looks.time, looks.error = looks.time + 15, error
    assert latest.get() is None
    looks.time, looks.error = looks.time + 15, None
    assert latest.get() is not None


def test_of_a_table_that_cannot_be_read_nobody_knows_what_it_has_missed(tiers, monkeypatch):
    ranges = [Window(NOW - timedelta(days=days), NOW - timedelta(days=days - 0.5)) for days in (2, 1)]
    undone, standing = (Gap(each, GapKind.SKIPPED, 9, NOW) for each in ranges)
    expired = Gap(ranges[0], GapKind.EXPIRED, None, NOW)
    tiers.ledger.read_gaps = lambda: {"a": [undone, standing, expired], "b": [undone, expired]}
    chain = {"a": Skips((ranges[1],)), "b": None}

    def read(_, table, record, **__):
        return TableStatus(table, record, skips=chain[table.name])

    monkeypatch.setattr(module, "read_status", read)
    with_chain, without_table = seen_of(tiers).tables
    assert list(with_chain.gaps) == [expired, standing]
    assert list(without_table.gaps) == [expired], "none was made yet, so nothing of it was skipped"
    assert [with_chain.skips, without_table.skips] == [chain["a"], Skips()]
    monkeypatch.setattr(module, "read_status", unread)
    monkeypatch.setattr(module, "read_cold_status", lambda _, table, record: TableStatus(table, record, problem="gone"))
    assert [table.gaps for table in seen_of(tiers).tables] == [None, None]
    tiers.catalog.ping = failing(AWAY)
    assert [table.gaps for table in seen_of(tiers).tables] == [None, None]
    unknown = [metric for metric in METRICS if metric.name in {"k2_gaps", "k2_skipped_seconds"}]
    assert [list(metric.read(seen_of(tiers))) for metric in unknown] == [[], []]


@pytest.mark.parametrize(("retention", "whole"), [("ttl", [False, False, True]), ("proven", [False, True, True])])
def test_an_unequal_day_is_whole_until_a_clock_may_reach_it(tiers, retention, whole):
    table = replace(TABLES["a"], retention=retention, warm_retention_days=7)
    tiers.tables = SimpleNamespace(by_name={"a": table})
    day = UnequalDay(NOW.date(), NOW, 4, 0, whole=True)
    old = replace(day, day=NOW.date() - timedelta(days=20))
    gone = replace(day, whole=False)
    tiers.ledger.read_comparisons = lambda: {"a": Comparisons(NOW, (gone, old, day))}
    [found] = observe(tiers, {}, lambda: 0.0).tables
    assert [each.whole for each in found.comparisons.unequal] == whole
