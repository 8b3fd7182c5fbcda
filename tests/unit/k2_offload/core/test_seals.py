from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from k2_offload.core.day_comparison import DayComparison, DayScope
from k2_offload.core.errors import DamagedTable, OffloadError, StaleWindow
from k2_offload.core.exactly_once import Snapshot
from k2_offload.core.heal import HealId
from k2_offload.core.plan import PlannedColumn
from k2_offload.core.seals import (
    Break,
    Seal,
    Step,
    check_acceptance,
    check_sealing,
    describe_break,
    find_break,
    is_over,
    may_be_sealed,
    newest,
)
from tests.support import table_spec

DAY = date(2026, 3, 4)
MIDNIGHT = datetime(2026, 3, 5, tzinfo=UTC)
COLUMNS = (PlannedColumn("at", "timestamptz"), PlannedColumn("price", "decimal(38, 18)"))
SEAL = Seal("t", "uuid", DAY, "at", 10, 2**64 - 1, COLUMNS, None, 1, MIDNIGHT)
SUCCESSOR = replace(SEAL, rows=11, before=SEAL.seal_id, snapshot_id=5, sealed_at=MIDNIGHT + timedelta(hours=1))


def step(number, state, heal=None):
    return Step(Snapshot(number, number - 1, number, None, 0, 0, heal=str(heal) if heal else None), state)


def test_a_seal_is_named_by_what_it_says_and_not_by_when():
    assert replace(SEAL, snapshot_id=2, sealed_at=MIDNIGHT + timedelta(days=1)).seal_id == SEAL.seal_id
    changes = {
        "table": "u", "table_uuid": "other", "day": date(2026, 3, 5), "rows": 9, "content_hash": 1,
        "columns": COLUMNS[:1], "before": "x", "accepted": True,
    }  # fmt: skip
    assert len({SEAL.seal_id, *(replace(SEAL, **{key: value}).seal_id for key, value in changes.items())}) == 9
    for seal in (SEAL, replace(SEAL, accepted=True)):
        assert Seal.read(seal.stored) == seal
    before = {key: value for key, value in SEAL.stored.items() if key != "accepted"}
    assert Seal.read(before) == SEAL, "as a version without that column has kept it"


@pytest.mark.parametrize(
    ("changes", "may"),
    [({}, True), ({"late_rows": 1}, False), ({"gone_rows": 1}, False), ({"gone_rows": 1, "whole": False}, True)],
)
def test_a_changed_day_is_accepted_unless_clickhouse_holds_another_one(changes, may):
    found = replace(DayComparison("t", DayScope(DAY, MIDNIGHT), 1, True, 10, 7, 10, cold_hash=7), **changes)
    with nullcontext() if may else pytest.raises(OffloadError, match=r"`k2 heal t --day 2026-03-04 --dry-run`"):
        check_acceptance(found)


def test_a_day_is_over_when_no_window_comes_to_it_and_its_source_had_time():
    late = timedelta(seconds=300 + 1800)
    assert is_over(table_spec(), DAY, MIDNIGHT + late)
    assert not is_over(table_spec(), DAY, MIDNIGHT + late - timedelta(microseconds=1))
    candles = table_spec(timestamp_column="window_end")
    assert not is_over(candles, DAY, MIDNIGHT + late)
    assert is_over(candles, DAY, MIDNIGHT + late + timedelta(days=1))


@pytest.mark.parametrize("changes", [{"whole": False}, {"late_rows": 1}, {"other_rows": 1}, {"problem": "x"}])
def test_only_a_day_that_is_equal_and_whole_is_sealed(changes):
    found = DayComparison("t", DayScope(DAY, MIDNIGHT), 1, True, 10, 7, 10, cold_hash=7)
    assert may_be_sealed(found)
    assert not may_be_sealed(replace(found, **changes))
    assert not may_be_sealed(replace(found, warm_rows=0, cold_rows=0))


def test_what_is_no_part_of_the_table_any_more_is_not_sealed():
    check_sealing(SEAL, "uuid", {1, 2}, [])
    for uuid, ancestors in (("uuid", {2}), ("other", {1, 2}), (None, ())):
        with pytest.raises(StaleWindow, match="Nothing was sealed"):
            check_sealing(SEAL, uuid, ancestors, [])


