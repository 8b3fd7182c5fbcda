"""When cycles begin."""

from __future__ import annotations

from datetime import timedelta

import pytest

from k2_offload.adapters.schedule import longest_pause, read_schedule, shortest_pause
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
