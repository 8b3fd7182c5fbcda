"""What a TTL removes, as ClickHouse writes it down, and how near it is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from k2_offload.core.ttl import Removal, TimeLeft, Urgency, is_kept_too_short, removals

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
HEAD = "MergeTree PARTITION BY toDate(d) ORDER BY (a, `TTL `, d)"


@pytest.mark.parametrize(
    ("engine", "found"),
    [
        (HEAD, []),
        (f"{HEAD} SETTINGS index_granularity = 8192", []),
        (f"{HEAD} TTL toDateTime(d) + toIntervalDay(7) SETTINGS x = 1", [Removal("toDateTime(d) + toIntervalDay(7)")]),
        (f"{HEAD} TTL d + toIntervalDay(7)", [Removal("d + toIntervalDay(7)")]),
        (f"{HEAD} TTL d + toIntervalDay(1) DELETE", [Removal("d + toIntervalDay(1)")]),
        (
            f"{HEAD} TTL if(a, d, e) + 1 WHERE k = 'x, TTL SETTINGS (', d + 3 TO VOLUME 'cold', "
            "d + 5 RECOMPRESS CODEC(ZSTD(5)), d + 9 SETTINGS x = 1",
            [Removal("if(a, d, e) + 1", "k = 'x, TTL SETTINGS ('"), Removal("d + 9")],
        ),
        (f"{HEAD} TTL d + 1 DELETE WHERE a > 1", [Removal("d + 1", "a > 1")]),
        (f"{HEAD} TTL d + 1 TO DISK 'slow'", []),
        (f"{HEAD} TTL d + 1 GROUP BY a SET x = max(x), y = min(y)", None),
    ],
)
def test_the_rules_that_remove_rows_are_read(engine, found):
    assert removals(engine) == found


@pytest.mark.parametrize(
    ("kept", "left", "urgency"),
    [
        (7 * DAY, DAY, Urgency.NONE),
        (7 * DAY, DAY - MINUTE, Urgency.WARNING),
        (7 * DAY, HOUR, Urgency.WARNING),
        (7 * DAY, HOUR - MINUTE, Urgency.URGENT),
        (7 * DAY, -HOUR, Urgency.URGENT),
        (DAY, 23 * HOUR, Urgency.NONE),
        (DAY, 11 * HOUR, Urgency.WARNING),
        (HOUR, 50 * MINUTE, Urgency.NONE),
        (HOUR, 29 * MINUTE, Urgency.URGENT),
    ],
)
def test_the_last_day_is_a_warning_and_the_last_hour_urgent_and_a_short_ttl_is_neither_by_itself(kept, left, urgency):
    assert TimeLeft(NOON + left - kept, NOON + left, "k2.t").urgency(NOON) is urgency


def test_the_commands_name_the_table_that_has_the_ttl():
    text = TimeLeft(NOON - 7 * DAY, NOON + 59 * MINUTE, "k2.candles").describe(NOON)
    assert text.startswith("0 h 59 min left until the TTL of k2.candles lets ClickHouse remove rows")
    assert "`SYSTEM STOP TTL MERGES k2.candles`" in text
    assert "`SYSTEM START TTL MERGES k2.candles`" in text
    assert "no time left" in TimeLeft(NOON - 7 * DAY, NOON - DAY, "k2.candles").describe(NOON)


def test_a_ttl_that_is_not_known_says_so():
    text = TimeLeft(NOON - 7 * DAY, NOON + HOUR, None).describe(NOON)
    assert "the TTL, which is not known, so that warm_retention_days in the table file was believed" in text
    assert "`SYSTEM STOP TTL MERGES`" in text


def test_a_little_less_than_the_table_file_says_does_no_harm():
    assert not is_kept_too_short(7 * DAY, 7 * DAY - 30 * MINUTE)
    assert is_kept_too_short(7 * DAY, 7 * DAY - 31 * MINUTE)
    assert not is_kept_too_short(7 * DAY, None)
