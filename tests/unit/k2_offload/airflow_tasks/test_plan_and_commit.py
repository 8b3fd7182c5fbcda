"""The two tasks around the job, over simulated services: tables are isolated, and nothing secret is handed on."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from unittest.mock import Mock

import pytest
from airflow.sdk.exceptions import AirflowFailException

from k2_offload.adapters import retry
from k2_offload.airflow_tasks import commit, plan
from k2_offload.core.errors import Busy, InvalidSource, OffloadError, Overloaded, Unreachable, UnreadableTable
from k2_offload.core.exactly_once import FIRST_WATERMARK, WindowId
from k2_offload.core.plan import Plan
from k2_offload.core.tables import Tables
from k2_offload.core.ttl import TimeLeft
from k2_offload.core.windows import format_time
from tests.model.iceberg import SimulatedCatalog
from tests.model.world import World

BRONZE = ["bronze_a", "bronze_b"]


class Events:
    def __init__(self):
        self.sent = []

    def __getitem__(self, _):
        return self

    def add(self, asset, extra):
        self.sent.append((asset.name, extra))


@pytest.fixture
def world(monkeypatch):
    world = World()
    for _ in range(20):
        world.now += timedelta(minutes=1)
        for bronze in BRONZE:
            world.trade(bronze, world.now)

    @contextmanager
    def open_tiers():
        yield world.cycle().tiers

    for task in (plan, commit):
        monkeypatch.setattr(task, "open_tiers", open_tiers)
    monkeypatch.setattr("k2_offload.adapters.ledger.Ledger.migrate", lambda _: None)
    monkeypatch.setattr(retry, "FIRST_PAUSE_SECONDS", 0)
    monkeypatch.setattr(retry, "LONGEST_PAUSE_SECONDS", 0)
    return world


def planned(layer="bronze", events=None, **params):
    task = plan.PlanOffloadOperator(task_id="plan", layer=layer)
    return task.execute({"run_id": "run", "params": {"tables": []} | params, "outlet_events": events or Events()})


def committed():
    events = Events()
    task = commit.CommitWatermarkOperator(task_id="commit", layer="bronze")
    return task.execute({"run_id": "run", "outlet_events": events}), events.sent


def failing_for(monkeypatch, module, function, table, error):
    real = getattr(module, function)

    def fail(tiers, spec, *rest, **named):
        if spec.name == table:
            raise error
        return real(tiers, spec, *rest, **named)

    monkeypatch.setattr(module, function, fail)


@pytest.mark.usefixtures("world")
def test_the_tables_of_one_job_group_share_an_application():
    [arguments] = planned()
    assert arguments.keys() == {"job_group", "plan"}
    assert [window.table for window in Plan.from_json(arguments["plan"]).windows] == BRONZE


@pytest.mark.usefixtures("world")
def test_a_run_may_choose_its_tables_and_a_wrong_name_fails_it_for_good():
    [arguments] = planned(tables=["bronze_b"])
    assert [window.table for window in Plan.from_json(arguments["plan"]).windows] == ["bronze_b"]
    with pytest.raises(AirflowFailException, match="no table 'x'"):
        planned(tables=["x"])


def test_a_table_that_cannot_be_planned_is_refused_in_the_plan_and_failed_in_the_ledger(world, monkeypatch):
    failing_for(monkeypatch, plan, "plan", "bronze_a", InvalidSource("bronze_a: no such source"))
    [arguments] = planned()
    made = Plan.from_json(arguments["plan"])
    assert [window.table for window in made.windows] == ["bronze_b"]
    assert [(refused.table, refused.reason) for refused in made.refused] == [("bronze_a", "bronze_a: no such source")]
    row = world.postgres.entries["bronze_a"].row
    assert (row.status, row.reason) == ("failed", "bronze_a: no such source")
    committed()
    assert world.postgres.entries["bronze_a"].row == row


def plan_with_ttl_of_bronze_a(monkeypatch, left, asked=None):
    """Plan bronze while the TTL leaves so much time for what this run does not move; returns the plans."""

    def look(_, table, watermark, now):
        if asked is not None:
            asked[table.name] = watermark
        return TimeLeft(now - timedelta(days=6), now + left, "k2.bronze_a") if table.name == "bronze_a" else None

    with monkeypatch.context() as patch:
        patch.setattr(plan, "look_at_ttl", look)
        return [Plan.from_json(arguments["plan"]) for arguments in planned()]


@pytest.mark.usefixtures("world")
def test_where_the_ttl_is_an_hour_away_the_run_moves_what_it_can_and_is_red(monkeypatch):
    [made] = plan_with_ttl_of_bronze_a(monkeypatch, timedelta(minutes=59))
    assert [window.table for window in made.windows] == BRONZE
    [danger] = made.refused
    assert danger.reason.startswith("bronze_a: 0 h 59 min left until the TTL of k2.bronze_a")
    assert "`SYSTEM STOP TTL MERGES k2.bronze_a`" in danger.reason


@pytest.mark.usefixtures("world")
def test_where_the_ttl_is_a_day_away_the_log_says_so(monkeypatch, caplog):
    [made] = plan_with_ttl_of_bronze_a(monkeypatch, timedelta(hours=23))
    assert made.refused == ()
    assert any(warning.startswith("bronze_a: 23 h 00 min left until the TTL") for warning in caplog.messages)


def test_a_window_counts_as_moved_unless_the_run_before_has_failed_to(world, monkeypatch):
    asked: dict[str, datetime] = {}
    [made] = plan_with_ttl_of_bronze_a(monkeypatch, timedelta(days=5), asked)
    [window, _] = [WindowId.parse(each.window_id).window for each in made.windows]
    assert asked["bronze_a"] == window.high
    committed()
    assert world.postgres.entries["bronze_a"].row.status == "failed"
    plan_with_ttl_of_bronze_a(monkeypatch, timedelta(days=5), asked)
    assert asked["bronze_a"] == window.low


def test_a_refused_table_is_told_that_its_rows_are_about_to_go(world, monkeypatch):
    world.begin("bronze").proceed()
    asked: dict[str, datetime] = {}
    failing_for(monkeypatch, plan, "plan", "bronze_a", InvalidSource("bronze_a: another column"))
    [made] = plan_with_ttl_of_bronze_a(monkeypatch, timedelta(minutes=5), asked)
    assert asked["bronze_a"] == world.watermark("bronze_a")
    assert [refused.reason[:30] for refused in made.refused] == [
        "bronze_a: another column",
        "bronze_a: 0 h 05 min left unti",
    ]


def test_a_window_that_was_not_published_is_a_failure_and_a_better_known_reason_stays(world, monkeypatch):
    planned()
    committed()
    row = world.postgres.entries["bronze_a"].row
    assert row.status == "failed"
    assert "planned and not published" in row.reason
    assert "`k2 run bronze_a`" in row.reason
    with monkeypatch.context() as patch:
        failing_for(patch, plan, "plan", "bronze_a", InvalidSource("bronze_a: no such source"))
        planned()
    committed()
    assert world.postgres.entries["bronze_a"].row.reason == "bronze_a: no such source"
    world.begin("bronze").proceed()
    assert world.postgres.entries["bronze_a"].row.reason is None


def test_a_run_loads_each_table_of_the_layer_below_once(world, monkeypatch):
    for layer in ("bronze", "silver"):
        world.begin(layer).proceed()
    loaded = Counter()
    real = SimulatedCatalog.load

    def load(catalog, table):
        loaded[table.name] += 1
        return real(catalog, table)

    monkeypatch.setattr(SimulatedCatalog, "load", load)
    assert planned(layer="gold")
    assert loaded == {"silver": 1, "candles_1m": 1, "candles_5m": 1}


def test_nothing_goes_by_the_newest_row_of_a_table_whose_timestamp_column_was_edited(world):
    for layer in ("bronze", "silver"):
        world.begin(layer).proceed()
    edited = replace(world.tables["silver"], timestamp_column="starts", partition_column="at")
    world.tables = Tables({**world.tables.by_name, "silver": edited})
    [arguments] = planned(layer="gold")
    made = Plan.from_json(arguments["plan"])
    assert made.windows == ()
    assert all("silver: its windows were cut on 'at'" in refused.reason for refused in made.refused)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (Busy("k2_ledger"), "Another run has held this table"),
        (Overloaded(241, "Memory limit exceeded"), "the next run tries again"),
        (
            UnreadableTable("bronze_a", "k2_iceberg", "FileNotFoundError: 7.metadata.json"),
            "bronze_a: .*7.metadata.json",
        ),
        (ValueError("invalid literal for int()"), "bronze_a: .*unexpected.*log of task `plan`"),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.usefixtures("world")
def test_whatever_is_wrong_with_one_table_the_others_of_its_layer_are_planned(monkeypatch, error, words):
    failing_for(monkeypatch, plan, "plan", "bronze_a", error)
    [arguments] = planned()
    made = Plan.from_json(arguments["plan"])
    assert [window.table for window in made.windows] == ["bronze_b"]
    assert re.search(words, made.refused[0].reason)


def test_the_silence_of_a_stuck_replica_vouches_for_nothing(world):
    world.begin("bronze").proceed()
    before = {name: world.postgres.entries[name].row for name in BRONZE}
    world.now += timedelta(minutes=50)
    world.trade("bronze_b", world.now - timedelta(minutes=10))
    world.clickhouse.replicas["k2.bronze_a"] = (False, 3000)
    [arguments] = planned()
    made = Plan.from_json(arguments["plan"])
    assert [window.table for window in made.windows] == ["bronze_b"]
    [refused] = made.refused
    assert refused.reason.startswith("bronze_a: on server simulated, the replica of k2.bronze_a is 3,000 s behind")
    row = world.postgres.entries["bronze_a"].row
    assert (row.status, row.looked_at) == ("failed", before["bronze_a"].looked_at)
    world.clickhouse.replicas["k2.bronze_a"] = (False, 0)
    [arguments] = planned()
    assert [window.table for window in Plan.from_json(arguments["plan"]).windows] == BRONZE


@pytest.mark.usefixtures("world")
def test_a_table_that_another_run_holds_to_the_end_is_refused_all_the_same(monkeypatch):
    failing_for(monkeypatch, plan, "plan", "bronze_a", Busy("k2_ledger"))
    failing_for(monkeypatch, plan, "mark_failed", "bronze_a", Busy("k2_ledger"))
    [arguments] = planned()
    assert [refused.table for refused in Plan.from_json(arguments["plan"]).refused] == ["bronze_a"]


@pytest.mark.usefixtures("world")
def test_a_service_that_is_down_fails_the_task_so_that_airflow_tries_again(monkeypatch):
    failing_for(monkeypatch, plan, "plan", "bronze_b", Unreachable("ClickHouse", "c", "gone"))
    with pytest.raises(Unreachable):
        planned()


def publish_and_crash(world):
    """Both bronze tables, whose windows nobody has committed."""
    world.begin("bronze").proceed(("ledger commit",))
    actor = world.running("bronze")[0]
    while world.head("bronze_a") is None or world.head("bronze_b") is None:
        actor.go()
    actor.crash()


def test_a_plan_that_finds_windows_published_tells_of_them_and_no_commit_does_again(world, monkeypatch):
    publish_and_crash(world)
    events = Events()
    with monkeypatch.context() as patch:  # the ledger's transaction is undone
        failing_after(patch, plan, "plan", "bronze_a", InvalidSource("bronze_a: no such source"))
        planned(events=events)
    assert [(name, extra["kind"], extra["rows"]) for name, extra in events.sent] == [
        ("k2/cold.bronze_b", "window", len(world.cold("bronze_b")))
    ]
    planned(events=events)
    assert [name for name, _ in events.sent] == ["k2/cold.bronze_b", "k2/cold.bronze_a"]
    assert committed()[1] == []


def failing_after(monkeypatch, module, function, table, error):
    """Within the transaction, which is undone."""
    real = getattr(module, function)

    def fail(tiers, spec, *rest):
        with monkeypatch.context() as patch:
            if spec.name == table:
                patch.setattr("k2_offload.work.cycle.follow_source", Mock(side_effect=error))
            return real(tiers, spec, *rest)

    monkeypatch.setattr(module, function, fail)


def test_commit_follows_what_was_published_and_tells_of_each_window(world):
    publish_and_crash(world)
    watermarks, events = committed()
    assert watermarks == {name: format_time(world.watermark(name)) for name in BRONZE}
    assert min(watermarks.values()) > format_time(FIRST_WATERMARK)
    assert [name for name, _ in events] == ["k2/cold.bronze_a", "k2/cold.bronze_b"]
    assert all(extra["rows"] == len(world.cold(table)) > 0 for table, (_, extra) in zip(BRONZE, events, strict=True))
    assert committed() == (watermarks, [])


@pytest.mark.parametrize("error", [OffloadError("bronze_a: unreadable"), KeyError("unreadable")])
def test_a_table_that_cannot_be_read_silences_no_other_and_is_told_of_later(world, monkeypatch, caplog, error):
    publish_and_crash(world)
    with monkeypatch.context() as patch:
        failing_for(patch, commit, "commit", "bronze_a", error)
        watermarks, events = committed()
    assert watermarks.keys() == {"bronze_b"}
    assert [name for name, _ in events] == ["k2/cold.bronze_b"]
    assert [record for record in caplog.records if record.levelname == "ERROR" and "bronze_a" in record.getMessage()]
    events = Events()
    planned(events=events)
    assert [name for name, _ in events.sent] == ["k2/cold.bronze_a"]
    assert world.postgres.entries["bronze_a"].row.watermark == world.watermark("bronze_a")


@pytest.mark.parametrize("error", [OffloadError("bronze_a: unreadable"), KeyError("unreadable")])
def test_a_table_that_cannot_be_read_fails_commit_after_the_others(world, monkeypatch, error):
    world.begin("bronze").proceed()
    failing_for(monkeypatch, commit, "commit", "bronze_a", error)
    with pytest.raises(OffloadError, match="bronze_a: "):
        committed()
    assert world.postgres.entries["bronze_b"].row.status == "success"
