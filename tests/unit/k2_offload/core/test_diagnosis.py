"""What is red, what is a warning, and what is neither; what nobody knows is not well."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path

import pytest
import yaml

from k2_offload.adapters.schedule import missed_cycles
from k2_offload.core import diagnosis, needs
from k2_offload.core.dag_ids import MAINTENANCE_DAG_ID, REPORT_DAG_ID
from k2_offload.core.diagnosis import diagnose
from k2_offload.core.history import History
from k2_offload.core.needs import State
from k2_offload.core.observation import (
    SERVICES,
    Comparisons,
    Disk,
    Observation,
    OffsetComparison,
    SealedDays,
    TableObservation,
    UnequalDay,
)
from tests.support.pages import DOCS
from tests.unit.k2_offload.core.test_metrics import DAG, NOW, SEEN, TABLE

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
WELL = replace(TABLE, gaps=(), comparisons=Comparisons(NOW), history=History(), sealed=SealedDays(3), offsets=None)
RUNNING = replace(DAG, active_since=NOW)
ALL_WELL = replace(SEEN, tables=[WELL], dags=[RUNNING])
NOT_PAUSED = {DAG.dag_id: False}


def findings(paused=NOT_PAUSED, dag=None, **changes):
    """All that is not ok: by check, the state and what was found."""
    of_seen = {name: value for name, value in changes.items() if name in Observation.__dataclass_fields__}
    of_table = {name: value for name, value in changes.items() if name not in of_seen}
    seen = replace(ALL_WELL, tables=[replace(WELL, **of_table)], dags=[replace(RUNNING, **(dag or {}))])
    found = list(diagnose(replace(seen, **of_seen), paused))
    for each in found:
        page, _, anchor = each.page.partition("#")
        if each.state is State.OK:
            assert not each.do
        else:
            headings = re.findall("^## (.*)$", (DOCS / "runbooks" / page).read_text(), re.MULTILINE)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}
            assert each.do
    return {each.check: (each.state, each.found) for each in found if each.state is not State.OK}


def test_where_all_is_well_each_check_says_so():
    assert findings() == {}
    assert len({each.check for each in diagnose(ALL_WELL, NOT_PAUSED)}) == 16


COMPARING = {"k2_reconcile": False}
DAILY = {"k2_maintenance": False, "k2_report": False}
RECONCILE = {"dag_id": "k2_reconcile", "active_since": None}
LEDGER_UNREAD = {"failure": None, "totals": None, "comparisons": None, "sealed": None, "gaps": None}
UNREAD = {"lag_seconds": None, "silent": None, "refused": None, "history": None}


def unequal(since):
    return {"comparisons": Comparisons(NOW, (UnequalDay(date(2026, 3, 2), NOW - since, 1, 0, True),))}


@pytest.mark.parametrize(
    ("changes", "check", "state", "words"),
    [
        ({"clock_seconds": -61}, "clocks", "red", "ClickHouse is 61.0 s behind"),
        ({"clock_seconds": 59}, None, None, ""),
        ({"disk": Disk(100, 2)}, "disk", "red", "2%"),
        ({"disk": Disk(0, 0)}, None, None, ""),
        ({"disk": Disk(100, 9)}, "disk", "warning", "9%"),
        ({"dag": {"last_start": None}}, "runs", "red", "never"),
        ({"dag": {"last_start": NOW - HOUR, "missed": 3}}, "runs", "red", "1 h"),
        ({"dag": {"failures": 3}}, "runs", "red", "last 3 runs"),
        ({"dag": {"failures": 2}}, None, None, ""),
        (
            {"paused": DAILY, "dag": {"dag_id": "k2_maintenance", "failures": 1}},
            "runs",
            "red",
            "the last run has failed",
        ),
        ({"paused": DAILY, "dag": {"dag_id": "k2_report", "failures": 2}}, "runs", "red", "last 2 runs"),
        ({"dag": {"active_since": NOW - HOUR}}, "runs", "warning", "going on"),
        ({"paused": {DAG.dag_id: True}}, "runs", "red", "paused"),
        ({"paused": {}}, "runs", "red", "does not know it"),
        ({"readable": False, "problem": "No such table."}, "chain and source", "red", "No such table."),
        ({"refused": True, "problem": "It changed."}, "chain and source", "red", "It changed."),
        ({"failure": "t: planned and not published; …"}, "last attempt", "red", "unpublished"),
        ({"lag_seconds": 1501.0}, "lag", "warning", "25"),
        ({"lag_seconds": 3601.0}, "lag", "red", "1 h"),
        ({"silent": True, "silent_since": NOW - 7 * HOUR}, "feed", "warning", "7 h"),
        ({"silent": True, "silent_since": NOW - 5 * HOUR}, None, None, ""),
        ({"silent": True, "silent_since": None, "lag_seconds": 0.0}, "feed", "warning", "none was ever moved"),
        (unequal(HOUR), "days that differ", "warning", "2026-03-02"),
        (unequal(3 * HOUR), "days that differ", "red", "2026-03-02"),
        (
            {"comparisons": Comparisons(NOW, (UnequalDay(date(2026, 3, 2), NOW - 3 * HOUR, 0, 0, False, True),))},
            "days that differ",
            "red",
            "2026-03-02",
        ),
        (
            {"comparisons": Comparisons(NOW, (UnequalDay(date(2026, 3, 2), NOW, 13, 0, False),))},
            "late rows left out",
            "warning",
            "13 rows",
        ),
        ({"sealed": TABLE.sealed}, "seals", "red", "1 sealed days"),
        ({"offsets": OffsetComparison(NOW, 1200, 0, 0)}, "messages", "red", "1,200 messages are missing"),
        ({"offsets": OffsetComparison(NOW, 0, 5, 1)}, "messages", "red", "nobody can tell"),
        ({"offsets": OffsetComparison(NOW - 5 * HOUR, 0, 0, 0)}, "messages", "red", "last compared 5 h"),
        ({"offsets": OffsetComparison(NOW, 0, 5, 0)}, None, None, ""),
        ({"old_ledger": "It is old.", **LEDGER_UNREAD}, "ledger", "red", "It is old."),
        ({"readable": False, "problem": "No table.", **UNREAD}, "chain and source", "red", "No table."),
        ({"paused": COMPARING, "dag": {**RECONCILE, "last_success": NOW - 5 * HOUR}}, "runs", "red", "5 h"),
        (
            {"paused": COMPARING, "dag": {**RECONCILE, "last_success": None}},
            "runs",
            "red",
            "no comparison has succeeded",
        ),
        ({"paused": COMPARING, "dag": {**RECONCILE, "last_success": NOW - 4 * HOUR}}, None, None, ""),
        (
            {"paused": COMPARING, "dag": {**RECONCILE, "last_success": None, "last_start": None}},
            "runs",
            "warning",
            "no comparison has run",
        ),
        ({"gaps": TABLE.gaps}, "rows missed", "warning", "1 gaps"),
        ({"history": History(21, NOW - 2 * DAY)}, "staged leftovers", "warning", "21"),
        ({"history": History(21, NOW)}, None, None, ""),
        ({"last_maintenance": None}, "maintenance", "warning", "never"),
        ({"last_maintenance": None, "maintenance": False}, None, None, ""),
        ({"maintenance_overdue": True}, "maintenance", "warning", "grows"),
    ],
)
def test_what_is_wrong_is_found_and_nothing_else(changes, check, state, words):
    found = findings(**changes)
    assert {name: str(each) for name, (each, _) in found.items()} == ({check: state} if check else {})
    assert all(words in text for _, text in found.values())


def test_the_last_hour_before_the_ttl_is_red_however_long_the_buffer_is():
    found = findings(buffer=timedelta(days=1), lag_seconds=89_600.0, ttl_seconds=600.0)
    assert found["TTL"][0] is State.RED


def test_little_time_before_the_ttl_is_found_beside_the_lag():
    for left, state in ((HOUR - timedelta(seconds=1), State.RED), (23 * HOUR, State.WARNING), (25 * HOUR, None)):
        found = findings(lag_seconds=4000.0, ttl_seconds=left.total_seconds())
        assert found.get("TTL", (None,))[0] is state


def test_what_nobody_knows_is_red():
    nothing = Observation(NOW, 0.5, dict.fromkeys(SERVICES, False), [TableObservation("t", "bronze", "export")])
    found = {each.check for each in diagnose(nothing, {}) if each.state is State.RED}
    assert found == {
        "service", "clocks", "chain and source", "last attempt", "lag", "TTL", "feed", "days that differ",
        "late rows left out", "seals", "messages", "rows missed", "staged leftovers", "maintenance",
    }  # fmt: skip


def test_without_ledger_and_catalog_no_check_of_them_is_well():
    away = replace(ALL_WELL, tables=[replace(WELL, readable=None, offsets=None, **UNREAD, **LEDGER_UNREAD)])
    told = {each.check: each.found for each in diagnose(away, NOT_PAUSED)}
    assert (told["messages"], told["staged leftovers"]) == ("not known", "not known")


def test_messages_are_counted_where_they_are_followed():
    followed = replace(WELL, offsets=OffsetComparison(NOW, 0, 0, 0))
    for tables, words in (([WELL], "followed for no table"), ([WELL, followed], "1 of 2 tables")):
        told = {each.check: each for each in diagnose(replace(ALL_WELL, tables=tables), NOT_PAUSED)}
        assert (str(told["messages"].state), told["messages"].found) == ("ok", words)


def test_nothing_is_staged_where_no_cold_table_is_yet():
    new = replace(WELL, history=None, metadata_bytes=None, snapshots=None)
    told = {each.check: str(each.state) for each in diagnose(replace(ALL_WELL, tables=[new]), NOT_PAUSED)}
    assert told["staged leftovers"] == "ok"


def test_no_check_says_that_all_is_well_of_what_it_could_not_look_at():
    unread = replace(WELL, readable=False, problem="No table.", **UNREAD)
    told = {each.check: each.found for each in diagnose(replace(ALL_WELL, tables=[unread]), NOT_PAUSED)}
    assert not {"lag", "TTL", "feed", "staged leftovers"} & told.keys()
    assert told["rows missed"] == "1 tables"
    without = [replace(unread, gaps=None), WELL]
    told = {each.check: each.found for each in diagnose(replace(ALL_WELL, tables=without), NOT_PAUSED)}
    assert told["rows missed"] == "1 of 2 tables"
    told = {each.check: each.found for each in diagnose(replace(ALL_WELL, tables=[WELL, unread]), NOT_PAUSED)}
    assert (told["lag"], told["seals"]) == ("1 of 2 tables", "2 tables")
    old = replace(ALL_WELL, tables=[replace(WELL, **LEDGER_UNREAD)], old_ledger="It is old.")
    assert not {"last attempt", "seals", "messages", "rows missed"} & {each.check for each in diagnose(old, NOT_PAUSED)}


OTHERWISE = {
    "K2LagBudgetBurnsFast": "speaks of an hour",
    "K2LagBudgetBurnsSlowly": "speaks of six hours",
    "K2ThroughputCollapsed": "speaks of a day; the lag is looked at",
    "K2WindowFailsAgain": "the last attempt is looked at",
    "K2MetricsDown": "no metrics are read",
    "K2SmallFiles": "the maintenance that is overdue is looked at",
}


def test_each_alert_has_a_check_or_a_reason_for_none():
    rules = yaml.safe_load((DOCS.parent / "docker/prometheus/k2_offload.yml").read_text())["groups"]
    pages = {
        each["alert"]: each["annotations"]["runbook"] for group in rules for each in group["rules"] if "alert" in each
    }
    source = "".join(Path(each.__file__).read_text() for each in (diagnosis, needs))
    unseen = {name for name, page in pages.items() if f'"{page.removeprefix("docs/runbooks/")}"' not in source}
    assert unseen == OTHERWISE.keys()


def test_doctor_and_the_alert_have_the_same_daily_dags_and_numbers_of_failed_runs():
    rules = yaml.safe_load((DOCS.parent / "docker/prometheus/k2_offload.yml").read_text())["groups"]
    [expr] = [each["expr"] for group in rules for each in group["rules"] if each.get("alert") == "K2RunsFail"]
    name = "k2_run_failures_in_a_row"
    daily = "|".join(diagnosis.DAILY_DAGS)
    assert expr == f'{name} >= {diagnosis.FAILED_RUNS} or {name}{{dag=~"{daily}"}} >= 1'
    assert set(diagnosis.DAILY_DAGS) == {MAINTENANCE_DAG_ID, REPORT_DAG_ID}


@pytest.mark.parametrize("hours", [1, 6])
def test_a_calmer_schedule_has_later_limits(hours):
    pause = hours * HOUR
    longest = (pause + timedelta(minutes=10)).total_seconds()

    def states(lag, start, **changes):
        seen = replace(
            ALL_WELL,
            tables=[replace(WELL, lag_seconds=lag, **changes)],
            dags=[replace(RUNNING, last_start=start, missed=missed_cycles(f"0 */{hours} * * *", start, NOW))],
            pause=pause,
        )
        return {each.check: str(each.state) for each in diagnose(seen, NOT_PAUSED) if each.state is not State.OK}

    assert states(longest, NOW - pause) == {}
    assert states(longest, NOW - pause, ttl_seconds=3 * 3600.0) == {}
    assert states(longest + 1, NOW - pause) == {"lag": "warning"}
    assert states(longest + 3600, NOW - 2 * pause) == {"lag": "red", "runs": "red"}


@pytest.mark.parametrize(("missed", "red"), [(None, True), (0, False), (1, False), (2, True), (3, True)])
def test_a_run_that_the_schedule_does_not_want_is_not_missed(missed, red):
    seen = replace(ALL_WELL, dags=[replace(RUNNING, active_since=None, last_start=NOW - 60 * HOUR, missed=missed)])
    assert ("runs" in {each.check for each in diagnose(seen, NOT_PAUSED) if each.state is State.RED}) is red


@pytest.mark.parametrize("buffer", [timedelta(minutes=30), HOUR])
def test_a_longer_buffer_has_later_limits_for_its_table_alone(buffer):
    longest = (buffer + timedelta(minutes=20)).total_seconds()

    def states(lag, **changes):
        patient = replace(WELL, name="patient", buffer=buffer, lag_seconds=lag, **changes)
        usual = replace(WELL, lag_seconds=1501.0, ttl_seconds=None)
        found = diagnose(replace(ALL_WELL, tables=[patient, usual]), NOT_PAUSED)
        return {(each.check, each.subject): str(each.state) for each in found if each.state is not State.OK}

    others = {("lag", WELL.name): "warning"}
    assert states(longest, ttl_seconds=3 * 3600.0) == others
    assert states(longest + 1) == others | {("lag", "patient"): "warning"}
    assert states(longest + 35 * 60 + 1) == others | {("lag", "patient"): "red"}


def test_a_fresher_schedule_leaves_the_limits_as_the_alerts_have_them():
    for lag in (WELL.lag_seconds, 1500.0):
        seen = replace(ALL_WELL, tables=[replace(WELL, lag_seconds=lag)], pause=timedelta(minutes=1))
        assert not [each for each in diagnose(seen, NOT_PAUSED) if each.state is not State.OK]
