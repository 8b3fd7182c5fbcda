"""Which status is a reason to fail; what is not known is one too."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from k2_offload.adapters.ledger_records import TableRecord
from k2_offload.cli.fail_on import check_known, find_reasons
from k2_offload.core.conditions import parse_conditions
from k2_offload.core.errors import InvalidCondition
from k2_offload.core.gaps import Gap, GapKind
from k2_offload.core.lag import Silence
from k2_offload.core.observation import Comparisons, OffsetComparison, Records, SealedDays, UnequalDay
from k2_offload.core.ttl import TimeLeft
from k2_offload.core.windows import Window
from k2_offload.work.status import Metadata, TableStatus
from tests.model.world import TABLES

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
GAP = Gap(Window(NOON - HOUR, NOON), GapKind.EXPIRED, None, NOON)


def record(status, reason=None):
    return TableRecord("silver", NOON, status, *[None] * 8, reason=reason)


GOOD = TableStatus(
    TABLES["silver"], record("success"), NOON, timedelta(minutes=20), late={}, metadata=Metadata(5, 9, overdue=False)
)


WELL = Records(Comparisons(NOON), SealedDays(3), OffsetComparison(NOON, 0, 0, 0), ())


def differing(ago, whole=True):
    return replace(WELL, comparisons=Comparisons(NOON, (UnequalDay(NOON.date(), NOON - ago, 0, 7, whole),)))


def reasons(conditions, records=WELL, **changes):
    found = list(find_reasons(replace(GOOD, **changes), records, parse_conditions(conditions), NOON))
    assert all(reason.startswith("silver: ") for _, reason in found)
    return [reason for _, reason in found]


def test_a_healthy_table_has_no_reason():
    assert reasons("lag>30m,idle,failed,refused,late,differ,seals,messages,gaps,metadata") == []


@pytest.mark.parametrize(
    ("condition", "changes", "words"),
    [
        ("lag>30m", {"lag": timedelta(minutes=31)}, "lag 31 min 00 s, more than 30 min 00 s"),
        ("idle", {"silence": Silence(NOON - HOUR)}, "no new rows since 2026-11-21 11:00:00 (1 h 00 min)"),
        ("idle>2d", {"silence": Silence(None)}, "ClickHouse has no rows up to now, and none was ever moved"),
        ("failed", {"record": record("failed", "silver: no such source")}, "failed: silver: no such source"),
        ("failed", {"record": record("failed")}, "the ledger does not say why"),
        ("refused", {"refusal": "silver: another column"}, "the next cycle will refuse it: silver: another column"),
        ("late", {"late": {date(2026, 11, 20): 3}}, "3 late rows. `k2 verify silver` compares both tiers."),
        ("late>5", {"late": None}, "how many rows are late is not known"),
        ("gaps", {"gaps": [GAP]}, "1 gaps on record"),
        ("ttl<2d", {"expiry": TimeLeft(NOON, NOON + 47 * HOUR, "k2.t")}, "47 h 00 min left until the TTL of k2.t"),
        (
            "metadata",
            {"metadata": Metadata(6000, 2**23, overdue=True)},
            "maintenance is overdue. `k2 maintain silver` does it now",
        ),
    ],
)
def test_each_condition_says_what_holds(condition, changes, words):
    [reason] = reasons(condition, **changes)
    assert words in reason


@pytest.mark.parametrize(
    ("condition", "changes"),
    [
        ("lag>31m", {"lag": timedelta(minutes=31)}),
        ("idle>1h", {"silence": Silence(NOON - HOUR)}),
        ("failed", {"record": record("success", "of long ago")}),
        ("late>3", {"late": {date(2026, 11, 20): 3}}),
        ("gaps>1", {"gaps": [GAP]}),
        ("ttl<2d", {"expiry": TimeLeft(NOON, NOON + 48 * HOUR, "k2.t")}),
        ("ttl<2d", {"expiry": None}),
        ("gaps", {"gaps": [replace(GAP, rows=0)]}),
    ],
)
def test_a_limit_may_be_reached_and_not_exceeded(condition, changes):
    assert reasons(condition, **changes) == []


@pytest.mark.parametrize(
    ("condition", "records", "words"),
    [
        ("differ", differing(3 * HOUR), "days that differ: 2026-11-21, for 3 h 00 min (`k2 heal silver --dry-run`)."),
        ("differ>1h", differing(1.5 * HOUR), "days that differ: 2026-11-21, for 1 h 30 min"),
        ("seals", replace(WELL, sealed=SealedDays(3, broken=2)), "2 sealed days are not what they were (`k2 verify"),
        ("messages", replace(WELL, offsets=OffsetComparison(NOON, 5, 0, 0)), "5 messages are missing"),
        ("messages", replace(WELL, offsets=OffsetComparison(NOON, 0, 0, 1)), "nobody can tell if some miss"),
        ("messages", replace(WELL, offsets=OffsetComparison(NOON - 5 * HOUR, 0, 0, 0)), "last compared 5 h 00 min"),
    ],
)
def test_what_the_ledger_has_on_record_is_a_reason(condition, records, words):
    [reason] = reasons(condition, records)
    assert words in reason


@pytest.mark.parametrize(
    ("condition", "records"),
    [
        ("differ", differing(2 * HOUR)),
        ("differ>3h", differing(3 * HOUR)),
        ("differ>0s", differing(9 * HOUR, whole=False)),
        ("messages", replace(WELL, offsets=None)),
        ("seals,messages", differing(3 * HOUR)),
    ],
)
def test_what_may_still_be_healed_or_belongs_to_another_condition_is_none(condition, records):
    assert reasons(condition, records) == []


def test_late_rows_that_are_not_counted_cannot_be_judged():
    check_known(parse_conditions("lag>1h"), counts=False)
    with pytest.raises(InvalidCondition, match="--no-counts"):
        check_known(parse_conditions("lag>1h,late"), counts=False)
