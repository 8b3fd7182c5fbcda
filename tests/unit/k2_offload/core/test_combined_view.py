from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from k2_offload.core.combined_view import KnownDays, ViewState, find_boundary, valid_until
from k2_offload.core.day_comparison import Verdict, first_whole_day
from k2_offload.core.errors import DamagedTable, OffloadError
from k2_offload.core.holding import Kept
from k2_offload.core.tables import TableSpec
from k2_offload.core.windows import Window

SPEC = TableSpec(
    name="t", layer="bronze", source="k2.t", target="cold.t", timestamp_column="at", partition_column="at",
    job_group="bronze", view="k2.t_all",
)  # fmt: skip


def day(number):
    return date(2026, 3, number)


def at(number):
    return datetime(2026, 3, number, tzinfo=UTC)


def days(first, last, rows=10):
    return {day(number): rows for number in range(first, last + 1)}


KNOWN = KnownDays(
    warm=days(4, 8), cold=days(1, 8), sealed=days(2, 7), broken={}, verdicts={}, skipped=(), missed=(),
    whole_from=day(4), below=at(8) + timedelta(hours=12),
)  # fmt: skip
"""Day 1 is from before the first seal, days 2 and 3 are cold alone, day 8 is not over."""


def test_the_boundary_is_after_the_last_sealed_day():
    assert find_boundary(SPEC, KNOWN).first_warm == day(8)
    assert find_boundary(SPEC, replace(KNOWN, below=at(8) + timedelta(minutes=34))).first_warm == day(7)


@pytest.mark.parametrize(
    "changes",
    [
        {"warm": days(4, 8) | {day(6): 11}},
        {"sealed": days(2, 5) | days(7, 7)},
        {"sealed": days(2, 7) | {day(6): 9}},
        {"cold": days(1, 8) | {day(6): 9}},
        {"broken": {day(6): "broken"}},
        {"verdicts": {day(6): Verdict.LATE_ROWS}},
        {"warm": {**days(4, 5), **days(7, 8)}, "cold": {**days(1, 5), **days(7, 8)}, "sealed": days(2, 5),
         "skipped": (Window(at(6), at(6) + timedelta(hours=1)),)},
    ],
)  # fmt: skip
def test_a_day_that_is_not_proven_is_warm_with_all_after_it(changes):
    assert find_boundary(SPEC, replace(KNOWN, **changes)).first_warm == day(6)


@pytest.mark.parametrize(("to_come", "why"), [(True, "windows are still to come"), (False, "were left out on purpose")])
def test_a_day_with_rows_that_no_window_has_moved_is_warm_with_all_after_it(to_come, why):
    """As the rows of a week are, which are cut on its end and partitioned by its beginning."""
    weeks = replace(SPEC, timestamp_column="week_end")
    known = replace(KNOWN, below=at(9) + timedelta(hours=12))
    assert find_boundary(weeks, known).first_warm == day(8)
    found = find_boundary(weeks, replace(known, unmoved={day(6): to_come}))
    assert found.first_warm == day(6)
    assert why in found.held_by


def test_rows_of_days_that_clickhouse_does_not_hold_as_a_whole_are_to_be_moved_or_accepted_first():
    weeks = replace(SPEC, timestamp_column="week_end")
    known = replace(KNOWN, below=at(9) + timedelta(hours=12), unmoved={day(3): True})
    with pytest.raises(OffloadError, match="windows are still to come to 2026-03-03"):
        find_boundary(weeks, known)
    far = Window(at(7), at(8))
    skipped = replace(known, unmoved={day(3): False}, missed=[far])
    with pytest.raises(OffloadError, match=r"lacks rows of .*2026-03-07.*`k2 backfill"):
        find_boundary(weeks, skipped)
    assert find_boundary(weeks, skipped, accept=True).missed == (far,)
    near = Window(at(3), at(3) + timedelta(hours=1))
    assert find_boundary(weeks, replace(skipped, missed=[near, far]), accept=True).missed == (near,)


