"""Days that are rewritten together: what becomes of the others if something is in the way of one."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from k2_offload.core.errors import AuditFailed, OffloadError, StaleWindow
from offload_job.maintenance.problems import Problems, rewrite_or_each_alone

FIRST = date(2026, 3, 4)
DAYS = [FIRST + timedelta(days=number) for number in range(3)]


def rewrite(fails, days=DAYS):
    """What was rewritten, by snapshot; how many days that are; and what went wrong."""
    rewritten, problems = [], Problems("trades")

    def rewrite_days(chosen):
        if error := fails(chosen):
            raise error
        rewritten.append(list(chosen))

    return rewritten, rewrite_or_each_alone(days, rewrite_days, problems), problems.all


def test_days_are_rewritten_at_once():
    assert rewrite(lambda _: None) == ([DAYS], 3, [])
    assert rewrite(lambda _: None, DAYS[:1]) == ([DAYS[:1]], 1, [])


@pytest.mark.parametrize("error", [OffloadError("trades 2026-03-05: away"), RuntimeError("odd")])
def test_what_is_in_the_way_of_one_day_stops_no_other(error):
    rewritten, days, [problem] = rewrite(lambda days: error if DAYS[1] in days else None)
    assert (rewritten, days) == ([[DAYS[0]], [DAYS[2]]], 2)
    assert problem.startswith("trades")


def test_a_day_that_was_healed_meanwhile_is_left_and_nothing_is_red():
    found = rewrite(lambda days: StaleWindow("healed") if DAYS[1] in days else None)
    assert found == ([[DAYS[0]], [DAYS[2]]], 2, [])


def test_a_difference_is_red_also_if_it_does_not_come_again():
    differs = AuditFailed("trades 2026-03-05: with another content")
    _, days, problems = rewrite(lambda days: differs if len(days) > 1 else None)
    assert (days, problems) == (3, [str(differs)])
    _, days, problems = rewrite(lambda days: differs if DAYS[1] in days else None)
    assert (days, problems) == (2, [str(differs)]), "told once"


def test_only_what_an_audit_has_found_is_a_difference():
    problems, differs = Problems("trades"), AuditFailed("trades 2026-03-05: with another content")
    for error in (differs, OffloadError("trades 2026-03-04: away"), differs):
        problems.tell(error)
    assert (len(problems.all), problems.differences) == (2, [str(differs)])