def test_a_seal_follows_the_last_one_of_its_day_in_the_lake():
    others = [replace(SEAL, day=date(2026, 3, 5)), replace(SEAL, table_uuid="other"), replace(SEAL, table="u")]
    for seal, in_lake in ((SEAL, []), (SUCCESSOR, [SEAL]), (SEAL, [SEAL]), (SEAL, [SEAL, SUCCESSOR])):
        check_sealing(seal, "uuid", {1, 5}, [*others, *in_lake])
    for seal in (replace(SEAL, rows=12), replace(SUCCESSOR, rows=12)):
        with pytest.raises(StaleWindow, match="that the ledger has lost meanwhile"):
            check_sealing(seal, "uuid", {1, 5}, [SEAL, SUCCESSOR])


def test_the_seals_of_a_day_are_one_chain():
    again = replace(SEAL, snapshot_id=3, sealed_at=MIDNIGHT + timedelta(hours=2))
    assert newest("t", DAY, [SEAL, again]) == SEAL
    assert newest("t", DAY, [SUCCESSOR, again, SEAL]) == SUCCESSOR
    fork = replace(SUCCESSOR, rows=12)
    other = replace(SEAL, rows=12)
    for broken in ([SUCCESSOR], [SEAL, SUCCESSOR, fork], [SEAL, other], [SEAL, SUCCESSOR, other]):
        with pytest.raises(DamagedTable, match="not one chain"):
            newest("t", DAY, broken)


HEAL, OTHER_DAY = HealId("uuid", DAY, 1), HealId("uuid", date(2026, 3, 5), 1)
SAME, CHANGED, HEALED = SEAL.content, (10, 5), (11, 6)


@pytest.mark.parametrize(
    ("steps", "found"),
    [
        ([(1, SAME, None), (2, HEALED, HEAL)], None),
        ([(1, SAME, None), (2, HEALED, HEAL), (3, CHANGED, HEAL)], None),
        ([(1, SAME, None), (2, CHANGED, None), (3, HEALED, HEAL)], Break(2, 1)),
        ([(1, SAME, None), (2, CHANGED, OTHER_DAY)], Break(2, 1)),
        ([(1, SAME, None), (2, HEALED, HEAL), (3, CHANGED, None)], Break(3, 2)),
        ([(1, SAME, None), (2, CHANGED, None), (3, SAME, HEAL), (4, HEALED, HEAL)], None),
        ([(1, SAME, None), (2, None, None)], Break(2, 1)),
        ([(1, None, None), (2, None, None)], Break(1, None)),
        ([(7, CHANGED, None), (8, CHANGED, HEAL)], Break(7, None)),
    ],
)
def test_only_heals_of_the_day_explain_a_change(steps, found):
    contents = {number: content for number, content, _ in steps}
    assert find_break(SEAL, [step(number, number, heal) for number, _, heal in steps], contents.get) == found


def test_a_snapshot_that_left_the_files_alone_is_not_read():
    read = []

    def content_of(number):
        read.append(number)
        return SAME if number == 1 else CHANGED

    steps = [step(1, "a"), step(2, "a"), step(3, "b"), step(4, "b")]
    assert find_break(SEAL, steps, content_of) == Break(3, 2)
    assert read == [1, 3]


def test_a_broken_seal_names_table_day_and_where():
    def said(broken, rolled_back_to=None):
        return describe_break(SEAL, broken, rolled_back_to=rolled_back_to, problem=None)

    assert said(Break(3, 2)).startswith("t 2026-03-04: its seal is broken")
    assert "the first snapshot that differs is 3." in said(Break(3, 2))
    assert "no snapshot changed it" in said(Break(1, None))
    assert "between the sealed snapshot 1, which has expired, and 9" in said(Break(9, None))
    assert "rolled back below the sealed snapshot 1, to 0" in said(Break(0, None), rolled_back_to=0)


def test_a_table_of_the_name_of_the_seals_is_refused():
    for name in ("k2_seals", "K2_SEALS"):
        with pytest.raises(ValueError, match="holds the seals of its cold tables"):
            table_spec(target=f"cold.{name}")