def test_a_day_without_rows_needs_no_seal():
    def without(rows):
        return {each: count for each, count in rows.items() if each != day(6)}

    known = replace(KNOWN, warm=without(KNOWN.warm), cold=without(KNOWN.cold), sealed=without(KNOWN.sealed))
    assert find_boundary(SPEC, known).first_warm == day(8)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"sealed": {}}, "no day of its cold table is sealed yet"),
        ({"below": at(3)}, "windows are still to come to 2026-03-03"),
        ({"broken": {day(3): "its seal is broken."}}, "its seal is broken"),
        ({"cold": days(1, 8) | {day(3): 9}}, "9 rows of the day, and 10 were sealed"),
        ({"warm": days(4, 8) | {day(8): 9}}, "neither tier has all of its rows"),
        ({"cold": days(1, 8) | {day(6): 5}, "warm": days(4, 8) | {day(6): 9}}, "neither tier has all of its rows"),
        ({"warm": days(5, 8)}, "neither tier has all of its rows"),
        ({"verdicts": {day(6): Verdict.CHANGED_ROWS}}, "neither tier has all of its rows"),
        ({"sealed": {day(2): 10, **days(4, 7)}}, "1 days from 2026-03-03 on were never sealed"),
    ],
)
def test_no_boundary_is_better_than_a_wrong_one(changes, reason):
    with pytest.raises(OffloadError, match=reason) as refused:
        find_boundary(SPEC, replace(KNOWN, **changes))
    assert "was not changed" in str(refused.value)


STATE = ViewState("t", "uuid", "at", at(8), 2**62, "file:///metadata.json", at(14))


def accepting(found):
    """What the view remembers of a boundary that a person has accepted."""
    days = {each.isoformat(): rows for each, rows in found.unsealed.items()}
    missed, skipped = (tuple(map(str, ranges)) for ranges in (found.missed, found.skipped))
    return replace(STATE, accepted_days=days, accepted_missed=missed, accepted_skipped=skipped)


def test_a_day_that_a_person_has_accepted_is_cold_as_long_as_it_holds_as_many_rows():
    known = replace(KNOWN, sealed={day(2): 10, **days(4, 7)})
    accepted = find_boundary(SPEC, known, accept=True)
    assert (accepted.first_warm, accepted.unsealed) == (day(8), {day(3): 10})
    assert find_boundary(SPEC, known, accepting(accepted)) == accepted
    with pytest.raises(OffloadError, match="never sealed"):
        find_boundary(SPEC, known, STATE)
    for rows in (9, 11):
        changed = replace(known, cold=known.cold | {day(3): rows})
        with pytest.raises(
            OffloadError, match=r"have changed since: 2026-03-03 had 10 rows then\. .*--accept-unsealed"
        ):
            find_boundary(SPEC, changed, accepting(accepted))
        again = find_boundary(SPEC, changed, accepting(accepted), accept=True)
        assert find_boundary(SPEC, changed, accepting(again)).first_warm == day(8)
    with pytest.raises(DamagedTable):
        find_boundary(SPEC, replace(known, broken={day(2): "broken"}), accept=True)


