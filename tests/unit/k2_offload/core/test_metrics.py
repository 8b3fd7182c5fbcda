"""What an observation becomes, and what it does not."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from k2_offload.core.failure_kinds import FAILURE_KINDS
from k2_offload.core.gaps import Gap, GapKind
from k2_offload.core.history import Files, History
from k2_offload.core.metrics import METRICS, Kind
from k2_offload.core.observation import (
    SERVICES,
    Comparisons,
    DagObservation,
    Disk,
    Observation,
    OffsetComparison,
    SealedDays,
    TableObservation,
    UnequalDay,
    WindowTotals,
)
from k2_offload.core.skips import Filled, Skips
from k2_offload.core.windows import Window

NOW = datetime(2026, 3, 4, 12, tzinfo=UTC)
QUARTER = timedelta(minutes=15)
TABLE = TableObservation(
    "trades",
    "bronze",
    "export",
    readable=True,
    refused=False,
    failure="",
    watermark=NOW - QUARTER,
    last_success=NOW,
    lag_seconds=600.0,
    silent=False,
    ttl_seconds=7 * 86400.0 - 600,
    cold_rows=1000,
    snapshots=12,
    metadata_bytes=5000,
    maintenance_overdue=False,
    last_maintenance=NOW - timedelta(hours=9),
    history=History(2, NOW - timedelta(days=1), NOW - timedelta(seconds=3), Files(4, 400), Files(20, 9000)),
    totals=WindowTotals(
        committed=3,
        abandoned=1,
        rows=900,
        size_bytes=9400,
        retries=2,
        failures=1,
        duration_p50=9.0,
        duration_p99=20.0,
        lag_p50=900.0,
        lag_p99=1100.0,
        last_rows=300,
        last_planned_at=NOW - timedelta(seconds=11),
        last_committed_at=NOW - timedelta(seconds=1),
        first_planned_at=NOW - timedelta(days=3),
    ),
    comparisons=Comparisons(
        NOW - QUARTER,
        (
            UnequalDay(date(2026, 2, 1), NOW - timedelta(days=20), 7, 0, False),
            UnequalDay(date(2026, 3, 2), NOW - timedelta(hours=2), 5, 1, True),
            UnequalDay(date(2026, 3, 3), NOW - timedelta(hours=3), 1, 0, True),
        ),
    ),
    offsets=OffsetComparison(NOW - timedelta(hours=1), 7, 8, 9),
    sealed=SealedDays(3, date(2026, 3, 1), 1, NOW - timedelta(days=2)),
    gaps=(Gap(Window(NOW - timedelta(days=9), NOW - timedelta(days=8)), GapKind.EXPIRED, None, NOW),),
    skips=Skips(
        (Window(NOW - timedelta(days=9), NOW - timedelta(days=7)),),
        (Filled(NOW - timedelta(days=7), NOW - timedelta(days=6), 20),),
    ),
)
DAG = DagObservation("k2_offload_bronze", NOW - timedelta(seconds=42), 1, NOW, NOW - QUARTER, 9.5, 0, 1)
SEEN = Observation(NOW, 0.5, dict.fromkeys(SERVICES, True), [TABLE], [DAG], Disk(100, 40), 0.25)


def samples(seen, name):
    [metric] = [metric for metric in METRICS if metric.name == name]
    return dict(metric.read(seen))


def test_names_are_unique_and_say_unit_and_type():
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names) > 40
    for metric in METRICS:
        assert re.fullmatch(r"k2_[a-z0-9_]+", metric.name)
        assert metric.name.endswith("_total") is (metric.kind is Kind.COUNTER)
        assert metric.help.endswith(".")
        assert not {"le", "quantile", "reason"} & set(metric.labels)


def test_a_healthy_table_has_a_sample_of_every_metric_but_those_of_what_is_wrong():
    missing = {metric.name for metric in METRICS if not list(metric.read(SEEN))}
    assert missing == {"k2_feed_silent_since_timestamp_seconds"}


def test_labels_have_the_values_that_their_names_promise():
    for metric in METRICS:
        for labels, value in metric.read(SEEN):
            assert len(labels) == len(metric.labels), metric.name
            assert isinstance(value, (int, float)), metric.name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("k2_lag_target_seconds", {("trades",): 1500.0}),
        ("k2_runs_missed", {("k2_offload_bronze",): 1}),
        ("k2_moved_rows", {("trades",): 900}),
        ("k2_windows", {("trades", "committed"): 3, ("trades", "abandoned"): 1}),
        ("k2_watermark_timestamp_seconds", {("trades",): (NOW - QUARTER).timestamp()}),
        ("k2_last_window_rows_per_second", {("trades",): 30.0}),
        ("k2_last_window_duration_seconds", {("trades", "move"): 8.0, ("trades", "record"): 2.0}),
        ("k2_difference_rows", {("trades", "warm"): 6, ("trades", "cold"): 1}),
        ("k2_unequal_partitions", {("trades",): 2}),
        ("k2_unequal_since_timestamp_seconds", {("trades",): (NOW - timedelta(hours=3)).timestamp()}),
        ("k2_oldest_unequal_day_timestamp_seconds", {("trades",): datetime(2026, 3, 2, tzinfo=UTC).timestamp()}),
        ("k2_late_rows_left_out", {("trades",): 7}),
        ("k2_missing_messages", {("trades",): 7}),
        ("k2_unclear_messages", {("trades",): 9}),
        ("k2_repeated_messages", {("trades",): 8}),
        ("k2_last_offset_comparison_timestamp_seconds", {("trades",): NOW.timestamp() - 3600}),
        ("k2_gaps", {("trades",): 1}),
        ("k2_skipped_seconds", {("trades", "left_out"): 172_800.0, ("trades", "brought"): 86_400.0}),
        ("k2_data_files", {("trades", "today"): 4, ("trades", "closed"): 20}),
        ("k2_run_active_seconds", {("k2_offload_bronze",): 42.0}),
        ("k2_lake_free_bytes", {(): 40}),
        ("k2_service_up", {(service,): 1.0 for service in SERVICES}),
    ],
)
def test_a_value_is_what_was_seen(name, expected):
    assert samples(SEEN, name) == expected


def test_the_target_of_lag_follows_the_buffer_of_its_table_and_the_schedule():
    patient = replace(TABLE, name="patient", buffer=timedelta(hours=1))
    seen = replace(SEEN, tables=[TABLE, patient], pause=timedelta(hours=6))
    assert samples(seen, "k2_lag_target_seconds") == {("trades",): 22_200.0, ("patient",): 25_500.0}


def test_what_is_not_known_has_no_sample():
    unknown = TableObservation("trades", "bronze", "export")
    seen = Observation(NOW, 0.5, dict.fromkeys(SERVICES, False), [unknown])
    known = {metric.name for metric in METRICS if list(metric.read(seen))}
    assert known == {
        "k2_observation_timestamp_seconds",
        "k2_observation_duration_seconds",
        "k2_service_up",
        "k2_table_info",
        "k2_lag_target_seconds",
    }


def test_a_failure_is_of_one_kind_and_a_success_of_none():
    failed = replace(SEEN, tables=[replace(TABLE, failure="t: planned and not published; …")])
    assert {kind for (_, kind), value in samples(failed, "k2_table_failed").items() if value} == {"unpublished"}
    assert samples(SEEN, "k2_table_failed") == {("trades", kind): 0.0 for kind in FAILURE_KINDS}


def test_the_phases_of_a_window_that_the_ledger_does_not_know_yet_are_left_out():
    newer = replace(TABLE.history, published_at=NOW)
    assert samples(replace(SEEN, tables=[replace(TABLE, history=newer)]), "k2_last_window_duration_seconds") == {}


def test_a_hundred_tables_have_a_bounded_number_of_series():
    seen = replace(SEEN, tables=[replace(TABLE, name=f"table_{number}") for number in range(100)])
    of_tables = sum(len(list(metric.read(seen))) for metric in METRICS if "table" in metric.labels)
    assert of_tables <= 100 * 70


def test_a_table_that_was_never_tidied_counts_from_its_first_window_unless_nobody_should_tidy_it():
    name, never = "k2_last_maintenance_timestamp_seconds", replace(TABLE, last_maintenance=None)
    first = (NOW - timedelta(days=3)).timestamp()
    assert samples(replace(SEEN, tables=[never]), name) == {("trades",): first}
    assert samples(replace(SEEN, tables=[replace(never, maintenance=False)]), name) == {}


def test_only_what_no_rollback_takes_back_is_a_counter():
    assert [metric.name for metric in METRICS if metric.kind is Kind.COUNTER] == ["k2_window_retries_total"]
