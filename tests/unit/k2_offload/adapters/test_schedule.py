"""When cycles begin."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.adapters.schedule import longest_pause, missed_cycles, read_schedule, shortest_pause
from k2_offload.adapters.settings import Settings, load_settings
from k2_offload.core.errors import ConfigurationError

VARIABLE = "AIRFLOW__K2_OFFLOAD__SCHEDULE"


@pytest.mark.parametrize(
    ("text", "cron", "minutes"),
    [
        ("60s", "*/1 * * * *", 1), ("1m", "*/1 * * * *", 1), ("5m", "*/5 * * * *", 5), ("900s", "*/15 * * * *", 15),
        ("60m", "0 * * * *", 60), ("1h", "0 * * * *", 60), ("6 h", "0 */6 * * *", 360), ("24h", "0 0 * * *", 1440),
        ("*/15 * * * *", "*/15 * * * *", 15), ("0,50 * * * *", "0,50 * * * *", 10),
    ],
)  # fmt: skip
def test_a_schedule_is_a_cron_expression_or_an_interval_that_is_one(monkeypatch, text, cron, minutes):
    monkeypatch.setenv(VARIABLE, text)
    read = load_settings().schedule
    assert (read, shortest_pause(read)) == (cron, timedelta(minutes=minutes))


@pytest.mark.parametrize(
    "text",
    ["30s", "90s", "7m", "0m", "5h", "48h", "daily", "@hourly", "* * * *", "*/5 * * * * *", "61 * * * *", "0 0 30 2 *"],
)
def test_what_is_none_is_refused_with_its_variable(monkeypatch, text):
    monkeypatch.setenv(VARIABLE, text)
    with pytest.raises(ConfigurationError, match=r"schedule is '.*not a cron expression of five fields.*" + VARIABLE):
        load_settings()


def test_the_default_is_one():
    assert read_schedule(Settings().schedule) == Settings().schedule


@pytest.mark.parametrize(
    ("cron", "hours"),
    [
        ("*/15 * * * *", 0.25), ("0 */6 * * *", 6), ("*/5 8-17 * * *", 14 + 5 / 60),
        ("0 9 * * 1-5", 72), ("*/1 9 * * 1", 7 * 24 - 59 / 60), ("0 0 1 * *", 31 * 24),
    ],
)  # fmt: skip
def test_the_longest_pause_is_that_of_the_night_and_of_days_off(cron, hours):
    assert longest_pause(cron) == timedelta(hours=hours)


FRIDAY_EVENING = datetime(2026, 2, 27, 18, 45, tzinfo=UTC)
MONDAY = datetime(2026, 3, 2, 9, tzinfo=UTC)


@pytest.mark.parametrize(
    ("since", "now", "missed"),
    [
        (MONDAY, MONDAY, 0),
        (MONDAY, MONDAY + timedelta(minutes=15), 1),
        (MONDAY, MONDAY + timedelta(minutes=30), 2),
        (MONDAY, MONDAY + timedelta(hours=9), 3),
        (FRIDAY_EVENING, MONDAY - timedelta(hours=9), 0),
        (FRIDAY_EVENING, MONDAY - timedelta(hours=1), 1),
    ],
)
def test_nights_and_days_off_are_no_missed_cycles(since, now, missed):
    assert missed_cycles("*/15 8-18 * * 1-5", since, now) == missed