def test_history_that_was_taken_over_is_cold_unless_it_has_rows_twice():
    """Day 1 is from before the first seal; nobody knows of a row that it lacks."""
    assert find_boundary(SPEC, KNOWN).unsealed == {}
    doubled = replace(KNOWN, doubled={day(1): 1234, day(3): 9})
    with pytest.raises(OffloadError, match=r"1 days from 2026-03-01 on .*more than once: 2026-03-01 has 1,234\. .*acc"):
        find_boundary(SPEC, doubled)
    accepted = find_boundary(SPEC, doubled, accept=True)
    assert accepted.unsealed == {day(1): 10}, "day 3 was sealed, once healed"
    assert find_boundary(SPEC, doubled, accepting(accepted)) == accepted
    less = replace(doubled, cold=doubled.cold | {day(1): 9})
    with pytest.raises(OffloadError, match="2026-03-01 had 10 rows then"):
        find_boundary(SPEC, less, accepting(accepted))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, "windows are still to come to 2026-03-08"),
        ({"warm": days(4, 8) | {day(6): 11}}, "2026-03-06 has 11 rows in ClickHouse, 10 in the cold table, and 10 are"),
        ({"sealed": days(2, 5)}, r"and 0 are sealed: .*`k2 heal t --day 2026-03-06 --dry-run`"),
        ({"broken": {day(6): "broken"}}, r"the seal of 2026-03-06 is broken: `k2 verify --sealed t`"),
        ({"sealed": days(2, 5), "skipped": (Window(at(5), at(6)),)}, r"left out on purpose: `k2 backfill t`"),
    ],
)
def test_it_says_why_no_later_day_is_cold(changes, reason):
    assert re.search(reason, find_boundary(SPEC, replace(KNOWN, **changes)).held_by)


def test_versions_of_rows_may_change_where_none_was_sealed():
    candles = replace(SPEC, key_columns=("at",), version_column="trades")
    known = replace(KNOWN, verdicts={day(6): Verdict.CHANGED_ROWS}, sealed={**days(2, 5), **days(7, 7)})
    assert find_boundary(candles, known).first_warm == day(6)
    with pytest.raises(DamagedTable):
        find_boundary(candles, replace(known, sealed=KNOWN.sealed))


def test_it_is_good_as_long_as_clickhouse_holds_all_days_from_the_boundary_on():
    end = valid_until(SPEC, day(8), Kept(), at(30))
    assert first_whole_day(end, SPEC.warm_retention) == day(8)
    assert first_whole_day(end + timedelta(microseconds=1), SPEC.warm_retention) == day(9)


def test_without_a_clock_it_is_good_for_a_day_from_now_on():
    """Who gives the source a TTL then has readers see an error, at most a day later, and not what it has taken."""
    renewed = timedelta(days=1)
    assert valid_until(SPEC, day(8), Kept(day(1)), at(30)) == at(30) + renewed
    assert valid_until(SPEC, day(8), Kept(day(1)), at(1)) == at(8) + SPEC.warm_retention - timedelta(hours=1)
    far = Kept(day(1), kept_for=timedelta(days=28))
    assert valid_until(SPEC, day(8), far, at(30)) == at(30) + renewed
    assert valid_until(SPEC, day(8), far, at(31) + timedelta(days=5)) == at(8) + timedelta(days=28, hours=-1), (
        "unless a TTL is nearer"
    )


def test_clickhouse_has_all_days_after_the_last_that_is_gone():
    gone = ((day(2), day(5)), (day(7), day(7)))
    assert Kept(None, gone).all_from(day(4)) == Kept(day(1), gone).all_from(day(9)) == day(8)
    assert Kept(day(3)).all_from(day(9)) == Kept(None).all_from(day(3)) == Kept(day(9)).all_from(day(3)) == day(3)
    behind = replace(KNOWN, whole_from=Kept(day(1)).all_from(day(9)), below=at(3), sealed=days(1, 1), cold=days(1, 2))
    behind = replace(behind, warm=days(1, 2))
    assert find_boundary(SPEC, behind).first_warm == day(2), "an outage: ClickHouse has what is to come"
    gone_until = Kept(day(1), ((day(1), day(4)),)).all_from(day(2))
    raised = replace(KNOWN, warm=days(5, 8), whole_from=gone_until, sealed=days(1, 7))
    assert find_boundary(SPEC, raised).first_warm == day(8), "rows would be kept for longer now"


