"""What ``--fail-on`` understands, and that it understands nothing else."""

from __future__ import annotations

from datetime import timedelta

import pytest

from k2_offload.core.conditions import FORMS, Condition, Name, parse_conditions
from k2_offload.core.errors import InvalidCondition


def test_conditions_have_their_limits():
    assert parse_conditions("lag>30m, failed,idle>2d,late>100,differ,differ>1h,gaps,ttl<1d") == [
        Condition(Name.LAG, "lag>30m", duration=timedelta(minutes=30)),
        Condition(Name.FAILED, "failed"),
        Condition(Name.IDLE, "idle>2d", duration=timedelta(days=2)),
        Condition(Name.LATE, "late>100", count=100),
        Condition(Name.DIFFER, "differ", duration=timedelta(hours=2)),
        Condition(Name.DIFFER, "differ>1h", duration=timedelta(hours=1)),
        Condition(Name.GAPS, "gaps"),
        Condition(Name.TTL, "ttl<1d", duration=timedelta(days=1)),
    ]


@pytest.mark.parametrize("name", Name)
def test_every_condition_is_named_to_who_asks(name):
    assert name in FORMS
    text = {Name.LAG: "lag>1s", Name.TTL: "ttl<1s"}.get(name, name)
    assert parse_conditions(text)[0].name is name


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "'' is no condition"),
        ("failed,", "'' is no condition"),
        ("slow", "'slow' is no condition. There are: lag>TIME"),
        ("Lag>30m", "is no condition"),
        ("lag>=30m", "'lag>=30m': after > comes a number and s, m, h or d, such as lag>30m"),
        ("lag<30m", "is no condition"),
        ("lag", "quotes against the shell: 'lag>30m'"),
        ("ttl", "ttl needs a limit, and quotes against the shell: 'ttl<30m'"),
        ("ttl>1d", "'ttl>1d' is no condition"),
        ("ttl<1", "after < comes a number and s, m, h or d, such as ttl<30m"),
        ("lag>30", "after > comes a number and s, m, h or d"),
        ("lag>30x", "after > comes a number and s, m, h or d"),
        ("lag>-1m", "after > comes a number and s, m, h or d"),
        ("idle>999999999d", "after > comes a number and s, m, h or d"),
        ("late>1h", "after > comes a number, such as late>100"),
        ("late>", "after > comes a number, such as late>100"),
        ("failed>1", "failed has no limit"),
        ("seals>1", "seals has no limit"),
        ("differ>3", "'differ>3': after > comes a number and s, m, h or d, such as differ>30m"),
    ],
)
def test_anything_else_is_told_in_one_line(text, words):
    with pytest.raises(InvalidCondition) as raised:
        parse_conditions(text)
    assert words in str(raised.value)
    assert "\n" not in str(raised.value)