def test_a_comment_says_what_the_view_shows():
    state = replace(STATE, accepted_days={"2026-03-03": 10}, accepted_missed=(str(MISSED),))
    state = replace(state, accepted_skipped=(str(MISSED),))
    assert ViewState.read(state.comment) == state
    assert ViewState.read(json.dumps(json.loads(state.comment) | {"of_a_newer_version": 1})) == state
    assert state.skipped_then() == [MISSED]
    before = json.loads(state.comment)
    del before["accepted_skipped"]  # as the version before wrote it
    assert ViewState.read(json.dumps(before)) == replace(state, accepted_skipped=())
    for skipped in ("mine", str(MISSED)[:-1], "[2026-03-01, 2026-03-02)"):
        with pytest.raises(ValueError, match=r"."):
            ViewState.read(replace(state, accepted_skipped=(skipped,)).comment)
    for text in ("", "mine", "1", "[]", "{}", state.comment.replace("snapshot_id", "other")):
        with pytest.raises(ValueError, match=r"."):
            ViewState.read(text)


MISSED = Window(at(2) + timedelta(hours=13), at(3) + timedelta(hours=9))


def test_what_the_cold_table_lacks_of_days_that_only_it_has_is_accepted_by_a_person_once():
    lacking = replace(KNOWN, missed=(Window(at(1) - timedelta(days=9000), at(1)), MISSED))
    with pytest.raises(OffloadError, match=r"lacks rows of .*k2 backfill .*--accept-unsealed"):
        find_boundary(SPEC, lacking)
    accepted = find_boundary(SPEC, lacking, accept=True)
    assert accepted.first_warm == day(8)
    assert find_boundary(SPEC, lacking, accepting(accepted)) == accepted
    more = replace(lacking, missed=(*lacking.missed, Window(MISSED.low, MISSED.low + timedelta(hours=1))))
    with pytest.raises(OffloadError, match=r"lacks rows of \[2026-03-02T13:00"):
        find_boundary(SPEC, more, accepting(accepted))


def leaving_out(*skipped, gaps=()):
    return replace(KNOWN, skipped=skipped, missed=(*skipped, *gaps))


WHOLE = Window(at(1) - timedelta(days=9000), at(2))
"""What was left out before the table began."""


@pytest.mark.parametrize(
    "left",
    [
        [Window(at(1) - timedelta(days=90), WHOLE.high)],
        [Window(WHOLE.low, at(1))],
        [Window(WHOLE.low, at(1) - timedelta(days=90)), Window(at(1), WHOLE.high)],
        [],
    ],
)
def test_a_view_goes_on_while_what_it_lacked_is_brought(left):
    accepted = find_boundary(SPEC, leaving_out(WHOLE), accept=True)
    less = find_boundary(SPEC, leaving_out(*left), accepting(accepted))
    assert (less.first_warm, less.missed, less.skipped) == (day(8), tuple(left), tuple(left))
    with pytest.raises(OffloadError, match="lacks rows of"):
        find_boundary(SPEC, leaving_out(WHOLE), accepting(less))  # a rollback has taken it away again


def test_what_else_is_missed_is_not_accepted_with_a_range_around_it():
    inside = Window(at(1), at(1) + timedelta(hours=1))
    accepted = accepting(find_boundary(SPEC, leaving_out(WHOLE), accept=True))
    for known in (leaving_out(WHOLE, gaps=[inside]), leaving_out(gaps=[inside]), leaving_out(Window(WHOLE.low, at(3)))):
        with pytest.raises(OffloadError, match="lacks rows of"):
            find_boundary(SPEC, known, accepted)
    few = accepting(find_boundary(SPEC, leaving_out(gaps=[WHOLE]), accept=True))
    with pytest.raises(OffloadError, match="lacks rows of"):
        find_boundary(SPEC, leaving_out(inside), few)  # few rows of the range were missed then, and all of this one now


@pytest.mark.parametrize("hours", [0, 12])
def test_what_is_missed_of_days_that_clickhouse_holds_is_read_there(hours):
    lacking = replace(KNOWN, missed=(Window(at(4) + timedelta(hours=hours), at(5)),))
    assert find_boundary(SPEC, lacking).first_warm == day(8)
